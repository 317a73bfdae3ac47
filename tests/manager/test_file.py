"""The file door: whatever is done to the file, the tunnel is before or after it."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

from tunnel.config.reload import Source
from tunnel.state.model import DeviceState

from .rig import End, Traffic, eventually, new_key


def guest(name: str = "guest", **fields: object) -> dict[str, object]:
    return {"name": name, "publicKey": new_key(), **fields}


def test_a_renamed_file_is_taken_over_and_the_session_stays(
    pair: tuple[End, End],
) -> None:
    one, two = pair
    with Traffic(one, two) as traffic:
        before = one.handshakes()
        one.write(one.with_peers(guest(allowedIPs=["10.9.0.0/16"])))
        eventually(lambda: "guest" in one.peer_names())
        one.write(one.facts)
        eventually(lambda: "guest" not in one.peer_names())
        assert one.handshakes() == before
        time.sleep(0.2)
    traffic.check()
    added, removed = one.events("file")
    assert added.success
    assert added.changes == ["peers"]
    assert dict(added.counts) == {"add": 1, "update": 0, "remove": 0}
    assert added.peers[0]["session"] == "new handshake"
    assert removed.peers[0]["action"] == "remove"


def test_a_file_written_in_place_is_taken_over(one: End) -> None:
    one.path.write_text(json.dumps(one.with_peers(guest())))
    eventually(lambda: "guest" in one.peer_names())


def test_a_link_that_is_switched_is_noticed(one: End, tmp_path: Path) -> None:
    """As a mounted Kubernetes ConfigMap does it: a link in a link."""
    for version, facts in (("v1", one.facts), ("v2", one.with_peers(guest()))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.json").write_text(json.dumps(facts))
    (tmp_path / "data").symlink_to("v1")
    one.path.unlink()
    one.path.symlink_to("data/config.json")
    eventually(lambda: one.events("file"))  # a link now, with the same meaning
    assert one.generation() == 1
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").rename(tmp_path / "data")
    eventually(lambda: "guest" in one.peer_names(), 8)


def test_f19_the_same_content_again_is_no_change(pair: tuple[End, End]) -> None:
    one, two = pair
    with Traffic(one, two) as traffic:
        handshakes, generation = one.handshakes(), one.generation()
        sent = one.call(lambda s: s.engine.device.status().peers[0].tx_bytes)
        for _ in range(5):
            one.write(one.facts)
            one.path.write_bytes(one.path.read_bytes())
            time.sleep(0.15)
        assert one.events() == []  # the same content is not even read as JSON
        one.write(json.dumps(one.facts))  # other spaces, same meaning
        eventually(lambda: one.events("file"))
        (event,) = one.events()
        assert event.success
        assert event.changes == []
        assert one.generation() == generation
        assert one.handshakes() == handshakes
        assert one.call(lambda s: s.engine.device.status().peers[0].tx_bytes) > sent
    traffic.check()


def test_a_bad_file_keeps_what_runs_and_is_tried_again_when_it_changes(
    one: End,
) -> None:
    before = one.call(lambda s: s.engine.device.observe())
    one.write(one.with_peers(guest(allowedIPs=["10.0.0.2/32"])))
    eventually(lambda: one.events("file"))
    (event,) = one.events("file")
    assert not event.success
    assert "10.0.0.2/32" in event.error
    assert one.call(lambda s: s.engine.device.observe()) is before
    time.sleep(0.3)
    assert len(one.events()) == 1
    one.write(one.with_peers(guest()))
    eventually(lambda: "guest" in one.peer_names())


def test_a_file_that_vanishes_keeps_what_runs(one: End) -> None:
    one.path.unlink()
    eventually(lambda: one.events("file"))
    assert "cannot read it" in one.events("file")[0].error
    one.write(one.with_peers(guest()))
    eventually(lambda: "guest" in one.peer_names())


def test_what_needs_a_restart_is_refused_untouched(one: End) -> None:
    facts = one.with_peers(guest())
    facts["tunnel"] = one.facts["tunnel"] | {"name": "other0"}
    one.write(facts)
    eventually(lambda: one.events("file"))
    assert "tunnel.name cannot change" in one.events("file")[0].error
    assert one.peer_names() == ["far"]


def test_other_files_are_followed_too(one: End, tmp_path: Path) -> None:
    more = tmp_path / "more.json"
    more.write_text("[]")
    one.write(one.facts | {"peersFile": "more.json"})
    eventually(lambda: one.events("file"))
    more.write_text(json.dumps([guest("from-peers-file")]))
    eventually(lambda: "from-peers-file" in one.peer_names())
    secret = tmp_path / "secret"
    secret.write_text(new_key())
    far = one.facts["peers"][0] | {"presharedKey": {"file": "secret"}}
    one.write(one.facts | {"peers": [far]})
    eventually(lambda: one.peer_names() == ["far"])
    generation = one.generation()
    secret.write_text(new_key())
    eventually(lambda: one.generation() == generation + 1)
    assert one.events("file")[-1].peers[0]["session"] == "kept until next handshake"


def test_settings_reach_who_asked_for_them(one: End) -> None:
    seen: list[object] = []
    one.call(lambda s: s.manager.settings.on_change("management.acl", seen.append))
    one.call(lambda s: s.manager.settings.on_change("log_level", seen.append))
    management = {"management": {"acl": ["192.0.2.0/24"]}}
    one.write(one.facts | management | {"logging": {"level": "error"}})
    eventually(lambda: len(seen) == 2)
    assert "error" in seen
    acl = ((bytes([192, 0, 2, 0]), 24),)
    assert acl in seen
    assert one.call(lambda s: s.manager.settings.get("management.acl")) == acl
    assert one.call(lambda s: s.manager.settings.get("log_level")) == "error"
    assert set(one.events("file")[0].changes) == {"log_level", "management_acl"}


def test_f14_a_file_cut_off_anywhere_changes_nothing(
    pair: tuple[End, End], tmp_path: Path
) -> None:
    """200 peers, truncated at every byte: what parses is the whole file only, and
    the tunnel carries its traffic meanwhile."""
    one, two = pair
    peers = [guest(f"p{n}", allowedIPs=[f"10.7.{n}.0/24"]) for n in range(200)]
    raw = json.dumps(one.with_peers(*peers)).encode()
    copy = tmp_path / "cut.json"
    source, refused = Source(copy), 0
    before = one.call(lambda s: s.engine.device.observe())
    with Traffic(one, two, 0.002) as traffic:
        for size in range(len(raw)):
            copy.write_bytes(raw[:size])
            refused += source.attempt().error is not None
            if size % 500 == 0:  # through the watcher as well
                one.path.write_bytes(raw[:size])
        assert refused == len(raw)
        eventually(lambda: [e for e in one.events("file") if not e.success])
        time.sleep(0.2)
        assert one.call(lambda s: s.engine.device.observe()) is before
        one.path.write_bytes(raw)
        eventually(lambda: len(one.peer_names()) == 201)
    traffic.check()
    events = one.events("file")
    assert [e.success for e in events] == [False] * (len(events) - 1) + [True]


def test_f15_a_file_rewritten_in_place_a_hundred_times_a_second(
    pair: tuple[End, End], seed: int
) -> None:
    """No half of any version is ever in force; the last one is, in less than 1 s."""
    one, two = pair
    versions = [
        one.with_peers(*(guest(f"v{v}n{n}") for n in range(20))) for v in range(10)
    ]
    whole = {frozenset(p["name"] for p in v["peers"]) for v in versions}
    whole.add(frozenset({"far"}))
    seen: set[frozenset[str]] = set()
    stop = threading.Event()
    device = one.served.engine.device

    def look() -> None:
        while not stop.wait(0.002):
            state: DeviceState = device.observe()  # immutable, replaced as a whole
            seen.add(frozenset(p.name for p in state.peers.values()))

    watcher = threading.Thread(target=look)
    watcher.start()
    rng = random.Random(seed)
    try:
        with Traffic(one, two) as traffic:
            for _ in range(200):
                text = json.dumps(rng.choice(versions), indent=1)
                with one.path.open("r+") as file:
                    file.truncate(0)
                    middle = rng.randrange(len(text))
                    file.write(text[:middle])
                    file.flush()
                    time.sleep(0.004)
                    file.write(text[middle:])
                time.sleep(0.006)
            one.path.write_text(json.dumps(versions[7]))
            last = sorted(p["name"] for p in versions[7]["peers"])
            eventually(lambda: sorted(one.peer_names()) == last, 1)
    finally:
        stop.set()
        watcher.join()
    traffic.check()
    assert seen <= whole
    assert len(seen) > 2
    reloads = [e for e in one.events("file") if e.success]
    assert 2 <= len(reloads) < 100
