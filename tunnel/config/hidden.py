"""Keeps keys out of what people get to read, whatever field they were written into."""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["HIDDEN", "hide_keys", "shown"]

HIDDEN: Final = "(hidden)"
_SHOWN: Final = 60  # characters
_SHRINKS: Final = 64 // len(HIDDEN) + 1  # to so much of its length, at most

_BASE64: Final = "[A-Za-z0-9+/]"
_KEY: Final = re.compile(
    f"{_BASE64}{{43}}="
    # as a double click takes it, perhaps as a prefix
    f"|(?<!{_BASE64}){_BASE64}{{43}}(?=(?:/[0-9]{{1,3}})?(?!{_BASE64}))"
    # as the UAPI writes it
    "|[0-9A-Fa-f]{64}"
)


def hide_keys(text: str, most: int | None = None) -> str:
    """The text with `(hidden)` for all that could be a key of 32 bytes; then cut to
    `most` characters, so that no half of a key is left. Public ones look the same:
    where one is meant to be seen, this is not asked."""
    if most is not None:  # of a long text only what can be seen then
        text = text[: (most + 1) * _SHRINKS]
    return _KEY.sub(HIDDEN, text)[:most]


def shown(text: str) -> str:
    """A configured text for an error message: without keys, quoted, ASCII only,
    shortened."""
    text = hide_keys(text, _SHOWN + 1)
    quoted = json.dumps(text)
    return quoted if len(text) <= _SHOWN else quoted[:_SHOWN] + '…"'
