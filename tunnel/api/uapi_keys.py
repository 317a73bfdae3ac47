"""The keys of the UAPI, one function each: a value changes the request it stands in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tunnel.api.uapi_requests import PeerEdit, SetRequest
from tunnel.api.uapi_values import (
    invalid,
    parse_endpoint,
    parse_key,
    parse_number,
    parse_prefix,
    parse_true,
)
from tunnel.state.model import Secret, clamp, secret_or_none

__all__ = ["DEVICE_KEYS", "PEER_KEYS"]


def _set_private_key(request: SetRequest, value: bytes) -> None:
    key = secret_or_none(parse_key(value))
    request.private_key = key and Secret(clamp(key.reveal()))


def _set_listen_port(request: SetRequest, value: bytes) -> None:
    request.listen_port = parse_number(value, 65535, "listen_port")


def _set_fwmark(request: SetRequest, value: bytes) -> None:
    request.fwmark = parse_number(value, 0xFFFFFFFF, "fwmark")


def _set_replace_peers(request: SetRequest, value: bytes) -> None:
    request.replace_peers = parse_true(value)


def _set_preshared_key(peer: PeerEdit, value: bytes) -> None:
    peer.preshared_key = secret_or_none(parse_key(value))


def _set_endpoint(peer: PeerEdit, value: bytes) -> None:
    peer.endpoint = parse_endpoint(value)


def _set_keepalive(peer: PeerEdit, value: bytes) -> None:
    peer.keepalive = parse_number(value, 65535, "persistent_keepalive_interval")


def _set_remove(peer: PeerEdit, value: bytes) -> None:
    peer.remove = parse_true(value)


def _set_update_only(peer: PeerEdit, value: bytes) -> None:
    peer.update_only = parse_true(value)


def _set_replace_allowed_ips(peer: PeerEdit, value: bytes) -> None:
    peer.replace_allowed_ips = parse_true(value)
    peer.allowed_ips.append(None)


def _set_allowed_ip(peer: PeerEdit, value: bytes) -> None:
    add = value[:1] != b"-"
    peer.allowed_ips.append((add, parse_prefix(value if add else value[1:])))


def _set_protocol_version(_peer: PeerEdit, value: bytes) -> None:
    if value != b"1":
        raise invalid("protocol_version is 1")


DEVICE_KEYS: Final[dict[bytes, Callable[[SetRequest, bytes], None]]] = {
    b"private_key": _set_private_key,
    b"listen_port": _set_listen_port,
    b"fwmark": _set_fwmark,
    b"replace_peers": _set_replace_peers,
}
PEER_KEYS: Final[dict[bytes, Callable[[PeerEdit, bytes], None]]] = {
    b"allowed_ip": _set_allowed_ip,
    b"preshared_key": _set_preshared_key,
    b"endpoint": _set_endpoint,
    b"persistent_keepalive_interval": _set_keepalive,
    b"replace_allowed_ips": _set_replace_allowed_ips,
    b"remove": _set_remove,
    b"update_only": _set_update_only,
    b"protocol_version": _set_protocol_version,
}
