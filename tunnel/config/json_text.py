"""Edits JSON as text: what is not touched keeps its order, spaces and spelling.

Objects and arrays are walked with the decoder of `json`, value by value, so that ten
thousand entries cost milliseconds. The text must be valid JSON already.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Container", "append", "member", "remove", "replace", "set_member"]

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Item:
    """A member or an element. `start` is where its key or value begins, `value_start`
    and `end` enclose the value."""

    key: str
    value: Any
    start: int
    value_start: int
    end: int


@dataclass(frozen=True, slots=True)
class Container:
    """An object or array of a text: from its opening bracket to behind the closing
    one, and what is in it."""

    start: int
    end: int
    items: tuple[Item, ...]

    @classmethod
    def at(cls, text: str, position: int = 0) -> Container:
        """The container whose bracket is the next thing behind `position`."""
        start = _skip(text, position)
        if text[start] not in "{[":
            raise ValueError("neither an object nor an array")
        is_object, items = text[start] == "{", []
        cursor = _skip(text, start + 1)
        while text[cursor] not in "}]":
            if text[cursor] == ",":
                cursor = _skip(text, cursor + 1)
            item_start, key = cursor, ""
            if is_object:
                key, cursor = _DECODER.raw_decode(text, cursor)
                cursor = _skip(text, _skip(text, cursor) + 1)
            value, end = _DECODER.raw_decode(text, cursor)
            items.append(Item(key, value, item_start, cursor, end))
            cursor = _skip(text, end)
        return cls(start, cursor + 1, tuple(items))


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def member(container: Container, key: str) -> Item | None:
    for item in container.items:
        if item.key == key:
            return item
    return None


def replace(text: str, item: Item, value: Any) -> str:
    """The text with another value in that place; the same value changes nothing."""
    if item.value == value and type(item.value) is type(value):
        return text
    return text[: item.value_start] + _spell(value) + text[item.end :]


def remove(text: str, container: Container, item: Item) -> str:
    """The text without a member or element, and without its comma."""
    at = container.items.index(item)
    if len(container.items) == 1:
        return text[: container.start + 1] + text[container.end - 1 :]
    if at == 0:
        return text[: item.start] + text[container.items[1].start :]
    return text[: container.items[at - 1].end] + text[item.end :]


def append(text: str, container: Container, value: Any, key: str = "") -> str:
    """The text with one more element (or member), laid out as the last one is."""
    name = f"{_spell(key)}: " if key else ""
    outer = _indent(text, container.start)
    if not container.items:
        inner = outer + "  "
        spelled = name + _spell(value)
        return (
            f"{text[: container.start + 1]}\n{inner}{spelled}\n{outer}"
            f"{text[container.end - 1 :]}"
        )
    last = container.items[-1]
    before = text[container.start + 1 : container.items[0].start]
    if len(container.items) > 1:
        gap = text[container.items[-2].end : last.start]
        before = gap[gap.index(",") + 1 :]
    spelled = _spell(value)
    if "\n" in text[last.value_start : last.end] and isinstance(value, dict | list):
        inner = _indent(text, last.start)
        spelled = json.dumps(value, indent=2, ensure_ascii=False).replace(
            "\n", f"\n{inner}"
        )
    if not before and key:
        before = " "
    return f"{text[: last.end]},{before or ' '}{name}{spelled}{text[last.end :]}"


def set_member(text: str, container: Container, key: str, value: Any) -> str:
    """The text with a member set; None takes it out."""
    item = member(container, key)
    if value is None:
        return text if item is None else remove(text, container, item)
    if item is None:
        return append(text, container, value, key)
    return replace(text, item, value)


def _spell(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _indent(text: str, position: int) -> str:
    """The white space that the line of `position` starts with."""
    line = text.rfind("\n", 0, position) + 1
    return text[line : _skip_blanks(text, line)]


def _skip_blanks(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t") and position < len(text):
        position += 1
    return position
