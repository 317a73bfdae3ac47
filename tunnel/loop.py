"""The control thread: one epoll, one timer, callbacks; no packet passes here.

Times are nanoseconds on CLOCK_BOOTTIME, so suspend counts (R40). A callback that
raises ends the loop: the error is logged once, and `run` raises it, because a tunnel
whose control thread is gone must not go on half dead. Only `call_soon_threadsafe`
and `stop_threadsafe` may be called from other threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tunnel.errors import DeviceError
from tunnel.io.timer_linux import TimerFd
from tunnel.timer_queue import Timer, TimerQueue

__all__ = ["ControlLoop", "Timer"]

Callback = Callable[[], None]

log = logging.getLogger("tunnel.loop")

_MAX_EVENTS: Final = 64


class ControlLoop:
    """Runs callbacks in the thread that calls `run`; close it afterwards."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers = TimerQueue()
        self._timer = TimerFd()
        self._soon: deque[Callback] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # held where it is written to or closed, so that nobody writes to a number
        # that is another file's by then; a signal handler may come in between
        self._wake_lock = threading.RLock()
        self._signals: dict[int, Callback] = {}
        self._old_handlers: dict[int, object] = {}
        self._signal_pair: tuple[socket.socket, socket.socket] | None = None
        self._stopping = False
        self._closed = False
        self._failure: BaseException | None = None
        self.add_reader(self._timer.fd, self._run_timers)
        self.add_reader(self._wake_fd, self._run_soon)

    # --- descriptors

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Calls back while `fd` is readable (level-triggered), also on errors."""
        self._register(fd, self._readers, callback)

    def remove_reader(self, fd: int) -> None:
        """Before the descriptor is closed; unknown ones are ignored."""
        self._unregister(fd, self._readers)

    def add_writer(self, fd: int, callback: Callback) -> None:
        self._register(fd, self._writers, callback)

    def remove_writer(self, fd: int) -> None:
        self._unregister(fd, self._writers)

    def _register(
        self, fd: int, table: dict[int, Callback], callback: Callback
    ) -> None:
        before = self._mask(fd)
        table[fd] = callback
        mask = self._mask(fd)
        if mask != before:
            (self._epoll.modify if before else self._epoll.register)(fd, mask)

    def _unregister(self, fd: int, table: dict[int, Callback]) -> None:
        if table.pop(fd, None) is None or self._closed:
            return
        mask = self._mask(fd)
        with contextlib.suppress(OSError):  # closed already: epoll forgot it
            if mask:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.unregister(fd)

    def _mask(self, fd: int) -> int:
        read = select.EPOLLIN if fd in self._readers else 0
        return read | (select.EPOLLOUT if fd in self._writers else 0)

    # --- time

    @staticmethod
    def now() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def call_at(self, when: int, callback: Callback) -> Timer:
        timer = Timer(when, callback)
        self._timers.add(timer)
        return timer

    def call_later(self, delay: int, callback: Callback) -> Timer:
        return self.call_at(self.now() + delay, callback)

    def _run_timers(self) -> None:
        self._timer.acknowledge()
        for timer in self._timers.take_due(self.now()):
            timer.run()  # what they add waits for the next round

    def next_timer(self) -> int | None:
        """When a callback is due next; None: nothing wakes the loop but descriptors."""
        return self._timers.next()

    def _arm(self) -> None:
        when = self.next_timer()
        self._timer.arm(0 if when is None else max(when, 1))

    # --- other threads

    def call_soon_threadsafe(self, callback: Callback) -> None:
        """In the loop's next round; after `close` nobody runs it."""
        with self._wake_lock:
            if self._closed:
                return
            self._soon.append(callback)
            with contextlib.suppress(BlockingIOError):  # it is awake more than enough
                os.eventfd_write(self._wake_fd, 1)

    def stop_threadsafe(self) -> None:
        self.call_soon_threadsafe(self.stop)

    def _run_soon(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    # --- signals

    def on_signal(self, signum: int, callback: Callback) -> None:
        """Only in the main thread, before `run`."""
        if self._signal_pair is None:
            self._signal_pair = socket.socketpair()
            for end in self._signal_pair:
                end.setblocking(False)
            signal.set_wakeup_fd(
                self._signal_pair[1].fileno(), warn_on_full_buffer=False
            )
            self.add_reader(self._signal_pair[0].fileno(), self._run_signals)
        self._signals[signum] = callback
        self._old_handlers[signum] = signal.signal(signum, lambda *_: None)

    def _run_signals(self) -> None:
        assert self._signal_pair is not None
        for signum in self._signal_pair[0].recv(256):
            callback = self._signals.get(signum)
            if callback is not None:
                callback()

    # --- life

    def stop(self) -> None:
        """Makes `run` return after the callback that is running."""
        self._stopping = True

    def fail(self, error: BaseException) -> None:
        """Ends the loop with an error, which `run` raises. The first one counts."""
        if self._failure is None:
            self._failure = error
        self._stopping = True

    def run(self) -> None:
        """Until `stop`; raises what a callback raised or what `fail` was given."""
        while self._running():
            self._arm()
            for fd, mask in self._epoll.poll(maxevents=_MAX_EVENTS):
                if mask & ~select.EPOLLOUT:
                    self._dispatch(self._readers.get(fd) or self._writers.get(fd))
                if mask & select.EPOLLOUT:
                    self._dispatch(self._writers.get(fd))
                if not self._running():
                    break
        self._stopping = False
        if self._failure is not None:
            raise self._failure

    def _running(self) -> bool:
        return not self._stopping

    def _dispatch(self, callback: Callback | None) -> None:
        if callback is None:  # removed by an earlier callback of this round
            return
        try:
            callback()
        except DeviceError as error:
            log.error("%s", error)
            self.fail(error)
        except Exception as error:
            where = getattr(callback, "__qualname__", repr(callback))
            log.exception("the control thread failed in %s", where)
            failure = DeviceError(f"internal error in {where}: {error!r}")
            failure.__cause__ = error
            self.fail(failure)

    def close(self) -> None:
        """Gives descriptors and signal handlers back; idempotent."""
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._wake_fd)
        if self._signal_pair is not None:
            signal.set_wakeup_fd(-1)
            for signum, handler in self._old_handlers.items():
                signal.signal(signum, handler)  # type: ignore[arg-type]
            for end in self._signal_pair:
                end.close()
        self._epoll.close()
        os.close(self._timer.fd)
