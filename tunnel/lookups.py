"""Host names looked up side by side, in a few threads that are there only meanwhile.

A name server that does not answer keeps a thread for as long as the system waits for
it (5 to 30 seconds for each name); the names behind other servers have theirs by then.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeAlias

__all__ = ["LOOKUPS", "MOST_THREADS", "Answer", "Lookups"]

MOST_THREADS: Final = 8

Answer: TypeAlias = Future[list[Any]]
"""Done: what `socket.getaddrinfo` returned or raised."""

Then: TypeAlias = Callable[[str, Answer], None]


class Lookups:
    """Any thread may ask. Threads start as they are needed and end when no name waits;
    they are daemons, so that none delays the end of the process."""

    def __init__(
        self,
        resolve: Callable[..., list[Any]] | None = None,
        most_threads: int = MOST_THREADS,
    ) -> None:
        """`resolve` is called as `socket.getaddrinfo` is, which is the default."""
        self._resolve = resolve
        self._most_threads = most_threads
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._asked: dict[str, list[Then]] = {}  # of those and of what is under way
        self._threads = 0

    @property
    def threads(self) -> int:
        """How many there are now."""
        return self._threads

    def ask(self, host: str, then: Then) -> None:
        """Looks `host` up, or joins who does so already, and calls `then` in one of the
        threads. `then` must not raise or block."""
        with self._lock:
            if host in self._asked:
                self._asked[host].append(then)
                return
            self._asked[host] = [then]
            self._waiting.append(host)
            if self._threads >= self._most_threads:
                return
            self._threads += 1
        try:
            threading.Thread(
                target=self._work, name="tunnel-names", daemon=True
            ).start()
        except RuntimeError:  # no more threads to be had: then here, as it has to be
            self._work()

    def _work(self) -> None:
        while (host := self._next()) is not None:
            answer = self._look_up(host)
            with self._lock:
                asked = self._asked.pop(host)
            for then in asked:
                then(host, answer)

    def _next(self) -> str | None:
        """None: nothing waits, and this thread counts no longer."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None

    def _look_up(self, host: str) -> Answer:
        resolve = self._resolve or socket.getaddrinfo
        answer: Answer = Future()
        try:
            answer.set_result(resolve(host, None, type=socket.SOCK_DGRAM))
        except Exception as error:  # noqa: BLE001 - it belongs to who asks
            answer.set_exception(error)
        return answer


LOOKUPS: Final = Lookups()
"""The process's own."""
