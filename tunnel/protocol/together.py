"""Computations that stop where a curve operation is needed, run side by side.

X25519 of eight pairs costs what one costs (`tunnel._fastpath.x25519`), so many
handshakes are taken forward together: each says what it needs, all of it is computed
at once, and each goes on with its results.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from tunnel._fastpath.x25519 import LANES, PrivateKey, SharedSecret, exchange
from tunnel.protocol.primitives import HandshakeError

__all__ = ["Pair", "Results", "Steps", "run", "run_together"]

Pair = tuple[PrivateKey, bytes | None]
"""A private key and a public one; None computes the key's own `public`."""

Results = list[SharedSecret | None]

T = TypeVar("T")
Steps = Generator[tuple[list[Pair], list[Pair]], Results, T]
"""Yields the pairs it needs now, and pairs it may need next. It is given the results
of the former; and those of the latter behind them, if they cost nothing."""


def run(steps: Steps[T]) -> T:
    """Alone."""
    (outcome,) = run_together([steps])
    if isinstance(outcome, HandshakeError):
        raise outcome
    return outcome


def run_together(computations: Sequence[Steps[T]]) -> list[T | HandshakeError]:
    """What each returns or raises. In each round they are resumed in order."""
    outcomes: dict[int, T | HandshakeError] = {}
    active: list[tuple[int, Steps[T], Results | None]]
    active = [(number, each, None) for number, each in enumerate(computations)]
    while active:
        asked = []
        for number, each, results in active:
            try:
                # None starts a generator
                needed, next_ = each.send(results)  # type: ignore[arg-type]
            except StopIteration as done:
                outcomes[number] = done.value
            except HandshakeError as error:
                outcomes[number] = error
            else:
                asked.append((number, each, needed, next_))
        active = _answered(asked)
    return [outcomes[number] for number in range(len(computations))]


def _answered(
    asked: list[tuple[int, Steps[T], list[Pair], list[Pair]]],
) -> list[tuple[int, Steps[T], Results | None]]:
    pairs = [pair for _, _, needed, _ in asked for pair in needed]
    free = -len(pairs) % LANES
    ahead: dict[int, slice] = {}
    for number, _, _, next_ in asked:
        if 0 < len(next_) <= free:
            ahead[number] = slice(len(pairs), len(pairs) + len(next_))
            pairs += next_
            free -= len(next_)
    results = exchange(pairs)
    answered, at = [], 0
    for number, each, needed, _ in asked:
        given: Results | None = results[at : at + len(needed)]
        if number in ahead:
            given = [*results[at : at + len(needed)], *results[ahead[number]]]
        at += len(needed)
        answered.append((number, each, given))
    return answered
