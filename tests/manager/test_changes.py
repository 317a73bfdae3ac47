"""The other doors: control socket, UAPI, Python. One core, one history."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunnel.config.backups import backups
from tunnel.config.desired import desired_state
from tunnel.config.store import load_config
from tunnel.errors import NeedsRestart, PlanStale, TunnelError
from tunnel.manager import PeerEdit
from tunnel.prepared import Prepared

from .rig import End, Traffic, eventually, new_key
from .test_file import guest


def written(one: End, name: str, facts: dict[str, Any]) -> str:
    path = one.path.with_name(name)
    path.write_text(json.dumps(facts))
    return str(path)


# --- whole configurations


def test_plan_says_and_apply_does(one: End) -> None:
    file = written(one, "next.json", one.with_peers(guest(allowedIPs=["10.8.0.1"])))
    plan = one.control("plan", file=file, diff=True)
    assert plan["current_peers"] == 1
    assert plan["target_peers"] == 2
    assert plan["total_changes"] == 1
    assert plan["diffs"][0]["action"] == "add"
    assert plan["diffs"][0]["new_state"]["allowed_ips"] == ["10.8.0.1/32"]
    assert plan["summary"]["change"] == "+1 peer(s)"
    assert "+allowedIP 10.8.0.1/32" in plan["diff"].splitlines()
    assert one.peer_names() == ["far"]
    answer = one.control("apply", file=file, expect=plan["hash"])
    assert answer["event"]["success"]
    assert one.peer_names() == ["far", "guest"]
    assert one.control("plan", file=file)["diffs"] == []
    with pytest.raises(TunnelError, match="no longer the one"):
        one.control("apply", expect=plan["hash"])
    assert one.peer_names() == ["far", "guest"]


def test_a_text_is_as_good_as_a_file_and_its_errors_name_it(one: End) -> None:
    text = json.dumps(one.with_peers(guest()))
    one.control("apply", text=text, base="/", source="-")
    assert "guest" in one.peer_names()
    with pytest.raises(TunnelError, match=r"here\.json: 1 problem"):
        one.control("apply", text="{", base="/", source="here.json")


def test_without_prune_running_peers_stay(one: End) -> None:
    file = written(one, "more.json", one.facts | {"peers": [guest("other")]})
    one.control("apply", file=file, prune=False)
    assert sorted(one.peer_names()) == ["far", "other"]
    one.control("apply", file=file)
    assert one.peer_names() == ["other"]


def test_what_needs_a_restart_has_exit_code_4(one: End) -> None:
    tunnel = one.facts["tunnel"] | {"type": "tun"}
    file = written(one, "next.json", one.facts | {"tunnel": tunnel})
    assert one.control("plan", file=file)["needs_restart"]
    with pytest.raises(TunnelError, match=r"tunnel\.type cannot change") as caught:
        one.control("apply", file=file)
    assert caught.value.exit_code == 4
    prepared = Prepared(desired_state(load_config(file)))
    with pytest.raises(NeedsRestart):
        one.call(lambda s: s.manager.apply(prepared, source="python"))
    assert one.events()[-1].source == "python"
    assert not one.events()[-1].success


def test_unconfirmed_it_is_taken_back(pair: tuple[End, End]) -> None:
    one, two = pair
    before = one.call(lambda s: s.engine.device.observe())
    file = written(one, "next.json", one.with_peers(guest()) | {"fwmark": 0})
    with Traffic(one, two) as traffic:
        answer = one.control("apply", file=file, confirm=60)
        assert 30 < answer["pending_confirmation"] <= 60
        assert "guest" in one.peer_names()
        with pytest.raises(TunnelError, match="waits to be confirmed"):
            one.control("apply", file=file)
        one.uapi(f"set=1\npublic_key={os.urandom(32).hex()}\n\n")  # stays
        one.expire(one.trial_timer())
        assert "guest" not in one.peer_names()
    traffic.check()
    after = one.call(lambda s: s.engine.device.observe())
    assert len(after.peers) == 2
    assert {k: after.peers[k] for k in before.peers} == dict(before.peers)
    assert one.events()[-1].source == "unconfirmed"
    assert one.control("state")["device"]["pending_confirmation"] is None


def test_its_time_passes_by_itself(one: End) -> None:
    file = written(one, "next.json", one.with_peers(guest()))
    one.control("apply", file=file, confirm=0.1)
    eventually(lambda: one.events("unconfirmed"))
    assert one.peer_names() == ["far"]


def test_confirmed_it_stays_and_is_saved(one: End) -> None:
    facts = one.with_peers(guest())
    file = written(one, "next.json", facts)
    one.control("apply", file=file, confirm=60, save=True)
    timer = one.trial_timer()
    assert json.loads(one.path.read_text()) == one.facts
    one.control("confirm")
    assert json.loads(one.path.read_text()) == facts
    one.expire(timer)
    assert "guest" in one.peer_names()
    with pytest.raises(TunnelError, match="no change waits"):
        one.control("rollback")


def test_rollback_returns_a_prefix_to_its_owner(one: End) -> None:
    far = one.facts["peers"][0] | {"allowedIPs": []}
    taker = guest(allowedIPs=["10.0.0.2/32"])
    file = written(one, "next.json", one.facts | {"peers": [far, taker]})
    before = one.call(lambda s: s.engine.device.observe())
    one.control("apply", file=file, confirm=60)
    one.control("rollback")
    assert one.call(lambda s: s.engine.device.observe()) == before


def test_a_stale_plan_is_refused(one: End) -> None:
    config = load_config(written(one, "next.json", one.with_peers(guest())))
    plan = one.call(lambda s: s.manager.plan_for(desired_state(config)))
    one.uapi(f"set=1\npublic_key={os.urandom(32).hex()}\n\n")
    with pytest.raises(PlanStale):
        one.call(lambda s: s.manager.apply_plan(plan, source="python"))
    assert "guest" not in one.peer_names()


def test_the_uapi_is_part_of_the_history(one: End) -> None:
    key = os.urandom(32).hex()
    one.uapi(f"set=1\npublic_key={key}\n\n")
    one.uapi(f"set=1\npublic_key={key}\n\n")  # changes nothing
    (event,) = one.events("uapi")
    assert event.changes == ["peers"]
    told = one.control("history")
    assert told["succeeded"] == 1
    assert told["events"][0]["source"] == "uapi"


def test_reload_reads_the_file_even_if_nothing_changed(one: End) -> None:
    one.uapi(f"set=1\npublic_key={os.urandom(32).hex()}\n\n")
    assert one.control("reload")["counts"]["remove"] == 1
    assert one.peer_names() == ["far"]
    one.path.write_text("{")
    with pytest.raises(TunnelError, match="1 problem"):
        one.control("reload")


def test_state_tells_no_secret(one: End) -> None:
    secret = new_key()
    far = one.facts["peers"][0] | {"presharedKey": secret}
    one.write(one.facts | {"peers": [far]})
    eventually(lambda: one.events("file"))
    plan = one.control("plan", text=json.dumps(one.facts), source="x", diff=True)
    texts = [json.dumps(told) for told in (one.control("state"), plan)]
    assert all("far" in text for text in texts)
    assert "presharedKey" in texts[1]
    for word in (secret, one.facts["privateKey"]):
        assert not any(word in text for text in texts)
        assert word not in repr(one.events())


# --- single peers


EDITS: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
    ({"action": "set", "fields": {"name": "near"}}, lambda p: p.name == "near"),
    ({"action": "set", "fields": {"persistentKeepalive": "7s"}},
     lambda p: p.keepalive == 7),
    ({"action": "set", "fields": {"endpoint": "192.0.2.1:9"}},
     lambda p: p.endpoint == (bytes([192, 0, 2, 1]), 9, 0)),
    ({"action": "set", "fields": {"presharedKey": new_key()}},
     lambda p: p.preshared_key is not None),
    ({"action": "set", "fields": {"allowedIPs": ["10.6.0.0/16"]}},
     lambda p: p.allowed_ips == ((bytes([10, 6, 0, 0]), 16),)),
    ({"action": "disable"}, lambda p: not p.enabled),
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: json.dumps(e[0])[:60])
def test_an_edit_changes_one_peer_and_the_file_says_the_same(
    one: End, edit: tuple[dict[str, Any], Callable[[Any], bool]]
) -> None:
    wanted, right = edit
    key = one.facts["peers"][0]["publicKey"]
    answer = one.control("edit", edits=[wanted | {"peer": key}], save=True)
    assert answer["saved"]
    (peer,) = one.call(lambda s: [*s.engine.device.observe().peers.values()])
    assert right(peer)
    assert one.control("plan")["diffs"] == []
    assert load_config(one.path).facts.peers[0].name == peer.name
    time.sleep(0.3)
    assert one.events("file") == []  # our own save is no news
    (backup,) = backups(one.path)
    assert json.loads(backup.path.read_text()) == one.facts


def test_edits_come_in_order_and_all_or_none(one: End) -> None:
    new = {"action": "add", "peer": "new", "fields": {"publicKey": new_key()}}
    gone = {"action": "remove", "peer": "new"}
    far = {"action": "disable", "peer": "far"}
    assert one.control("edit", edits=[new, gone, far])["total_changes"] == 1
    with pytest.raises(TunnelError, match="there is no peer 'nobody'"):
        one.control("edit", edits=[new, {"action": "enable", "peer": "nobody"}])
    assert one.peer_names() == ["far"]
    assert one.control("edit", edits=[new], dry_run=True)["event"] is None
    assert one.peer_names() == ["far"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"publicKey": "x"}, "not a 32-byte key"),
        ({}, "publicKey: missing"),
        ({"publicKey": new_key(), "allowedIPs": ["10.0.0.2/32"]}, "would belong to"),
        ({"publicKey": new_key(), "mtu": 3}, "unknown key"),
        ({"publicKey": new_key(), "name": "far"}, "has the name 'far' already"),
    ],
)
def test_a_wrong_edit_is_refused_with_its_reason(
    one: End, fields: dict[str, Any], message: str
) -> None:
    before = one.path.read_bytes()
    edit = {"action": "add", "peer": "new", "fields": fields}
    with pytest.raises(TunnelError, match=message):
        one.control("edit", edits=[edit], save=True)
    assert one.peer_names() == ["far"]
    assert one.path.read_bytes() == before
    assert backups(one.path) == []
    one.control("edit", edits=[{"action": "disable", "peer": "far"}], save=True)


def test_a_peer_that_was_not_saved_can_be_saved_later(one: End) -> None:
    key = new_key()
    fields = {"publicKey": key, "allowedIPs": ["10.8.0.1/32"]}
    one.control("edit", edits=[{"action": "add", "peer": "new", "fields": fields}])
    assert one.peer_names() == ["far", "new"]
    assert json.loads(one.path.read_text()) == one.facts
    one.control("edit", edits=[{"action": "disable", "peer": "new"}], save=True)
    entry = {"name": "new", **fields, "enabled": False}
    assert json.loads(one.path.read_text())["peers"][1] == entry


def test_new_peers_go_to_the_peers_file(one: End) -> None:
    more = one.path.with_name("more.json")
    one.write(one.facts | {"peersFile": {"file": "more.json", "create": True}})
    eventually(lambda: one.events("file"))
    main = one.path.read_bytes()
    edit = {"action": "add", "peer": "new", "fields": {"publicKey": new_key()}}
    one.control("edit", edits=[edit], save=True)
    assert one.path.read_bytes() == main
    assert [p["name"] for p in json.loads(more.read_text())] == ["new"]
    one.control("edit", edits=[{"action": "remove", "peer": "new"}], save=True)
    assert json.loads(more.read_text()) == []
    assert one.peer_names() == ["far"]


def test_the_python_interface_in_the_control_thread(one: End) -> None:
    edit = PeerEdit("add", "new", {"publicKey": new_key()})
    for save in (False, True):
        plan, event = one.call(
            lambda s, save=save: s.manager.edit_peers(  # type: ignore[misc]
                s.manager.prepare_edits([edit], save=save),
                source="python",
                dry_run=not save,
            )
        )
        assert len(plan.actions) == 1
        assert (event is not None) == save
    assert [p["name"] for p in json.loads(one.path.read_text())["peers"]] == [
        "far",
        "new",
    ]


def test_a_save_that_fails_leaves_tunnel_and_file_as_they_were(
    pair: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    before, state = one.path.read_bytes(), one.call(lambda s: s.engine.device.observe())
    edit = {"action": "add", "peer": "new", "fields": {"publicKey": new_key()}}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Traffic(one, two) as traffic:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(TunnelError, match="No space left"):
                one.control("edit", edits=[edit], save=True)
        with monkeypatch.context() as patch:
            rename = Path.rename

            def refuse(path: Path, target: Path) -> Path:
                if Path(target) == one.path:
                    full()
                return rename(path, target)

            patch.setattr(Path, "rename", refuse)
            with pytest.raises(TunnelError, match="No space left"):
                one.control("edit", edits=[edit], save=True)
        time.sleep(0.4)
    traffic.check()
    assert one.path.read_bytes() == before
    assert one.call(lambda s: s.engine.device.observe()) == state
    assert [p.name for p in one.path.parent.glob(".*")] == []
    assert backups(one.path) == []
