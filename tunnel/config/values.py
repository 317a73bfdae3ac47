"""The small languages inside config.json: prefixes, endpoints, durations, keys.

Every parser returns the packed form used by `tunnel.state.model` or raises `BadValue`
with what is wrong and what to write instead. Keys are never echoed. No name is
resolved and no file is read here.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from tunnel.config.hidden import shown
from tunnel.state.model import Address, Prefix, mask

__all__ = [
    "BadValue",
    "HostPort",
    "parse_address",
    "parse_bind",
    "parse_fwmark",
    "parse_host_port",
    "parse_interface_name",
    "parse_ip",
    "parse_key",
    "parse_listen",
    "parse_prefix",
    "parse_seconds",
]

HostPort = tuple[str, int]

_DURATION: Final = re.compile(
    r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?", re.ASCII
)
_LABEL: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII
)
_INTERFACE: Final = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}", re.ASCII)
_KEY_END: Final = frozenset("AEIMQUYcgkosw048")
_KEY_HINT: Final = "a key is 44 characters of base64, as `tunnel genkey` prints"
_PREFIX_HINT: Final = 'write it as "10.0.0.0/24" or "fd00::/64"'
_ENDPOINT_HINT: Final = 'write "host:port", or "[fd00::1]:51820" for IPv6'


class BadValue(ValueError):
    """A text that does not mean anything; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse_seconds(value: int | str) -> int:
    """Whole seconds out of 15, "15", "15s", "1m30s", "2h" or "off" (0)."""
    if isinstance(value, int):
        return value
    text = value.strip()
    if text == "off":
        return 0
    found = _DURATION.fullmatch(text) if text else None
    if found is None:
        raise BadValue(
            f"{shown(value)} is not a time in whole seconds",
            'write "25s", "1m30s" or a number of seconds',
        )
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _packed(family: int, text: str) -> bytes:
    """b"" for what is no address."""
    try:
        return inet_pton(family, text)
    except (OSError, ValueError):
        return b""


def _packed_ip(text: str) -> bytes:
    return _packed(AF_INET6 if ":" in text else AF_INET, text)


def parse_ip(text: str) -> bytes:
    """An IPv4 or IPv6 address, packed."""
    packed = _packed_ip(text)
    if not packed:
        raise BadValue(f"{shown(text)} is not an IP address", 'write "10.0.0.1"')
    return packed


def parse_address(text: str) -> Address:
    """An address with its prefix length; without a length it stands for itself."""
    host, slash, length = text.partition("/")
    packed = _packed_ip(host)
    if not packed:
        raise BadValue(f"{shown(text)} is not an IP prefix", _PREFIX_HINT)
    bits = len(packed) * 8
    if not slash:
        return packed, bits
    if length.isdigit() and length.isascii() and len(length) <= 3:
        cidr = int(length)
        if cidr <= bits:
            return packed, cidr
    raise BadValue(
        f"the prefix length of {shown(text)} is not between 0 and {bits}", _PREFIX_HINT
    )


def parse_prefix(text: str) -> Prefix:
    """A prefix with its host bits masked away, as the kernel does."""
    if text.endswith("/32"):  # what most peers have, without the detours
        try:
            return inet_pton(AF_INET, text[:-3]), 32
        except (OSError, ValueError):
            pass  # IPv6, or wrong: found out below
    return mask(*parse_address(text))


def _parse_port(text: str, whole: str, lowest: int) -> int:
    if text.isdigit() and text.isascii() and len(text) <= 5:
        port = int(text)
        if lowest <= port <= 65535:
            return port
    raise BadValue(
        f"the port of {shown(whole)} is not between {lowest} and 65535", _ENDPOINT_HINT
    )


def _check_host_name(host: str, whole: str) -> None:
    """Accept what DNS could hold; dotted numbers that are no address are a typo."""
    name = host
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            name = ""
    labels = name.removesuffix(".").split(".")
    fine = len(name) <= 253 and all(map(_LABEL.fullmatch, labels))
    if not fine or labels[-1].isdigit():
        raise BadValue(
            f"{shown(whole)} has no valid host name or address", _ENDPOINT_HINT
        )


def parse_host_port(text: str) -> HostPort:
    """("host", port); brackets of an IPv6 address are taken off, a zone stays."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise BadValue(f"{shown(text)} has no port", _ENDPOINT_HINT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        address, _, zone = host.partition("%")
        if ":" not in address or ("%" in host and not _INTERFACE.fullmatch(zone)):
            raise BadValue(f"{shown(text)} holds no IPv6 address", _ENDPOINT_HINT)
        parse_ip(address)
    elif ":" in host:
        raise BadValue(
            f"{shown(text)} is IPv6 without brackets", 'write "[fd00::1]:51820"'
        )
    elif not _packed(AF_INET, host):
        _check_host_name(host, text)
    return host, _parse_port(port, text, 1)


def parse_listen(value: int | str) -> tuple[bytes, int]:
    """(packed address or b"" for every address, port); port 0 lets the system choose.

    Accepts 51820, "51820", ":51820", "0.0.0.0:51820" and "[::]:51820".
    """
    if isinstance(value, int):
        if 0 <= value <= 65535:
            return b"", value
        raise BadValue("the port is not between 0 and 65535", "write 51820")
    host, colon, port = value.rpartition(":")
    number = _parse_port(port, value, 0)
    if not host:
        return b"", number
    bracketed = host.startswith("[") and host.endswith("]")
    packed = _packed_ip(host[1:-1] if bracketed else host)
    if not colon or not packed or bracketed != (len(packed) == 16):
        raise BadValue(
            f"{shown(value)} does not start with an address of this machine",
            'write ":51820", "0.0.0.0:51820" or "[::]:51820"',
        )
    return packed, number


def parse_bind(text: str) -> str:
    """Where the management API listens: "host:port" or "unix:/path"."""
    if text.startswith("unix:"):
        if text.startswith("unix:/") and len(text) <= 112 and text.isprintable():
            return text
        raise BadValue(
            f"{shown(text)} is not a socket path", 'write "unix:/run/tunnel.sock"'
        )
    try:
        parse_host_port(text)
    except BadValue as bad:
        raise BadValue(bad.message, 'write "127.0.0.1:7777"') from None
    return text


def parse_fwmark(value: int | str) -> int:
    """0 to 2^32-1 out of a number, "0x..", decimal digits or "off"."""
    number = -1
    if isinstance(value, int):
        number = value
    elif value == "off":
        number = 0
    elif re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}", value):
        number = int(value, 16 if value[:2] in ("0x", "0X") else 10)
    if 0 <= number <= 0xFFFFFFFF:
        return number
    raise BadValue(
        "a firewall mark is a number from 0 to 4294967295", 'write 51820 or "0xca6c"'
    )


def parse_interface_name(text: str) -> str:
    """A name that Linux and wg-quick accept."""
    if _INTERFACE.fullmatch(text) and text not in (".", ".."):
        return text
    raise BadValue(
        f"{shown(text)} is not an interface name",
        "1 to 15 of a-z A-Z 0-9 _ = + . -",
    )


def parse_key(text: str) -> bytes:
    """32 bytes out of canonical base64; the text is never part of the error."""
    if len(text) == 44 and text[42] in _KEY_END:
        try:
            raw = a2b_base64(text, strict_mode=True)
            if len(raw) == 32:  # then the last character is the padding
                return raw
        except (Base64Error, ValueError):
            pass
    size = f"{len(text)} characters" if len(text) != 44 else "not base64"
    raise BadValue(f"not a 32-byte key in base64 ({size})", _KEY_HINT)
