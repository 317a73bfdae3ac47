"""The time of a trial: it stands still from the request that confirms it, and goes on
when that comes to nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tunnel import confirmation
from tunnel.api.client import UapiClient
from tunnel.cli.up import Served
from tunnel.config.desired import desired_state
from tunnel.config.save import Saving
from tunnel.config.store import load_config
from tunnel.constants import SECOND
from tunnel.errors import TunnelError
from tunnel.prepared import Prepared

from .rig import End, Json, eventually
from .test_changes import written
from .test_confirming import pending, save_by_hand
from .test_file import guest


def begin(one: End, *, save: bool = True) -> Json:
    facts = one.with_peers(guest())
    file = written(one, "next.json", facts)
    one.control("apply", file=file, confirm=60, save=save)
    assert "guest" in one.peer_names()
    return facts


@contextmanager
def busy(one: End) -> Iterator[None]:
    """The helper has a job that takes long; it is done at the end."""
    done = threading.Event()
    try:
        one.call(lambda s: s.manager.background(done.wait, lambda _: None))
        yield
    finally:
        done.set()


class Asker:
    """Asks for a confirmation in a thread, so that the test can go on."""

    def __init__(self, one: End) -> None:
        self.answer: Any = None
        self._one = one
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self.answer = self._one.control("confirm")
        except TunnelError as error:
            self.answer = error

    def result(self) -> Any:
        self._thread.join(20)
        return self.answer


def stopped(one: End) -> bool:
    """Whether the time of the trial stands still."""
    left = [one.call(lambda s: s.manager.trial.left) for _ in range(2)]
    return left[0] == left[1]


def test_with_nothing_to_save_it_waits_for_nobody(one: End) -> None:
    begin(one, save=False)
    with busy(one):
        assert one.control("confirm") == {"confirmed": True}
        assert not pending(one)
    assert "guest" in one.peer_names()


def test_what_was_confirmed_in_time_is_not_taken_back(one: End) -> None:
    facts = begin(one)
    timer = one.trial_timer()
    with busy(one):
        asker = Asker(one)
        eventually(lambda: stopped(one))
        one.expire(timer)
        assert "guest" in one.peer_names()
        assert asker.answer is None
    assert asker.result() == {"confirmed": True}
    assert json.loads(one.path.read_text()) == facts
    assert "guest" in one.peer_names()
    assert one.events("unconfirmed") == []


def test_whoever_asks_need_not_stay(one: End) -> None:
    facts = begin(one)
    with busy(one):
        with UapiClient(one.facts["tunnel"]["name"]) as client:
            client._socket.sendall(b'tunnel=1\n{"do": "confirm"}\n\n')
            eventually(lambda: stopped(one))
        one.control("state")  # it is heard that the other has gone
    eventually(lambda: not pending(one))
    assert json.loads(one.path.read_text()) == facts
    assert "guest" in one.peer_names()


def test_all_who_ask_meanwhile_get_the_answer(one: End) -> None:
    begin(one)
    with busy(one):
        first = Asker(one)
        eventually(lambda: stopped(one))
        second = Asker(one)
        time.sleep(0.05)
    assert first.result() == second.result() == {"confirmed": True}


def test_after_a_save_that_failed_the_time_goes_on(one: End) -> None:
    begin(one)
    save_by_hand(one, one.facts | {"maxConnections": 7})
    with pytest.raises(TunnelError, match="changed meanwhile"):
        one.control("confirm")
    assert 0 < one.call(lambda s: s.manager.trial.left or 0) < 60
    assert not stopped(one)
    one.expire(one.trial_timer())
    assert [event.success for event in one.events("unconfirmed")] == [True]
    assert not pending(one)


def test_a_save_that_does_not_end_stops_the_time_for_a_while_only(one: End) -> None:
    facts = begin(one)
    with busy(one):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(confirmation, "HOLD", SECOND // 20)
            with pytest.raises(TunnelError, match="nothing could be saved"):
                one.control("confirm")
        assert not stopped(one)
    one.control("plan")  # the helper is done with what came before
    assert not _locked(one)
    assert pending(one)
    assert json.loads(one.path.read_text()) == one.facts
    one.control("confirm")
    assert json.loads(one.path.read_text()) == facts


def _locked(one: End) -> bool:
    try:
        Saving(one.path, wait=0).discard()
    except TunnelError:
        return True
    return False


def test_whoever_takes_it_back_meanwhile_is_the_last(one: End) -> None:
    begin(one)
    with busy(one):
        asker = Asker(one)
        eventually(lambda: stopped(one))
        one.control("rollback")
        assert "taken back meanwhile" in asker.result().message
    assert "guest" not in one.peer_names()
    one.control("plan")  # the helper is done with what came before
    assert json.loads(one.path.read_text()) == one.facts
    assert [p.name for p in one.path.parent.glob(".*")] == []
    assert not _locked(one)


def test_nobody_is_late_who_came_while_the_control_thread_was_busy(one: End) -> None:
    file = written(one, "next.json", one.with_peers(guest()))
    prepared = Prepared(desired_state(load_config(file)))
    client = UapiClient(one.facts["tunnel"]["name"])

    def keep_busy(served: Served) -> None:
        served.manager.apply(prepared, source="test", confirm_within=0.1)
        while served.manager.trial.left:
            time.sleep(0.01)
        client._socket.sendall(b'tunnel=1\n{"do": "confirm"}\n\n')
        time.sleep(0.3)

    with client:
        one.call(keep_busy)
        assert client._socket.recv(1000).startswith(b'result={"confirmed": true}')
    assert "guest" in one.peer_names()
    assert one.events("unconfirmed") == []
