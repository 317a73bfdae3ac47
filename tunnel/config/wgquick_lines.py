"""The sections of a wg-quick file, from lines to values.

The grammar is that of `wg setconf` and of wg-quick's own parser: keys in any case,
`#` starts a comment except in hooks, lists with commas, keys that hold lists may
repeat. Stricter than both: a key that holds one value stands once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from tunnel.config.hidden import hide_keys
from tunnel.config.values import BadValue
from tunnel.config.wgquick_names import name_in
from tunnel.config.wgquick_sections import Block, Problems
from tunnel.config.wgquick_values import (
    HOOKS,
    INTERFACE,
    LISTS,
    PEER,
    InterfaceValues,
    PeerValues,
)
from tunnel.state.model import canonical_prefixes
from tunnel.state.render import address_text

__all__ = [
    "canonical_key",
    "check_unique",
    "read_interface",
    "read_peer",
    "settings",
]


def canonical_key(key: str, known: Iterable[str]) -> str | None:
    lower = key.strip().lower()
    return next((name for name in known if name.lower() == lower), None)


def settings(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """(index, key as written, value) of every line that is not a comment; hooks keep
    what follows a `#`."""
    for index, line in enumerate(lines):
        bare = line.partition("#")[0].strip()
        if not bare or bare.startswith("["):
            continue
        key, _, value = bare.partition("=")
        if canonical_key(key, HOOKS):
            value = line.partition("=")[2]
        yield index, key.strip() if "=" in bare else bare, value.strip()


class _Reader:
    """The keys of one section, parsed: `one` values and `many` of lists."""

    def __init__(
        self,
        block: Block,
        at: str,
        table: dict[str, Callable[[str], Any]],
        problems: Problems,
    ) -> None:
        self.one: dict[str, Any] = {}
        self.many: dict[str, list[Any]] = {}
        self.hooks: list[tuple[str, str]] = []
        self._at, self._table, self._problems = at, table, problems
        lines: dict[str, int] = {}
        for index, written, text in settings(block.lines):
            number = block.start + index
            key = canonical_key(written, table)
            if key is None or "=" not in block.lines[index]:
                self._unknown(written, number, key)
                continue
            if key in lines and key not in LISTS and key not in HOOKS:
                self._add(
                    key, number, f"stands on line {lines[key]} too", "keep one of them"
                )
            lines[key] = number
            self._value(key, text, number)

    def _add(self, key: str, line: int, message: str, hint: str = "") -> None:
        self._problems.add(f"{self._at}.{key}", line, message, hint)

    def _unknown(self, written: str, line: int, known: str | None) -> None:
        if known:
            self._add(known, line, "has no value", f"write {known} = …")
            return
        names = {name.lower(): name for name in self._table}
        close = get_close_matches(written[:64].lower(), names, n=1, cutoff=0.6)
        hint = f"did you mean {names[close[0]]}?" if close else ""
        # what stands there may be half of a secret: only a plain word is shown
        word = written if re.fullmatch(r"[A-Za-z]{1,32}", written) else "this line"
        self._add(word, line, "is no key of this section", hint)

    def _value(self, key: str, text: str, line: int) -> None:
        texts = [text]
        if key in LISTS:
            texts = text.replace(",", " ").split()
            self.many.setdefault(key, [])
        for part in texts:
            try:
                value = self._table[key](part)
            except BadValue as bad:
                self._add(key, line, bad.message, bad.hint)
                continue
            if key in HOOKS:
                self.hooks.append((key, value))
            elif key in LISTS:
                self.many[key].append(value)
            else:
                self.one[key] = value


def read_interface(block: Block, problems: Problems) -> InterfaceValues:
    """The values of `[Interface]`; what is wrong goes to `problems`."""
    read = _Reader(block, "Interface", INTERFACE, problems)
    one, dns = read.one, read.many.get("DNS", [])
    return InterfaceValues(
        private_key=one.get("PrivateKey"),
        listen_port=one.get("ListenPort"),
        fwmark=one.get("FwMark"),
        addresses=tuple(dict.fromkeys(read.many.get("Address", []))),
        dns=tuple(dict.fromkeys(d for d in dns if isinstance(d, bytes))),
        search=tuple(dict.fromkeys(d for d in dns if isinstance(d, str))),
        mtu=one.get("MTU"),
        table=one.get("Table"),
        hooks=tuple(read.hooks),
        save_config=one.get("SaveConfig"),
    )


def read_peer(block: Block, index: int, problems: Problems) -> PeerValues:
    """The values of a `[Peer]`, the `index`-th; the key is empty if it is missing."""
    before = len(problems.found)
    read = _Reader(block, f"Peer[{index}]", PEER, problems)
    if "PublicKey" not in read.one and len(problems.found) == before:
        problems.add(
            f"Peer[{index}].PublicKey", block.line, "missing", "write PublicKey = …"
        )
    return PeerValues(
        public_key=read.one.get("PublicKey", b""),
        name=name_in(block.lines).name,
        preshared_key=read.one.get("PresharedKey"),
        endpoint=read.one.get("Endpoint"),
        allowed_ips=canonical_prefixes(read.many.get("AllowedIPs", [])),
        keepalive=read.one.get("PersistentKeepalive"),
    )


def check_unique(
    values: PeerValues,
    block: Block,
    index: int,
    known: dict[object, str],
    problems: Problems,
) -> None:
    """Key, name and prefixes have one owner; `known` maps each to who it is."""
    own = f"{hide_keys(values.name) or 'the peer'} on line {block.line}"
    claims: list[tuple[str, object, str, str]] = [
        ("PublicKey", values.public_key, "the same key as", "every peer has its own")
    ]
    if values.name:
        claims.append(("name", values.name, "the same name as", "rename one of them"))
    claims += [
        ("AllowedIPs", prefix, f"{address_text(prefix[0])}/{prefix[1]} belongs to",
         "a prefix has one owner; give each peer its own")
        for prefix in values.allowed_ips
    ]  # fmt: skip
    for path, thing, message, hint in claims:
        other = known.setdefault(thing, own) if thing else own
        if other is not own:
            problems.add(
                f"Peer[{index}].{path}", block.line, f"{message} {other}", hint
            )
