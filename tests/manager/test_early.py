"""Reading ahead: work begins with the first sign, and counts only if it still fits."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunnel.cli.up import Served
from tunnel.config import watch
from tunnel.config.desired import desired_state
from tunnel.config.reload import Attempt, Source
from tunnel.config.store import parse_config
from tunnel.constants import SECOND
from tunnel.state.model import PeerState

from .rig import End, Json, eventually, new_key


def guest(name: str, **fields: object) -> Json:
    return {"name": name, "publicKey": new_key(), **fields}


class Spy:
    """How often the content was understood, and read ahead."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.parsed = 0
        self.prepared = 0
        real_parse, real_prepare = parse_config, Source.prepare
        self.after: Callable[[], None] = lambda: None

        def parse(*args: object, **values: object) -> object:
            self.parsed += 1
            return real_parse(*args, **values)  # type: ignore[arg-type]

        def prepare(source: Source, seen: bytes | None = None) -> bool:
            understood = real_prepare(source, seen)
            self.after()
            self.prepared += 1
            return understood

        patch.setattr("tunnel.config.reload.parse_config", parse)
        patch.setattr(Source, "prepare", prepare)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flurry is over when the test says so."""
    for name in ("SETTLE", "SETTLE_MOST", "POLL"):
        monkeypatch.setattr(watch, name, 3600 * SECOND)


def settle(one: End) -> None:
    """The flurry is over, and what was read then has been taken over."""

    def over(served: Served) -> None:
        follower = served.manager.file._follower
        assert follower is not None
        assert follower._watcher is not None
        assert follower._watcher._timer is not None
        follower._watcher._timer.run()
        served.manager.background(done.set, lambda _: None)

    done = threading.Event()
    one.call(over)
    _wait(done)
    one.call(lambda _: None)


def names(attempt: Attempt) -> list[str]:
    assert attempt.desired is not None, attempt.error
    return [peer.name for peer in attempt.desired.peers.values()]


def facts(*peers: Json) -> str:
    own = base64.b64encode(bytes(range(32))).decode()
    tunnel = {"type": "loopback", "name": "early0"}
    whole = {"mode": "server", "privateKey": own, "tunnel": tunnel, "peers": peers}
    return json.dumps(whole)


# --- the source


def test_what_was_prepared_is_taken_without_a_second_look(
    tmp_path: Path, spy: Spy
) -> None:
    path = tmp_path / "config.json"
    path.write_text(facts(guest("a")))
    source = Source(path)
    assert source.prepare()
    assert not source.prepare()  # the same content once more
    assert names(source.settled()) == ["a"]
    assert spy.parsed == 1
    assert names(source.settled()) == ["a"]  # taken is taken
    assert spy.parsed == 2


def test_other_content_is_read_again(tmp_path: Path, spy: Spy) -> None:
    path = tmp_path / "config.json"
    source = Source(path)
    path.write_text(facts(guest("a")))
    assert source.prepare()
    stat = path.stat()
    path.write_text(facts(guest("b")))  # as long, and as old
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert names(source.settled()) == ["b"]
    assert spy.parsed == 2


def test_another_file_that_changed_counts_as_well(tmp_path: Path) -> None:
    path, secret = tmp_path / "config.json", tmp_path / "psk"
    path.write_text(facts(guest("a", presharedKey={"file": "psk"})))
    keys = [new_key(), new_key()]
    secret.write_text(keys[0])
    source = Source(path)
    assert source.prepare()
    secret.write_text(keys[1])
    desired = source.settled().desired
    assert desired is not None
    (peer,) = desired.peers.values()
    assert peer.preshared_key is not None
    assert base64.b64encode(peer.preshared_key.reveal()).decode() == keys[1]


def test_what_is_in_force_already_is_not_prepared(tmp_path: Path, spy: Spy) -> None:
    path = tmp_path / "config.json"
    path.write_text(facts(guest("a")))
    source = Source(path)
    digest = source.attempt().digest
    assert not source.prepare(digest)
    assert source.settled(digest).seen
    assert spy.parsed == 1


def test_wrong_content_is_not_kept(tmp_path: Path, spy: Spy) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    source = Source(path)
    assert source.prepare()
    assert source.settled().error is not None
    assert spy.parsed == 2


def test_an_explicit_reading_takes_nothing_that_was_prepared(
    tmp_path: Path, spy: Spy
) -> None:
    """Host names are resolved anew, for one."""
    path = tmp_path / "config.json"
    path.write_text(facts(guest("a")))
    source = Source(path)
    source.prepare()
    assert names(source.attempt()) == ["a"]
    assert names(source.settled()) == ["a"]
    assert spy.parsed == 3


def test_reading_ahead_creates_no_file(tmp_path: Path) -> None:
    path, secret = tmp_path / "config.json", tmp_path / "psk"
    path.write_text(facts(guest("a", presharedKey={"file": "psk", "create": True})))
    source = Source(path)
    assert source.prepare()
    assert not secret.exists()
    desired = source.settled().desired
    assert desired is not None
    (peer,) = desired.peers.values()
    assert peer.preshared_key is not None
    shown = base64.b64encode(peer.preshared_key.reveal()).decode()
    assert secret.read_text().strip() == shown


def test_peers_that_stay_are_the_same_objects() -> None:
    listed = [guest(f"p{n}", allowedIPs=[f"10.0.0.{n}/32"]) for n in range(8)]
    listed[1]["presharedKey"] = new_key()
    running = desired_state(parse_config(facts(*listed))).peers
    edits: list[Json] = [
        {"name": "other"},
        {"presharedKey": new_key()},
        {"allowedIPs": ["10.1.0.0/16"]},
        {"persistentKeepalive": 7},
        {"enabled": False},
        {"endpoint": "192.0.2.1:1"},
        {"publicKey": new_key()},
    ]
    changed = [a | b for a, b in zip(listed, [*edits, {}], strict=True)]
    plain = desired_state(parse_config(facts(*changed)))
    shared = desired_state(parse_config(facts(*changed)), known=running)
    assert shared == plain
    assert list(shared.peers) == list(plain.peers)

    def kept(peer: PeerState) -> bool:
        return running.get(peer.public_key) is peer

    assert [kept(p) for p in shared.peers.values()] == [False] * 7 + [True]


# --- the tunnel


def _wait(event: threading.Event) -> None:
    assert event.wait(60)


@pytest.mark.usefixtures("patient")
def test_content_that_changes_meanwhile_is_prepared_again_and_never_applied(
    one: End, spy: Spy
) -> None:
    one.write(one.with_peers(guest("stale")))
    eventually(lambda: spy.prepared)
    one.write(one.with_peers(guest("fresh")))
    settle(one)
    (event,) = one.events("file")
    assert [peer["name"] for peer in event.peers] == ["fresh"]
    assert one.peer_names() == ["far", "fresh"]
    assert one.generation() == 2


@pytest.mark.usefixtures("patient")
def test_content_that_stays_is_understood_once(one: End, spy: Spy) -> None:
    one.write(one.with_peers(guest("a")))
    eventually(lambda: spy.prepared)
    assert one.peer_names() == ["far"]  # not before the flurry is over
    settle(one)
    assert one.peer_names() == ["far", "a"]
    assert spy.parsed == 1


@pytest.mark.usefixtures("patient")
def test_a_change_that_is_taken_back_meanwhile_is_none(one: End, spy: Spy) -> None:
    one.write(one.with_peers(guest("a")))
    eventually(lambda: spy.prepared)
    one.write(one.facts)
    settle(one)
    assert one.events() == []
    assert one.generation() == 1


@pytest.mark.usefixtures("patient")
def test_a_file_that_is_being_written_is_not_read_yet(one: End, spy: Spy) -> None:
    text = json.dumps(one.with_peers(guest("a")))
    with one.path.open("w") as file:
        file.write(text[:100])
        file.flush()
        time.sleep(0.2)
        assert spy.prepared == 0
        file.write(text[100:])
    eventually(lambda: spy.prepared)
    settle(one)
    assert one.peer_names() == ["far", "a"]
    assert spy.parsed == 1


def test_a_preparation_that_takes_longer_than_the_flurry(one: End, spy: Spy) -> None:
    """The content changes while it is still going on: that version is skipped."""
    go = threading.Event()
    spy.after = lambda: _wait(go)
    one.write(one.with_peers(guest("stale")))
    eventually(lambda: spy.parsed == 1)
    time.sleep(0.3)  # the flurry is over
    assert one.peer_names() == ["far"]
    one.write(one.with_peers(guest("fresh")))
    go.set()
    eventually(lambda: "fresh" in one.peer_names())
    assert [[p["name"] for p in e.peers] for e in one.events("file")] == [["fresh"]]


@pytest.mark.usefixtures("patient")
def test_a_storm_of_versions_is_not_prepared_again_and_again(
    one: End, spy: Spy
) -> None:
    for number in range(12):
        one.write(one.with_peers(guest(f"v{number}")))
        time.sleep(0.01)
    settle(one)
    assert "v11" in one.peer_names()
    assert len(one.events("file")) == 1
    assert spy.parsed <= 3  # two early ones, and the last
