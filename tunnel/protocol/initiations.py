"""Initiations that are due together are prepared together, which costs less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tunnel.protocol.duties import retry_is_due
from tunnel.protocol.noise import Identity
from tunnel.protocol.path import PathEvent
from tunnel.protocol.peer import Peer
from tunnel.protocol.timers import may_initiate
from tunnel.protocol.together import run_together
from tunnel.protocol.types import Timing

T = TypeVar("T")

_AT_ONCE = 64


def parts(all_: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at a time."""
    return (all_[at : at + _AT_ONCE] for at in range(0, len(all_), _AT_ONCE))


def expected(peer: Peer, timing: Timing, now: int, events: int = 0) -> bool:
    """Whether `events`, or the deadline that is due, will probably lead to an
    initiation; none comes of a wrong answer."""
    if peer.path.endpoint is None:
        return False
    if not may_initiate(peer.handshake.last_sent, now, timing):
        return False
    if events & PathEvent.NEEDS_SESSION:
        return not peer.slots.can_send(now)
    if events & PathEvent.REKEY:
        return peer.slots.wants_rekey(now)
    return retry_is_due(peer, now)


@contextmanager
def prepared(peers: Sequence[Peer], identity: Identity | None) -> Iterator[None]:
    """Within it each of them has the curve's part of its next initiation; who makes
    none after all forgets it."""
    if identity is None or len(peers) < 2:
        yield
        return
    run_together([peer.handshake.prepare_steps(identity) for peer in peers])
    try:
        yield
    finally:
        for peer in peers:
            peer.handshake.unprepare()
