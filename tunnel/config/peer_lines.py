"""Files of peers with one peer a line: `PUBLIC_KEY ADDRESS[,ADDRESS…] [NAME]`.

They are read as the JSON that says the same, line for line, so that every problem has
its line and everything behind reads one language. Lines that begin with `#` and empty
ones are comments. What is written keeps the lines of peers that are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tunnel.config.problems import Found
from tunnel.errors import TunnelError

__all__ = [
    "add_line",
    "as_json",
    "edit_line",
    "entries_of",
    "has_lines",
    "is_lines",
    "with_entries",
]

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{43}=")
_KEYS: Final = frozenset({"publicKey", "allowedIPs", "name"})


def is_lines(text: str) -> bool:
    """Whether a text is such a file, right or wrong, rather than JSON."""
    start = text.lstrip()[:1]
    return start not in ("", "[", "{")


def has_lines(text: str) -> bool:
    """Whether a text that may also be a wg-quick file is such a file: its first peer
    begins with a key."""
    first = next((e for e in map(_entry, _lines(text)) if e is not None), None)
    return first is not None and _KEY.fullmatch(first["publicKey"]) is not None


def as_json(text: str, found: Found) -> str:
    """The same list of peers as JSON, each on its line. Problems go to `found`."""
    rows: list[str] = []
    begun = False
    for number, line in enumerate(_lines(text), 1):
        entry = _entry(line)
        if entry is None:
            rows.append("")
            continue
        if "allowedIPs" not in entry:
            hint = "write: PUBLIC_KEY ADDRESS NAME"
            found.add((), "a peer has no address", hint, number)
        rows.append(f"{',' if begun else ''}{json.dumps(entry, ensure_ascii=False)}")
        begun = True
    if not text.endswith("\n"):
        hint = "end it with a line break; without one it may be cut off"
        found.add((), "the last line has no end", hint, len(rows))
    return "[" + "\n".join(rows) + "]"


def entries_of(text: str) -> list[dict[str, Any]]:
    """The peers of a right file, as config.json would write them."""
    return [entry for entry in map(_entry, _lines(text)) if entry is not None]


def with_entries(text: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """The file with these peers in this order. Comments above a peer go with it; those
    of a peer that is gone stay. Raises TunnelError for what a line cannot say."""
    old = list(_blocks(text))
    blocks = {entry["publicKey"]: (entry, rows) for entry, rows in old if entry}
    wanted = {entry.get("publicKey") for entry in entries}
    gone = [row for e, rows in old if e and e["publicKey"] not in wanted
            for row in rows[:-1]]  # fmt: skip
    lines = list(gone)
    for entry in entries:
        before, rows = blocks.get(entry.get("publicKey"), (None, [""]))
        lines += rows[:-1]
        lines.append(rows[-1] if before == dict(entry) else _spelled(entry))
    lines += [row for e, rows in old if e is None for row in rows]
    return "".join(f"{line}\n" for line in lines)


def add_line(text: str, entry: Mapping[str, Any]) -> str:
    """The file with one more peer, an entry of config.json."""
    return with_entries(text, [*entries_of(text), entry])


def edit_line(text: str, key: str, members: Mapping[str, Any] | None) -> str | None:
    """The file with members of one peer set (None takes one out), or with None without
    that peer; None when it is not there."""
    entries = entries_of(text)
    places = [n for n, entry in enumerate(entries) if entry["publicKey"] == key]
    if not places:
        return None
    (place,) = places[:1]
    if members is None:
        del entries[place]
    else:
        changed = entries[place] | dict(members)
        entries[place] = {k: v for k, v in changed.items() if v is not None}
    return with_entries(text, entries)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _entry(line: str) -> dict[str, Any] | None:
    """One line as an entry of config.json; None for a comment."""
    words = line.split(maxsplit=2)
    if not words or words[0].startswith("#"):
        return None
    entry: dict[str, Any] = {"publicKey": words[0]}
    if len(words) > 1:
        entry["allowedIPs"] = words[1].split(",")
    if len(words) > 2:
        name = words[2].strip().removeprefix("#").strip()
        if name:
            entry["name"] = name
    return entry


def _blocks(text: str) -> Iterator[tuple[dict[str, Any] | None, list[str]]]:
    """Each peer with the lines that end in its own; what follows the last with None."""
    rows: list[str] = []
    for line in _lines(text):
        rows.append(line)
        entry = _entry(line)
        if entry is not None:
            yield entry, rows
            rows = []
    yield None, rows


def _spelled(entry: Mapping[str, Any]) -> str:
    who = entry.get("name") or entry.get("publicKey") or "the peer"
    more = sorted(set(entry) - _KEYS)
    missing = [key for key in ("publicKey", "allowedIPs") if not entry.get(key)]
    if more or missing:
        what = f"cannot say {', '.join(more)}" if more else f"needs {missing[0]}"
        raise TunnelError(
            f"{who}: a file with one peer a line {what}",
            hint='write this file as JSON: [{"name": …, "publicKey": …}]',
        )
    name = str(entry.get("name") or "")
    name = f"# {name}" if name.startswith("#") else name
    return f"{entry['publicKey']} {','.join(entry['allowedIPs'])} {name}".rstrip()
