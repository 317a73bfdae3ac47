"""Many commands of `ip` in one process: a few microseconds each, where a process of its
own takes milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tunnel.netconfig.base import Argv, Command

__all__ = ["Batch", "batches", "first_failure", "outcomes"]

_FAMILIES: Final = ("-4", "-6")
_FAILED: Final = re.compile(r"^Command failed -:(\d+)$", re.MULTILINE)
# read from a line as it is: without spaces, quotes, comments
_WORD: Final = re.compile(r"[\w.:/@%+=,-]+")


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands of one address family, or a single one of any kind."""

    commands: tuple[Command, ...]

    def argv(self, *, go_on: bool) -> Argv:
        """Runs them up to the first that fails, or `go_on`; `text` is its input."""
        force = ("-force",) if go_on else ()
        return "ip", self.commands[0].argv[1], *force, "-batch", "-"

    @property
    def text(self) -> str:
        return "".join(" ".join(c.argv[2:]) + "\n" for c in self.commands)


def batches(commands: Iterable[Command]) -> Iterator[Batch]:
    """All commands, in their order but for this: IPv4 and IPv6, which do not depend on
    each other, are put together as far as nothing else stands between them."""
    together: dict[str, list[Command]] = {}
    for command in commands:
        if _fits(command.argv):
            together.setdefault(command.argv[1], []).append(command)
            continue
        yield from (Batch(tuple(found)) for found in together.values())
        together.clear()
        yield Batch((command,))
    yield from (Batch(tuple(found)) for found in together.values())


def _fits(argv: Argv) -> bool:
    return (
        argv[0] == "ip"
        and argv[1] in _FAMILIES
        and all(_WORD.fullmatch(word) for word in argv)
    )


def outcomes(heard: str, count: int, *, ok: bool) -> list[str | None] | None:
    """What each of `count` lines said that failed (None: it did not), from all that was
    heard. None when that cannot be told: a line made `ip` give up the others, or this
    `ip` knows no batches."""
    found: list[str | None] = [None] * count
    if ok:
        return found
    start = 0
    for failure in _FAILED.finditer(heard):
        line = int(failure[1])
        if not 1 <= line <= count:
            return None
        found[line - 1] = heard[start : failure.start()].strip() or "it failed"
        start = failure.end()
    return None if not start or heard[start:].strip() else found


def first_failure(heard: str, count: int) -> tuple[int, str] | None:
    """Which of `count` lines, counted from 0, was the last that ran because it failed,
    and what it said. None when that cannot be told, as with `outcomes`."""
    found = _FAILED.search(heard)
    if found is None or heard[found.end() :].strip():
        return None
    line = int(found[1])
    if not 1 <= line <= count:
        return None
    return line - 1, heard[: found.start()].strip() or "it failed"
