"""The end of a trial: its save keeps nobody waiting, and a newer file is not lost."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunnel.cli.up import Served
from tunnel.config.save import Saving
from tunnel.errors import TunnelError

from .rig import End, Json, eventually, new_key
from .test_changes import written
from .test_file import guest


def begin(one: End, facts: Json) -> None:
    """Applies it on trial, to be saved when it is confirmed."""
    file = written(one, "next.json", facts)
    answer = one.control("apply", file=file, confirm=60, save=True)
    assert answer["pending_confirmation"] > 0
    assert not answer["saved"]


def pending(one: End) -> bool:
    return one.control("state")["device"]["pending_confirmation"] is not None


def save_by_hand(one: End, facts: Json) -> None:
    """As the operator does it, and waits until it is in force."""
    count = len(one.events("file"))
    one.write(facts)
    eventually(lambda: len(one.events("file")) > count)
    assert one.events("file")[-1].success


def test_who_was_left_alone_stays_when_it_is_confirmed(one: End) -> None:
    """What is saved then is in force: it is no change of the file."""
    edit = {"action": "add", "peer": "unsaved", "fields": {"publicKey": new_key()}}
    one.control("edit", edits=[edit])
    file = written(one, "next.json", one.with_peers(guest()))
    one.control("apply", file=file, confirm=60, save=True, prune=False)
    one.control("confirm")
    time.sleep(0.5)
    assert not one.events("file")
    assert sorted(one.peer_names()) == ["far", "guest", "unsaved"]
    save_by_hand(one, one.facts)
    assert one.peer_names() == ["far"]


def test_a_fragment_that_changed_during_the_trial_counts_when_it_is_confirmed(
    one: End,
) -> None:
    more = one.path.with_name("more.json")
    more.write_text("[]")
    begin(one, one.facts | {"include": "more.json"})
    more.write_text(json.dumps([guest()]))
    one.control("confirm")
    eventually(lambda: "guest" in one.peer_names())


def test_nobody_waits_for_a_confirmation_that_waits_for_another_saver(
    one: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = one.with_peers(guest())
    begin(one, facts)
    waits, answers = threading.Event(), []

    def sleep(seconds: float) -> None:
        waits.set()
        time.sleep(seconds)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr("tunnel.config.save.time", clock)
    other = Saving(one.path)
    confirming = threading.Thread(target=lambda: answers.append(one.control("confirm")))
    confirming.start()
    assert waits.wait(10)
    assert pending(one)  # answered, although the confirmation is not
    assert answers == []
    other.discard()
    confirming.join(10)
    assert answers == [{"confirmed": True}]
    assert json.loads(one.path.read_text()) == facts
    assert not pending(one)
    assert "guest" in one.peer_names()


def test_whoever_cannot_wait_is_refused_at_once(one: End) -> None:
    begin(one, one.with_peers(guest()))
    other = Saving(one.path)
    with pytest.raises(TunnelError, match="another change is being saved"):
        one.call(lambda s: s.manager.trial.confirm())
    assert pending(one)
    other.discard()
    one.call(lambda s: s.manager.trial.confirm())
    assert not pending(one)


def test_a_file_that_was_saved_meanwhile_is_not_overwritten(one: End) -> None:
    begin(one, one.with_peers(guest()))
    newer = one.with_peers(guest("newer")) | {"maxConnections": 7}
    save_by_hand(one, newer)
    with pytest.raises(TunnelError, match="changed meanwhile") as caught:
        one.control("confirm")
    assert str(one.path) in caught.value.message
    assert "tunnel rollback" in caught.value.hint
    assert pending(one)
    assert json.loads(one.path.read_text()) == newer
    free = Saving(one.path, wait=0)
    free.discard()


def test_a_rollback_leaves_a_newer_file_in_force(one: End) -> None:
    """Also where it says what the trial did, or something else than before it."""
    begin(one, one.with_peers(guest()) | {"keepalive": 25})
    newer = json.loads(Path(one.path.with_name("next.json")).read_text())
    newer |= {"keepalive": 10, "maxConnections": 7}
    save_by_hand(one, newer)
    wanted = one.call(lambda s: s.engine.device.observe())
    count = len(one.events("file"))
    one.control("rollback")
    eventually(lambda: len(one.events("file")) > count)
    assert one.call(lambda s: s.engine.device.observe()) == wanted
    assert one.call(lambda s: s.manager.file.config.max_connections) == 7
    assert json.loads(one.path.read_text()) == newer
    assert one.control("plan")["diffs"] == []


def test_a_rollback_returns_to_the_configuration_before(one: End) -> None:
    before = one.call(lambda s: s.manager.file.config)
    begin(one, one.with_peers(guest()))
    assert one.call(lambda s: s.manager.file.config) is not before
    one.control("rollback")
    assert one.call(lambda s: s.manager.file.config) is before
    assert one.events("file") == []


def test_what_was_taken_back_meanwhile_is_not_saved(one: End) -> None:
    begin(one, one.with_peers(guest()))
    late = one.served.manager.trial.prepare()
    one.control("rollback")
    with pytest.raises(TunnelError, match="no change waits"):
        one.call(lambda s: s.manager.trial.confirm(late))
    begin(one, one.with_peers(guest("other")))
    with pytest.raises(TunnelError, match="another change waits"):
        one.call(lambda s: s.manager.trial.confirm(late))
    assert json.loads(one.path.read_text()) == one.facts
    assert [p.name for p in one.path.parent.glob(".*")] == []
    one.control("confirm")  # nor is it in the way
    assert json.loads(one.path.read_text()) == one.with_peers(
        *json.loads(one.path.with_name("next.json").read_text())["peers"][1:]
    )


# --- the tunnel's own file on trial


@pytest.fixture
def trial_of_the_file(one: End) -> bytes:
    """The file takes out a peer that runs beside it; the key of that peer."""
    key = os.urandom(32)
    one.uapi(f"set=1\npublic_key={key.hex()}\n\n")
    one.control("apply", confirm=60)
    assert pending(one)
    assert key not in running(one)
    return key


def running(one: End) -> set[bytes]:
    return one.call(lambda s: set(s.engine.device.observe().peers))


def idle(one: End) -> None:
    """What was asked for until now has been done."""
    one.control("plan")
    one.call(lambda s: None)


def test_a_reload_during_the_trial_of_the_file_changes_nothing_of_it(
    one: End, trial_of_the_file: bytes
) -> None:
    """Logrotate sends SIGHUP whenever it likes."""
    before = one.call(lambda s: s.manager.trial._waiting)
    assert before is not None
    assert one.control("reload")["changes"] == []
    one.control("rollback")
    idle(one)
    assert trial_of_the_file in running(one)
    assert one.call(lambda s: s.manager.file.config) is before.config
    assert one.events("file") == []


def test_a_reload_that_was_asked_for_before_the_rollback_is_refused(
    one: End, trial_of_the_file: bytes
) -> None:
    results: list[object] = []

    def both(served: Served) -> None:
        served.manager.reload_soon("sighup", results.append)
        served.manager.trial.rollback("unconfirmed")

    one.call(both)
    eventually(lambda: results)
    (refused,) = results
    assert isinstance(refused, TunnelError)
    assert "taken back meanwhile" in refused.message
    assert trial_of_the_file in running(one)
    assert [e.success for e in one.events("sighup")] == [False]
    one.control("reload")  # now it is what the operator wants
    assert trial_of_the_file not in running(one)


def test_a_newer_file_stays_when_the_one_before_was_on_trial(
    one: End, trial_of_the_file: bytes
) -> None:
    save_by_hand(one, one.facts | {"maxConnections": 7})
    one.control("reload")
    count = len(one.events("file"))
    one.control("rollback")
    eventually(lambda: len(one.events("file")) > count)
    assert trial_of_the_file not in running(one)
    assert one.call(lambda s: s.manager.file.config.max_connections) == 7
