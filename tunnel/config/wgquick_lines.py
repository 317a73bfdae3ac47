"""The sections of a wg-quick file, from lines to values.

The grammar is that of `wg setconf` and of wg-quick's own parser: keys in any case,
`#` starts a comment except in hooks, lists with commas, keys that hold lists may
repeat. Stricter than both: a key that holds one value stands once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from tunnel.config.identity import normal_name
from tunnel.config.values import (
    BadValue,
    HostPort,
    parse_address,
    parse_fwmark,
    parse_host_port,
    parse_ip,
    parse_key,
    parse_prefix,
    shown,
)
from tunnel.config.wgquick_sections import Block, Problems
from tunnel.state.model import (
    Address,
    Prefix,
    Secret,
    canonical_prefixes,
    clamp,
    secret_or_none,
)

__all__ = [
    "HOOKS",
    "NAMED",
    "InterfaceValues",
    "PeerValues",
    "canonical_key",
    "name_in",
    "read_interface",
    "read_peer",
    "settings",
]

NAMED: Final = re.compile(r"#+\s*(friendly_name|name)\s*=\s*(.*)", re.IGNORECASE)
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}", re.ASCII)
_NAME_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class InterfaceValues:
    """`[Interface]`; None: the key is not there. `hooks` are (key, command) pairs in
    their order."""

    private_key: Secret | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    addresses: tuple[Address, ...] = ()
    dns: tuple[bytes, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    table: str | None = None
    hooks: tuple[tuple[str, str], ...] = ()
    save_config: bool | None = None


@dataclass(frozen=True, slots=True)
class PeerValues:
    """`[Peer]`; `endpoint` may hold a host name."""

    public_key: bytes
    name: str = ""
    preshared_key: Secret | None = None
    endpoint: HostPort | None = None
    allowed_ips: tuple[Prefix, ...] = ()
    keepalive: int | None = None


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.isdigit() and text.isascii() and len(text) <= 10
        if digits and lowest <= int(text) <= highest:
            return int(text)
        raise BadValue(f"{shown(text)} is not a number from {lowest} to {highest}")

    return parse


def _keepalive(text: str) -> int:
    return 0 if text.lower() == "off" else _number(0, 65535)(text)


def _fwmark(text: str) -> int:
    return parse_fwmark(text.lower())


def _flag(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise BadValue(f"{shown(text)} is neither true nor false")


def _table(text: str) -> str:
    if _TABLE.fullmatch(text):
        return text
    raise BadValue(f"{shown(text)} is no routing table", "write auto, off or a number")


def _dns(text: str) -> bytes | str:
    """An address, or a search domain."""
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        return parse_ip(text)
    if _DOMAIN.fullmatch(text):
        return text
    raise BadValue(f"{shown(text)} is no address and no domain")


def _command(text: str) -> str:
    if text:
        return text
    raise BadValue("there is no command", "write one, or take the line out")


def _secret(text: str) -> Secret | None:
    return secret_or_none(parse_key(text))


def _private(text: str) -> Secret | None:
    return secret_or_none(clamp(raw)) if any(raw := parse_key(text)) else None


def _public(text: str) -> bytes:
    key = parse_key(text)
    if not any(key):
        raise BadValue("32 zero bytes are no key", "write the peer's public key")
    return key


HOOKS: Final = ("PreUp", "PostUp", "PreDown", "PostDown")
_LISTS: Final = frozenset({"Address", "DNS", "AllowedIPs"})
_INTERFACE: Final[dict[str, Callable[[str], Any]]] = {
    "PrivateKey": _private,
    "ListenPort": _number(0, 65535),
    "FwMark": _fwmark,
    "Address": parse_address,
    "DNS": _dns,
    "MTU": _number(576, 65535),
    "Table": _table,
    "SaveConfig": _flag,
    **dict.fromkeys(HOOKS, _command),
}
_PEER: Final[dict[str, Callable[[str], Any]]] = {
    "PublicKey": _public,
    "PresharedKey": _secret,
    "Endpoint": parse_host_port,
    "AllowedIPs": parse_prefix,
    "PersistentKeepalive": _keepalive,
}


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
            if key in lines and key not in _LISTS and key not in HOOKS:
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
        if key in _LISTS:
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
            elif key in _LISTS:
                self.many[key].append(value)
            else:
                self.one[key] = value


def read_interface(block: Block, problems: Problems) -> InterfaceValues:
    """The values of `[Interface]`; what is wrong goes to `problems`."""
    read = _Reader(block, "Interface", _INTERFACE, problems)
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
    read = _Reader(block, f"Peer[{index}]", _PEER, problems)
    if "PublicKey" not in read.one and len(problems.found) == before:
        problems.add(
            f"Peer[{index}].PublicKey", block.line, "missing", "write PublicKey = …"
        )
    return PeerValues(
        public_key=read.one.get("PublicKey", b""),
        name=name_in(block.lines)[1],
        preshared_key=read.one.get("PresharedKey"),
        endpoint=read.one.get("Endpoint"),
        allowed_ips=canonical_prefixes(read.many.get("AllowedIPs", [])),
        keepalive=read.one.get("PersistentKeepalive"),
    )


# --- names


def _usable(name: str) -> bool:
    return 0 < len(name) <= _NAME_MAX and name.isprintable() and name == name.strip()


def name_in(lines: Iterable[str]) -> tuple[int, str]:
    """(line, name) of the comment that names a peer; (-1, "") when there is none."""
    plain: tuple[int, str] = (-1, "")
    named: tuple[int, str] = (-1, "")
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
            if match and (named[0] < 0 or match[1].lower() == "friendly_name"):
                named = index, normal_name(name)
            elif not match and index == below + 1 and "=" not in name:
                plain = index, normal_name(name)
    return named if named[0] >= 0 else plain
