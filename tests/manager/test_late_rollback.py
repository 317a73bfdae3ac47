"""A change whose time is over and that cannot be taken back is tried again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tunnel.config.save import Saving
from tunnel.errors import NotSaved, TunnelError
from tunnel.prepare import prepare_save

from .rig import End, Json, eventually, free_ports
from .test_changes import written
from .test_confirming import pending
from .test_file import guest


def begin(one: End, *, save: bool = False) -> Json:
    """A change of the port, and of the peers, on trial."""
    facts = one.with_peers(guest()) | {"listen": free_ports(1)[0]}
    file = written(one, "next.json", facts)
    one.control("apply", file=file, confirm=60, save=save)
    return facts


def taker(port: int) -> socket.socket:
    """Another program on that port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    return sock


@pytest.fixture
def held(one: End) -> Iterator[socket.socket]:
    """The time of a trial is over, but the old port is taken."""
    begin(one)
    with closing(taker(one.facts["listen"])) as sock:
        one.expire(one.trial_timer())
        yield sock


def port(one: End) -> int:
    return one.call(lambda s: s.engine.device.listen_port)


def device(one: End) -> Any:
    return one.control("state")["device"]


def test_it_is_tried_again_until_it_works(one: End, held: socket.socket) -> None:
    assert "guest" in one.peer_names()
    assert port(one) != one.facts["listen"]
    held.close()
    eventually(lambda: not pending(one), 20)
    assert one.peer_names() == ["far"]
    assert port(one) == one.facts["listen"]
    assert [event.success for event in one.events("unconfirmed")] == [False, True]
    assert device(one)["not_taken_back"] is None


def test_the_state_says_why(one: End, held: socket.socket) -> None:
    assert device(one)["pending_confirmation"] == 0
    failures = one.events("unconfirmed")
    assert device(one)["not_taken_back"] == failures[0].error
    assert str(one.facts["listen"]) in failures[0].error


def test_the_same_reason_is_told_once(
    one: End, held: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        one.expire(one.trial_timer())
    assert len(one.events("unconfirmed")) == 1
    assert "tried again" not in caplog.text  # it was when it failed first

    def other(*_: object) -> None:
        raise TunnelError("another reason")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunnel.rollback.Undo.take_back", other)
        for _ in range(3):
            one.expire(one.trial_timer())
        errors = [event.error for event in one.events("unconfirmed")]
        assert errors[1:] == ["another reason"]


def test_it_can_still_be_confirmed(one: End, held: socket.socket) -> None:
    timer = one.trial_timer()
    one.control("confirm")
    held.close()
    one.expire(timer)
    assert "guest" in one.peer_names()
    assert not pending(one)
    assert device(one)["not_taken_back"] is None


def test_or_be_taken_back_by_hand(one: End, held: socket.socket) -> None:
    with pytest.raises(TunnelError, match=str(one.facts["listen"])):
        one.control("rollback")
    assert pending(one)
    held.close()
    # it may have been tried again by now
    one.call(lambda s: s.manager.trial.left is None or s.manager.trial.rollback())
    assert one.peer_names() == ["far"]
    assert not pending(one)


def test_a_confirmation_that_failed_leaves_it_to_be_tried_again(one: End) -> None:
    facts = begin(one, save=True)
    with closing(taker(one.facts["listen"])):
        one.expire(one.trial_timer())
        one.write(facts | {"maxConnections": 7})
        eventually(lambda: one.call(lambda s: s.manager.file.config.max_connections))
        with pytest.raises(TunnelError, match="changed meanwhile"):
            one.control("confirm")
        assert device(one)["pending_confirmation"] == 0
    eventually(lambda: not pending(one), 20)
    assert one.events("unconfirmed")[-1].success


def test_a_rollback_by_hand_that_failed_leaves_the_time(one: End) -> None:
    begin(one)
    with closing(taker(one.facts["listen"])):
        with pytest.raises(TunnelError, match=str(one.facts["listen"])):
            one.control("rollback")
        assert device(one)["not_taken_back"] is None
        assert pending(one)
    one.control("rollback")
    assert one.peer_names() == ["far"]


def test_what_is_neither_saved_nor_taken_back_says_that_it_runs(
    one: End, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    facts = one.facts | {"listen": free_ports(1)[0]}
    held: list[socket.socket] = []

    def commit(_: Saving) -> None:
        held.append(taker(one.facts["listen"]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Saving, "commit", commit)
    text = json.dumps(facts).encode()
    prepared = prepare_save(text, "test", one.path, like=one.served.manager.file.config)
    with pytest.raises(NotSaved, match="new configuration is running") as caught:
        one.call(lambda s: s.manager.apply(prepared, source="test"))
    held[0].close()
    assert "No space" in caught.value.message
    assert "nothing was changed" not in caught.value.message
    assert port(one) == facts["listen"]
    assert one.events("test")[-1].error == str(caught.value)
    assert "is kept" not in caplog.text
