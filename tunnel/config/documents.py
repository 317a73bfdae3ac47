"""Files with lists of peers, and what of the next text of one is as it was.

Two texts of a file mostly differ in one place. What is before and behind it is the
same to the character, so the peers there are taken over as they were understood; only
those between are parsed again. Whatever does not fit this picture is read anew.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from json.scanner import make_scanner
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found, render_path
from tunnel.config.schema import Config, Fragment, PeerConfig
from tunnel.config.syntax import parse_json, validated

__all__ = ["Document", "Layout", "layout_of", "read_document"]

Model = TypeVar("Model", Config, Fragment)

_SPACE: Final = re.compile(r"[ \t\r\n]*").match
_COMMA: Final = re.compile(r"[ \t\r\n]*,[ \t\r\n]*").match
# Text, position -> value, its end.
_SCAN: Final = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]

# What stands in a text for a list that is known. No file can hold it by chance.
_MARK: Final = "\0the peers that are known"
_SPELLED: Final = json.dumps(_MARK)


class Layout(NamedTuple):
    """Where a text has its list of peers: behind `[`, at `]`, and behind each peer."""

    start: int
    end: int
    ends: array[int]


@dataclass(slots=True)
class Document:
    """The main file, or with `path` another one, and the peers in it.

    The first `front` peers and the last `back` are those of the document that this one
    was compared with, the very objects. `single` stands for a peer without a file.
    """

    found: Found
    peers: Sequence[PeerConfig]
    path: Path | None = None
    front: int = 0
    back: int = 0
    single: bool = False
    layout: Layout | None = field(default=None, repr=False)

    def at(self, index: int) -> JsonPath:
        """Where a peer stands."""
        return () if self.single else ("peers", index)

    def place(self, index: int) -> str:
        """The same for people."""
        path = self.at(index)
        return render_path(path[self.found.unwrap :], self.found.label)


@dataclass(frozen=True, slots=True)
class _Next:
    """The next text of a document: its value, in which the peers that stay are the
    objects that they are, the layout, and how many they are at either end."""

    value: Any
    layout: Layout
    front: int
    back: int


def read_document(
    model: type[Model],
    found: Found,
    path: Path | None = None,
    known: Document | None = None,
) -> tuple[Model, Document] | None:
    """The text of `found` as a model; None with every problem in `found`.

    `known` is a right document, mostly of the same text; its peers are taken over
    where their text is the same.
    """
    following = _following(known, found.text) if known is not None else None
    value = parse_json(found.text, found) if following is None else following.value
    if found:
        return None
    if isinstance(value, list) and model is Fragment:
        found.unwrap = True
        value = {"peers": value}
    read = validated(model, value, found)
    if read is None:
        return None
    document = Document(found, read.peers, path)
    if following is not None:
        document.front, document.back = following.front, following.back
        document.layout = following.layout
    return read, document


def _following(known: Document, text: str) -> _Next | None:
    """None when the difference is not within the list, before it or behind it."""
    if known.layout is None:
        known.layout = layout_of(known.found.text)
    if known.layout is None or len(known.layout.ends) != len(known.peers):
        return None
    old = known.found.text
    same, tail = _common(old, text)
    shift = len(text) - len(old)
    start, end, ends = known.layout
    count = len(ends)
    middle: list[Any] = []
    if end < same:
        layout, front, back = known.layout, count, 0
    elif tail < start:
        moved = array("q", [at + shift for at in ends])
        layout, front, back = Layout(start + shift, end + shift, moved), 0, count
    elif start <= same and tail <= end:
        front, last = bisect_right(ends, same), bisect_left(ends, tail)
        back = max(0, count - last - 1)
        here = ends[front - 1] if front else start
        there = (ends[last] if last < count else end) + shift
        found = _between(text[here:there], front > 0, back > 0)
        if found is None:
            return None
        middle, inner = found
        moved = array("q", [at + shift for at in ends[count - back :]])
        fresh = array("q", [at + here for at in inner])
        layout = Layout(start, end + shift, ends[:front] + fresh + moved)
    else:
        return None
    peers = [*known.peers[:front], *middle, *known.peers[count - back :]]
    value = _around(text, layout, peers)
    return None if value is None else _Next(value, layout, front, back)


def _between(text: str, front: bool, back: bool) -> tuple[list[Any], list[int]] | None:
    """The elements in a part of a list and where they end; None when it is none.
    `front` and `back`: there are more before it, and behind it."""
    head, foot = "[{}" if front else "[", ",{}]" if back else "]"
    whole, found = f"{head}{text}{foot}", Found()
    values = parse_json(whole, found)
    if found:
        return None
    ends = _walk(whole, 1)[0]
    chosen = slice(int(front), len(ends) - int(back))
    return values[chosen], [at - len(head) for at in ends[chosen]]


def _around(text: str, layout: Layout, peers: list[Any]) -> Any:
    """The value of a text with `peers` as its list; None when it is not that."""
    around = text[: layout.start] + _SPELLED + text[layout.end :]
    found = Found()
    value = parse_json(around, found)
    if found or around.count(_SPELLED) != 1:
        return None
    if value == [_MARK]:
        return peers
    if isinstance(value, dict) and value.get("peers") == [_MARK]:
        value["peers"] = peers
        return value
    return None


def layout_of(text: str) -> Layout | None:
    """Of the list of peers in a JSON text, or of the list that it is; None if there is
    none. `IndexError` or `StopIteration` when the text is not JSON."""
    at = _skip(text, 0)
    if text[at] == "[":
        return Layout(at + 1, *_walk(text, at + 1)[::-1])
    if text[at] != "{":
        return None
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _SCAN(text, at)
        at = _skip(text, _skip(text, at) + 1)  # the colon
        if key == "peers" and text[at] == "[":
            return Layout(at + 1, *_walk(text, at + 1)[::-1])
        at = _SCAN(text, at)[1]
        comma = _COMMA(text, at)
        at = comma.end() if comma else _skip(text, at)
    return None


def _walk(text: str, at: int) -> tuple[array[int], int]:
    """Where the elements of a list end, and its bracket; `at` is behind the first."""
    ends = array("q")
    at = _skip(text, at)
    while text[at] != "]":
        at = _SCAN(text, at)[1]
        ends.append(at)
        comma = _COMMA(text, at)
        at = comma.end() if comma else _skip(text, at)
    return ends, at


def _skip(text: str, at: int) -> int:
    space = _SPACE(text, at)
    return space.end() if space else at


def _common(old: str, new: str) -> tuple[int, int]:
    """So many characters are the same at the beginning; from which one on in `old`
    all are the same up to the end, further behind."""
    most = min(len(old), len(new))
    front = _longest(most, lambda a, b: old[a:b] == new[a:b])

    def ends_alike(a: int, b: int) -> bool:
        return old[len(old) - b : len(old) - a] == new[len(new) - b : len(new) - a]

    return front, len(old) - _longest(most - front, ends_alike)


def _longest(most: int, same: Callable[[int, int], bool]) -> int:
    """The largest n up to `most` for which all below n is the same."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if same(low, middle):
            low = middle
        else:
            high = middle - 1
    return low
