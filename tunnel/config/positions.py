"""Where each value of a JSON text stands: JSON path -> line.

Loading never pays for this: it runs only when there is an error to report. The text
is known to be valid JSON by then, apart from repeated keys.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Duplicate", "JsonPath", "Positions", "scan"]

JsonPath = tuple[str | int, ...]

# Deeper than any key of the schema: below it, the line of the ancestor is used, so
# that a hostile nesting depth costs nothing.
MAX_DEPTH: Final = 8

_TOKEN: Final = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that an object holds twice."""

    path: JsonPath
    first_line: int
    second_line: int


@dataclass(slots=True)
class Positions:
    """`lines` of values (a member's line is that of its key), and repeated keys."""

    lines: dict[JsonPath, int] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)

    def line(self, path: JsonPath) -> int:
        """The line of `path`, or of the nearest ancestor that is there."""
        for size in range(min(len(path), MAX_DEPTH), -1, -1):
            found = self.lines.get(path[:size])
            if found:
                return found
        return 1


@dataclass(slots=True)
class _Frame:
    """An object or array being scanned; `path` is None below MAX_DEPTH."""

    path: JsonPath | None
    is_object: bool
    index: int = 0
    key: str = ""
    want_key: bool = True
    keys: dict[str, int] = field(default_factory=dict)

    def child(self) -> JsonPath | None:
        if self.path is None or len(self.path) >= MAX_DEPTH:
            return None
        return (*self.path, self.key if self.is_object else self.index)


def _member(found: Positions, frame: _Frame, token: str, line: int) -> None:
    """Note the key of an object's member."""
    frame.key = json.loads(token) if "\\" in token else token[1:-1]
    frame.want_key = False
    path = frame.child()
    if path is None:
        return
    if frame.key in frame.keys:
        found.duplicates.append(Duplicate(path, frame.keys[frame.key], line))
    else:
        frame.keys[frame.key] = line
    found.lines[path] = line


def scan(text: str) -> Positions:
    """Read all of `text` without recursion and note where everything is."""
    found = Positions()
    stack: list[_Frame] = []
    line, seen = 1, 0
    for match in _TOKEN.finditer(text):
        start, token = match.start(), match.group()
        line += text.count("\n", seen, start)
        seen = start
        frame = stack[-1] if stack else None
        if token == ",":
            if frame:
                frame.index += 1
                frame.want_key = True
        elif token in "}]":
            if frame:
                stack.pop()
        elif frame and frame.is_object and frame.want_key and token[0] == '"':
            _member(found, frame, token, line)
        elif token != ":":
            path = frame.child() if frame else ()
            if path is not None and not (frame and frame.is_object):
                found.lines[path] = line
            if token in "{[":
                stack.append(_Frame(path, token == "{"))
    return found
