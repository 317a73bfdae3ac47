"""A thread for what would keep the control thread waiting: files, names, Argon2.

Jobs run one after the other, each to its end; what follows a job runs in the control
thread. The thread is a daemon, so that a name server that does not answer delays no
exit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from tunnel.loop import ControlLoop

__all__ = ["Helper"]

T = TypeVar("T")


class Helper:
    """Used and closed in the control thread; the thread starts with the first job."""

    def __init__(self, loop: ControlLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, job: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """Runs `job` here and `then` with its outcome in the control thread.

        `then` must not raise. After `close` nothing is started and nothing follows.
        """
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="tunnel-helper", daemon=True
            )
            self._thread.start()

        def step() -> None:
            outcome: Future[T] = Future()
            try:
                outcome.set_result(job())
            except BaseException as error:  # noqa: BLE001 - `then` gets it
                outcome.set_exception(error)
            self._loop.call_soon_threadsafe(lambda: self._follow(outcome, then))

        self._jobs.put(step)

    def _follow(self, outcome: Future[T], then: Callable[[Future[T]], None]) -> None:
        if not self._closed:
            then(outcome)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # and with it what it refers to, before the next one comes

    def free(self, box: list[Any]) -> None:
        """Empties `box` in the thread: letting go of ten thousand peers takes a while.
        Nothing else should refer to what is in it."""
        self.run(box.clear, lambda _: None)

    def close(self) -> None:
        """Lets go of the thread; a job that is running ends unheard. Idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
