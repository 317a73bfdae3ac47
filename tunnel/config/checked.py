"""Parses values of one document; every `BadValue` becomes a problem of its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.values import BadValue, parse_prefix, parse_seconds
from tunnel.state.model import Prefix, canonical_prefixes

__all__ = ["Checked"]

T = TypeVar("T")


class Checked:
    """Gives values; the problems go to `found`."""

    def __init__(self, found: Found) -> None:
        self.found = found

    def value(self, at: JsonPath, parse: Callable[[], T], default: T) -> T:
        """The `default` stands for a value that is wrong."""
        try:
            return parse()
        except BadValue as bad:
            self.found.add(at, bad.message, bad.hint)
            return default

    def each(
        self, at: JsonPath, texts: Sequence[str], parse: Callable[[str], T]
    ) -> list[T]:
        """Those of a list that are right."""
        values = []
        for index, text in enumerate(texts):
            try:
                values.append(parse(text))
            except BadValue as bad:
                self.found.add((*at, index), bad.message, bad.hint)
        return values

    def prefixes(self, at: JsonPath, texts: Sequence[str]) -> tuple[Prefix, ...]:
        return canonical_prefixes(self.each(at, texts, parse_prefix))

    def seconds(self, key: str, value: int | str, lowest: int, highest: int) -> int:
        seconds = self.value((key,), lambda: parse_seconds(value), lowest)
        if not lowest <= seconds <= highest:
            self.found.add(
                (key,),
                f"not between {lowest} and {highest} seconds",
                f'write "{min(highest, max(lowest, 25))}s"',
            )
        return seconds
