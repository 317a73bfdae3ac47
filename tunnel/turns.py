"""What a job of the helper may have to wait for without keeping the helper's thread.

A job that meets a host name of which the address is not known yet is given up, and run
again from its start when the address is there; so is one that claims what an earlier
job, which has not taken effect yet, claims too. Until then it must do nothing that may
not be done twice.

Outside of such jobs nothing waits: names are looked up at once, claims mean nothing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from tunnel.lookups import LOOKUPS, Answer, Lookups

__all__ = [
    "EVERYTHING",
    "WHOLE_FILE",
    "Turn",
    "check",
    "claim",
    "look_up",
    "run_here",
    "unanswered",
]

T = TypeVar("T")

_ALL: Final = object()
EVERYTHING: Final = frozenset({_ALL})
"""Claims whatever anybody else does."""
WHOLE_FILE: Final = frozenset({"the configuration as a whole"})
"""Files keep their order among each other. They take effect when their names have
addresses; changes of single peers that are asked for until then come before."""


class NotYet(BaseException):
    """The job is given up. No error: nobody on the way is to make something of it."""


class Turn:
    """One job: what it knows, and what it met that it has to wait for. `claiming` are
    the turns with claims that have not taken effect, in order, this one among them."""

    def __init__(self, claiming: list[Turn]) -> None:
        self.answers: dict[str, Answer] = {}
        self.wanted: dict[str, None] = {}  # names, in order
        self.claims: frozenset[Hashable] = frozenset()
        self._claiming = claiming

    def run(self, job: Callable[[], T]) -> Future[T] | None:
        """The outcome; None: it has to wait until it is `ready`."""
        outcome: Future[T] = Future()
        self.wanted.clear()
        _here.turn = self
        try:
            outcome.set_result(job())
        except NotYet:
            return None
        except BaseException as error:  # noqa: BLE001 - belongs to who wants the outcome
            outcome.set_exception(error)
        finally:
            _here.turn = None
        return None if self.wanted else outcome

    @property
    def ready(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.wanted.keys() <= self.answers.keys() and not self._is_behind()

    def _is_behind(self) -> bool:
        """Behind another turn that claims the same."""
        for other in self._claiming if self.claims else ():
            if other is self:
                break
            if _ALL in self.claims | other.claims or self.claims & other.claims:
                return True
        return False

    def claim(self, what: frozenset[Hashable]) -> None:
        self.claims = what
        if what and self not in self._claiming:
            self._claiming.append(self)
        if self._is_behind() or self.wanted:
            raise NotYet

    def want(self, hosts: Iterable[str]) -> None:
        self.wanted |= dict.fromkeys(host for host in hosts if host not in self.answers)


def run_here(job: Callable[[], T], lookups: Lookups = LOOKUPS) -> T:
    """The result of a job without a helper: this thread waits for its names, which are
    looked up side by side."""
    turn = Turn([])
    answers: SimpleQueue[tuple[str, Answer]] = SimpleQueue()
    while (outcome := turn.run(job)) is None:
        for host in turn.wanted:
            lookups.ask(host, lambda host, answer: answers.put((host, answer)))
        turn.answers |= dict(answers.get() for _ in turn.wanted)
    return outcome.result()


class _Here(threading.local):
    turn: Turn | None = None


_here = _Here()


def look_up(host: str, *rest: Any, **options: Any) -> list[Any]:
    """As `socket.getaddrinfo`, for `desired_state`: a name without an answer yet has no
    address, so that a job meets all of its names before it is given up."""
    turn = _here.turn
    if turn is None:
        return socket.getaddrinfo(host, *rest, **options)
    turn.want([host])
    if host in turn.wanted:
        raise socket.gaierror(socket.EAI_AGAIN, "not looked up yet")
    return turn.answers[host].result()


def claim(what: Iterable[Hashable], hosts: Iterable[str] = ()) -> None:
    """The job changes what is named, and needs the addresses of `hosts`. It goes on
    when these are known, and what earlier jobs change of the same is changed."""
    turn = _here.turn
    if turn is not None:
        turn.want(hosts)
        turn.claim(frozenset(what))


def unanswered() -> bool:
    """Whether the job met names that `look_up` knew nothing of: what it made of them is
    of no use, and it will be run again."""
    return _here.turn is not None and bool(_here.turn.wanted)


def check() -> None:
    """Gives the job up if it met such names."""
    if unanswered():
        raise NotYet
