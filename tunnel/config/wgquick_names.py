"""The names of peers in a wg-quick file, which are comments.

One that says so (`# friendly_name=NAME`, `# Name = NAME`) is a name, and of one peer
only. `# NAME` alone below the header is one as long as nobody else has it: what
stands below several peers is a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tunnel.config.identity import normal_name

__all__ = ["NAMED", "NameLine", "name_in", "names_of", "set_apart"]

NAMED: Final = re.compile(r"#+\s*(friendly_name|name)\s*=\s*(.*)", re.IGNORECASE)
_NAME_MAX: Final = 64


class NameLine(NamedTuple):
    """A comment that may name a peer, and where among the lines of the section."""

    at: int = -1
    name: str = ""
    plain: bool = False  # it does not say that it is a name


def _usable(name: str) -> bool:
    return 0 < len(name) <= _NAME_MAX and name.isprintable() and name == name.strip()


def name_in(lines: Iterable[str]) -> NameLine:
    """The best one of a section; `at` is -1 when there is none."""
    plain = named = NameLine()
    below = -1
    for index, line in enumerate(lines):
        text = line.strip()
        if text.startswith("["):
            below = index
        elif below >= 0 and text.startswith("#"):
            match = NAMED.fullmatch(text)
            name = match[2].strip() if match else text.lstrip("#").strip()
            if not _usable(name):
                continue
            if match and (named.at < 0 or match[1].lower() == "friendly_name"):
                named = NameLine(index, normal_name(name))
            elif not match and index == below + 1 and "=" not in name:
                plain = NameLine(index, normal_name(name), True)
    return named if named.at >= 0 else plain


def names_of(sections: Iterable[Sequence[str]]) -> list[str]:
    """The name of each section: of a plain comment that repeats, or is the name of
    another peer, only the first can be one."""
    found = [name_in(lines) for lines in sections]
    taken = {line.name for line in found if not line.plain}
    names = []
    for line in found:
        own = not line.plain or line.name not in taken
        names.append(line.name if own else "")
        taken.add(line.name)
    return names


def set_apart(lines: Sequence[str]) -> tuple[str, ...]:
    """The section with its plain comment where it is no name."""
    at = name_in(lines).at
    return (*lines[:at], "#", *lines[at:])
