"""Values of the WireGuard UAPI's keys: text to what states are made of.

UapiError (EINVAL) says what a value should have looked like, and never repeats it: it
may be a secret.
"""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, if_nametoindex, inet_pton
from typing import Final

from tunnel.errors import UapiError
from tunnel.state.model import Endpoint, Prefix, mask, unmapped

__all__ = [
    "invalid",
    "parse_endpoint",
    "parse_key",
    "parse_number",
    "parse_prefix",
    "parse_true",
]


def invalid(what: str) -> UapiError:
    return UapiError(errno.EINVAL, what)


def parse_key(value: bytes) -> bytes:
    try:
        key = bytes.fromhex(value.decode())
    except ValueError:
        key = b""
    if len(key) != 32 or len(value) != 64:  # fromhex passes over white space
        raise invalid("a key has 64 hexadecimal digits")
    return key


def parse_number(value: bytes | str, limit: int, what: str) -> int:
    if not value.isdigit() or len(value) > 10 or int(value) > limit:
        raise invalid(f"{what} is a number from 0 to {limit}")
    return int(value)


def parse_true(value: bytes) -> bool:
    if value != b"true":
        raise invalid("the only value is true")
    return True


def _address(text: str) -> bytes:
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise invalid("not an IP address") from None


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise invalid("not ASCII") from None


_WHOLE: Final = {"32": 32, "128": 128}  # a single address, which is most of them


def parse_prefix(value: bytes) -> Prefix:
    """`address/length` with any host bits, or an address alone."""
    address, slash, length = _text(value).partition("/")
    packed = _address(address)
    bits = len(packed) * 8
    if not slash or _WHOLE.get(length) == bits:
        return packed, bits
    return mask(packed, parse_number(length, bits, "the prefix length"))


def parse_endpoint(value: bytes) -> Endpoint:
    """`192.0.2.1:51820` or `[2001:db8::1%eth0]:51820`, numbers only."""
    host, colon, port = _text(value).rpartition(":")
    if not colon or (":" in host) != (host[:1] == "[" and host[-1:] == "]"):
        raise invalid("an endpoint is address:port or [address]:port")
    address, percent, scope = host.strip("[]").partition("%")
    packed = unmapped(_address(address))
    number = parse_number(port.encode(), 65535, "a port")
    return packed, number, _scope(scope) if percent else 0


def _scope(name: str) -> int:
    if name.isdigit() and len(name) <= 9:
        return int(name)
    try:
        return if_nametoindex(name)
    except (OSError, ValueError):
        raise invalid("no such interface in the endpoint's scope") from None
