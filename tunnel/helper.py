"""A thread for what would keep the control thread waiting: files, Argon2, and what is
made of host names once they are looked up.

Jobs run one after the other; what follows a job runs in the control thread. One that
has to wait, for a host name or for what an earlier one changes (turns.py), lets the
others go first. All threads are daemons, so that a name server that does not answer
delays no exit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from tunnel.lookups import LOOKUPS, Answer, Lookups
from tunnel.loop import ControlLoop
from tunnel.turns import Turn

__all__ = ["Helper"]

T = TypeVar("T")


class Helper:
    """Used and closed in the control thread; the thread starts with the first job."""

    def __init__(self, loop: ControlLoop, lookups: Lookups = LOOKUPS) -> None:
        self._loop = loop
        self._lookups = lookups
        self._steps: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # the thread's own, in the order in which the jobs came
        self._claiming: list[Turn] = []
        self._waiting: dict[Turn, Callable[[], None]] = {}

    def run(self, job: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """Runs `job` here and `then` with its outcome in the control thread.

        `then` must not raise. After `close` nothing is started and nothing follows.
        """
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="tunnel-jobs", daemon=True
            )
            self._thread.start()
        self._steps.put(partial(self._try, Turn(self._claiming), job, then))

    def free(self, box: list[Any]) -> None:
        """Empties `box` in the thread: letting go of ten thousand peers takes a while.
        Nothing else should refer to what is in it."""
        self.run(box.clear, lambda _: None)

    def close(self) -> None:
        """Lets go of the thread; a job that is running ends unheard, and what waits for
        a name is not run again. Idempotent."""
        if not self._closed:
            self._closed = True
            self._steps.put(None)

    def _follow(
        self, turn: Turn, outcome: Future[T], then: Callable[[Future[T]], None]
    ) -> None:
        if self._closed:
            return
        then(outcome)
        if turn.claims:
            self._steps.put(partial(self._release, turn))

    # --- in the thread

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            step()
            del step  # and with it what it refers to, before the next one comes
        self._waiting.clear()

    def _try(
        self, turn: Turn, job: Callable[[], T], then: Callable[[Future[T]], None]
    ) -> None:
        outcome = turn.run(job)
        if outcome is not None:
            self._waiting.pop(turn, None)
            self._loop.call_soon_threadsafe(partial(self._follow, turn, outcome, then))
            return
        self._waiting.setdefault(turn, partial(self._try, turn, job, then))
        for host in turn.wanted:
            self._lookups.ask(host, partial(self._answered, turn))

    def _answered(self, turn: Turn, host: str, answer: Answer) -> None:
        """In a thread of the look-ups."""
        self._steps.put(partial(self._take_answer, turn, host, answer))

    def _take_answer(self, turn: Turn, host: str, answer: Answer) -> None:
        turn.answers[host] = answer
        self._go_on()

    def _release(self, turn: Turn) -> None:
        """What it claimed has been changed."""
        self._claiming.remove(turn)
        self._go_on()

    def _go_on(self) -> None:
        for turn, again in list(self._waiting.items()):
            if turn.ready:
                again()
