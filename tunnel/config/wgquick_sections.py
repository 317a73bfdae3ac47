"""A wg-quick file in pieces: its sections and their lines, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tunnel.config.hidden import shown
from tunnel.errors import ConfigProblem

__all__ = ["Block", "Problems", "split"]

_SECTION: Final = "start the file with [Interface]"


@dataclass(slots=True)
class Problems:
    """What is wrong with a file."""

    found: list[ConfigProblem] = field(default_factory=list)

    def add(self, path: str, line: int, message: str, hint: str = "") -> None:
        self.found.append(ConfigProblem(path, line, message, hint))


@dataclass(slots=True)
class Block:
    """The lines of one section; `line` is the number of its header, 0 for what
    stands before the first one, and `start` that of `lines[0]`."""

    kind: str
    line: int
    start: int
    lines: tuple[str, ...]


def split(text: str, problems: Problems) -> list[Block]:
    """The preamble, then each section. Comments right above a header belong to it;
    empty lines around a section belong to none."""
    blocks = [Block("", 0, 1, ())]
    lines = [line.rstrip() for line in text.removeprefix("\ufeff").split("\n")]
    heads = [n for n, line in enumerate(lines) if line.lstrip().startswith("[")]
    starts = [_above(lines, n) for n in heads]
    bounds = [0, *starts, len(lines)]
    blocks[0].lines = _trimmed(lines[: bounds[1]])[1]
    for index, head in enumerate(heads):
        kind = lines[head].partition("#")[0].strip().lower()
        skipped, part = _trimmed(lines[starts[index] : bounds[index + 2]])
        if kind not in ("[interface]", "[peer]"):
            problems.add(
                "section",
                head + 1,
                f"{shown(lines[head].strip())} is no section of a wg-quick file",
                "write [Interface] or [Peer]",
            )
            continue
        start = starts[index] + skipped + 1
        blocks.append(Block(kind.strip("[]"), head + 1, start, part))
    for number, line in enumerate(lines[: bounds[1]], 1):
        if line and not line.lstrip().startswith("#"):
            problems.add("section", number, "stands before any section", _SECTION)
    return blocks


def _above(lines: list[str], head: int) -> int:
    start = head
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return start


def _trimmed(lines: list[str]) -> tuple[int, tuple[str, ...]]:
    """How many empty lines were cut off in front, and what is left."""
    first, last = 0, len(lines)
    while first < last and not lines[first]:
        first += 1
    while first < last and not lines[last - 1]:
        last -= 1
    return first, tuple(lines[first:last])
