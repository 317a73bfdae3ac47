"""The values of a wg-quick file: what each key holds, and how its text is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tunnel.config.hidden import shown
from tunnel.config.values import (
    BadValue,
    HostPort,
    parse_address,
    parse_fwmark,
    parse_host_port,
    parse_ip,
    parse_key,
    parse_prefix,
)
from tunnel.state.model import (
    Address,
    Prefix,
    Secret,
    clamp,
    secret_or_none,
)

__all__ = ["HOOKS", "INTERFACE", "LISTS", "PEER", "InterfaceValues", "PeerValues"]

_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}", re.ASCII)


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
LISTS: Final = frozenset({"Address", "DNS", "AllowedIPs"})
INTERFACE: Final[dict[str, Callable[[str], Any]]] = {
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
PEER: Final[dict[str, Callable[[str], Any]]] = {
    "PublicKey": _public,
    "PresharedKey": _secret,
    "Endpoint": parse_host_port,
    "AllowedIPs": parse_prefix,
    "PersistentKeepalive": _keepalive,
}
