"""The control loop: timers, descriptors, other threads, signals, failures."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tunnel.errors import DeviceError
from tunnel.loop import ControlLoop

from .rig import strangers

MS = 1_000_000


@pytest.fixture
def loop() -> Iterator[ControlLoop]:
    made = ControlLoop()
    yield made
    made.close()


def test_timers_run_in_order_and_not_early(loop: ControlLoop) -> None:
    seen: list[tuple[str, bool]] = []
    start = loop.now()
    for name, delay in (("c", 15), ("a", 0), ("b", 8), ("past", -5)):
        when = start + delay * MS

        def note(name: str = name, when: int = when) -> None:
            seen.append((name, loop.now() >= when))

        loop.call_at(when, note)
    cancelled = loop.call_later(5 * MS, lambda: seen.append(("cancelled", True)))
    cancelled.cancel()
    loop.call_later(20 * MS, loop.stop)
    loop.run()
    assert seen == [("past", True), ("a", True), ("b", True), ("c", True)]
    assert cancelled.cancelled


def test_a_timer_may_cancel_another_that_is_due(loop: ControlLoop) -> None:
    seen: list[str] = []
    when = loop.now()
    second = loop.call_at(when + 1, lambda: seen.append("second"))
    loop.call_at(when, second.cancel)
    loop.call_later(3 * MS, loop.stop)
    loop.run()
    assert seen == []


def test_other_threads_wake_it_up(loop: ControlLoop) -> None:
    seen: list[int] = []

    def work() -> None:
        for n in range(1000):
            loop.call_soon_threadsafe(lambda n=n: seen.append(n))
        loop.stop_threadsafe()

    thread = threading.Thread(target=work)
    thread.start()
    loop.run()
    thread.join()
    assert seen == list(range(1000))


def test_a_removed_reader_is_not_called_again(loop: ControlLoop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    seen: list[int] = []

    def first_comes(index: int) -> None:
        seen.append(index)
        for one, _ in pairs:
            loop.remove_reader(one.fileno())
            one.close()
        loop.call_later(2 * MS, loop.stop)

    for index, (one, other) in enumerate(pairs):
        loop.add_reader(one.fileno(), lambda index=index: first_comes(index))
        other.send(b"x")
    loop.run()
    assert len(seen) == 1
    for _, other in pairs:
        other.close()


def test_reader_and_writer_of_one_descriptor(loop: ControlLoop) -> None:
    one, other = socket.socketpair()
    seen: list[str] = []

    def written() -> None:
        seen.append("write")
        loop.remove_writer(one.fileno())
        other.send(b"x")

    def read() -> None:
        seen.append("read")
        loop.stop()

    loop.add_reader(one.fileno(), read)
    loop.add_writer(one.fileno(), written)
    loop.run()
    assert seen == ["write", "read"]
    one.close()
    other.close()


def test_signals_are_callbacks_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop, seen = ControlLoop(), []
    loop.on_signal(signal.SIGUSR1, lambda: (seen.append(1), loop.stop()))
    loop.call_later(MS, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run()
    loop.close()
    assert seen == [1]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_f12_what_a_callback_raises_ends_the_loop_and_is_logged_once(
    loop: ControlLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def boom() -> None:
        raise KeyError("here")

    loop.call_later(0, boom)
    loop.call_later(50 * MS, lambda: pytest.fail("still running"))
    with pytest.raises(DeviceError, match="internal error") as caught:
        loop.run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(caplog.records) == 1
    assert "control thread" in caplog.records[0].message


def test_it_can_run_again_after_a_stop(loop: ControlLoop) -> None:
    for _ in range(2):
        loop.call_later(MS, loop.stop)
        loop.run()


def test_a_closed_loop_writes_to_no_descriptor() -> None:
    """Its number is another file's by then: of who is late, or stops it once more."""
    loop = ControlLoop()
    number = loop._wake_fd
    loop.close()
    with strangers() as files:
        assert number in files
        loop.call_soon_threadsafe(lambda: None)
        loop.stop_threadsafe()


def test_close_waits_for_who_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, write = ControlLoop(), os.eventfd_write
    closer = threading.Thread(target=loop.close)

    def slow(fd: int, value: int) -> None:
        closer.start()
        closer.join(0.2)
        assert closer.is_alive(), "closed under the hands of who writes"
        write(fd, value)

    monkeypatch.setattr(os, "eventfd_write", slow)
    loop.stop_threadsafe()
    closer.join()


def test_a_signal_handler_may_wake_the_loop_while_it_is_woken(
    loop: ControlLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = os.eventfd_write, []

    def interrupted(fd: int, value: int) -> None:
        monkeypatch.undo()
        loop.call_soon_threadsafe(loop.stop)
        write(fd, value)

    monkeypatch.setattr(os, "eventfd_write", interrupted)
    thread = threading.Thread(
        target=loop.call_soon_threadsafe, args=(lambda: seen.append(1),), daemon=True
    )
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    loop.run()
    assert seen == [1]
