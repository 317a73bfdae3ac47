"""Bytes to JSON to models, with errors for people: line, what is wrong, how to mend.

Stricter than `json`: a key may stand in an object only once, and the text must be
UTF-8. The shape is checked here; what the values mean is not.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from tunnel.config.positions import scan
from tunnel.config.problems import Found

__all__ = ["decode", "parse_json", "validated"]

Model = TypeVar("Model", bound=BaseModel)

MAX_DOCUMENT: Final = 256 << 20  # bytes; a million peers need about 200 MiB

_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00{", b"{\x00")
_NO_BOM: Final = "save it as UTF-8 without BOM"
_BARE_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\s*:")


def decode(raw: bytes, found: Found) -> str | None:
    """The text of a file, or None with the reason in `found`."""
    if raw.startswith(b"\xef\xbb\xbf"):
        found.add((), "starts with a byte order mark", _NO_BOM, 1)
        return None
    if raw.startswith(_WIDE):
        found.add((), "is UTF-16, not UTF-8", _NO_BOM, 1)
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start
    line = raw.count(b"\n", 0, start) + 1
    column = start - raw.rfind(b"\n", 0, start)
    found.add((), f"byte {column} of the line is not UTF-8", "save it as UTF-8", line)
    return None


def parse_json(text: str, found: Found) -> Any:
    """The value of a text; None with the reason in `found` when there is none."""
    if text.startswith("\ufeff"):
        found.add((), "starts with a byte order mark", _NO_BOM, 1)
        return None
    if not text.strip():
        found.add((), "is empty", 'write at least {"mode": …}, see docs/config.md', 1)
        return None
    duplicated = False

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicated
        members = dict(pairs)
        if len(members) != len(pairs):
            duplicated = True
        return members

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        position = _at_the_comma(text, error.pos)
    except RecursionError:
        found.add((), "is nested too deeply", "no key needs more than 4 levels", 1)
        return None
    except ValueError:
        found.add((), "holds a number with thousands of digits", "", 1)
        return None
    else:
        if duplicated:
            _add_duplicates(text, found)
            return None
        return value
    message, hint = _explain(text, position)
    found.add((), message, hint, text.count("\n", 0, position) + 1)
    return None


def validated(model: type[Model], value: Any, found: Found) -> Model | None:
    """The value as a model; None with every wrong key in `found`.

    pydantic's error holds the input, so it never leaves this function.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found.add_schema(error, model)
    return None


def _add_duplicates(text: str, found: Found) -> None:
    before = bool(found)
    for twice in scan(text).duplicates:
        found.add(
            twice.path,
            f"the key stands on line {twice.first_line} and on line "
            f"{twice.second_line}",
            "keep one of them",
            twice.second_line,
        )
    if not before and not found:
        found.add((), "an object holds the same key twice", "keep one of them", 1)


def _at_the_comma(text: str, position: int) -> int:
    """A trailing comma is found at the bracket behind it, since Python 3.13 where it
    stands; the latter is what has to be mended."""
    before = text[:position].rstrip()
    closes = text[position : position + 1] in {"}", "]"}
    return len(before) - 1 if closes and before.endswith(",") else position


def _explain(text: str, position: int) -> tuple[str, str]:
    """What stands at `position`, without quoting the text (it may hold a secret)."""
    rest = text[position : position + 200].lstrip()
    before = text[max(0, position - 200) : position].rstrip()[-1:]
    if rest[:1] == "," and rest[1:].lstrip()[:1] in ("}", "]"):
        return "a comma before the closing bracket", "remove the trailing comma"
    if rest[:1] in ("}", "]") and before == ",":
        return "a comma before the closing bracket", "remove the trailing comma"
    if rest[:2] in ("//", "/*") or rest[:1] == "#":
        return "JSON has no comments", "remove the comment"
    if rest[:1] == "'":
        return "a text in single quotes", 'write texts in double quotes: "…"'
    if not rest:
        return "the text ends too early", "close every { [ and quote"
    after_value = before in ('"', "}", "]") or before.isalnum()
    if rest[:1] in ('"', "{", "[") and after_value and not _is_whole(text[:position]):
        return "a comma is missing before this", "put a comma between two entries"
    if _BARE_KEY.match(rest):
        return "a key without quotes", 'write keys in double quotes: "mode": …'
    if rest[:4] in ("True", "None") or rest[:5] == "False":
        return "not a JSON word", "write true, false or null in small letters"
    return _explain_string(text, position)


def _explain_string(text: str, position: int) -> tuple[str, str]:
    character = text[position : position + 1]
    if character and ord(character) < 0x20:
        return "a text holds a line break or control character", "close the quote"
    if character == '"':
        return "a text is not closed", "close the quote"
    if text[:position].strip() and _is_whole(text[:position]):
        return "something follows after the end of the JSON value", "remove it"
    return "this is not JSON here", "see https://www.json.org for the grammar"


def _is_whole(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
