"""The WireGuard UAPI: `get` and `set` for one connection, without any socket.

A `set` is parsed to its end, folded over the running state, compared, and the plan
is applied: all of it or, with an errno, nothing of it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from socket import AF_INET6, inet_ntop
from typing import Protocol

from tunnel.api.uapi_edits import EditView, edit
from tunnel.api.uapi_parse import GetRequest, Parser, SetRequest
from tunnel.errors import NotPermitted, TunnelError, UapiError
from tunnel.state.model import DeviceState, Endpoint, PeerState, Prefix, clamp
from tunnel.state.plan import Plan, diff
from tunnel.status import Live

__all__ = ["UapiDevice", "UapiSession"]

log = logging.getLogger("tunnel.uapi")

_NO_KEY = bytes(32).hex()
_SECOND = 1_000_000_000
_IPV4_PORT = "%d.%d.%d.%d:%d"  # twice as fast as inet_ntop, and there are many
_IPV4_PREFIX = "%d.%d.%d.%d/%d"


class UapiDevice(EditView, Protocol):
    """The device as the UAPI uses it."""

    @property
    def generation(self) -> int: ...

    @property
    def listen_port(self) -> int:
        """The port in use, or the one that is configured while there is none."""

    def observe(self) -> DeviceState: ...

    def apply(self, plan: Plan) -> int: ...

    def live(self, public_key: bytes) -> Live: ...


class UapiSession:
    """Answers one client: bytes in, bytes out; `closing` asks to hang up."""

    __slots__ = ("_device", "_parser")

    def __init__(self, device: UapiDevice) -> None:
        self._device = device
        self._parser = Parser()

    @property
    def closing(self) -> bool:
        return self._parser.broken

    def feed(self, data: bytes) -> bytes:
        """Handles every request that `data` completes; returns their answers."""
        return b"".join(self._answer(request) for request in self._parser.feed(data))

    def _answer(self, request: GetRequest | SetRequest | UapiError) -> bytes:
        try:
            if isinstance(request, UapiError):
                raise request
            if isinstance(request, GetRequest):
                return get_text(self._device).encode() + b"errno=0\n\n"
            apply_request(self._device, request)
        except Exception as error:  # noqa: BLE001 - a client must not end the tunnel
            return b"errno=-%d\n\n" % _errno(error)
        return b"errno=0\n\n"


def apply_request(device: UapiDevice, request: SetRequest) -> None:
    """One `set`; raises the error it was refused with."""
    edited = edit(device.observe(), request, device)
    plan = diff(
        edited.observed,
        edited.desired,
        generation=device.generation,
        only=edited.only,
    )
    device.apply(plan)


def _errno(error: Exception) -> int:
    """The code a client gets; an unexpected error is logged with its place."""
    if isinstance(error, UapiError):
        log.debug("UAPI request refused: %s", error)
        return error.errno
    for cause in (error, error.__cause__):
        if isinstance(cause, OSError) and cause.errno:
            log.warning("UAPI set failed, nothing was changed: %s", error)
            return cause.errno
    if isinstance(error, TunnelError):
        log.warning("UAPI set failed, nothing was changed: %s", error)
        return errno.EPERM if isinstance(error, NotPermitted) else errno.EIO
    log.error("UAPI request failed", exc_info=error)
    return errno.EIO


# --- get


def endpoint_text(endpoint: Endpoint) -> str:
    address, port, scope = endpoint
    if len(address) == 4:
        return _IPV4_PORT % (*address, port)
    text = inet_ntop(AF_INET6, address)
    return f"[{text}%{scope}]:{port}" if scope else f"[{text}]:{port}"


def prefix_text(prefix: Prefix) -> str:
    address, cidr = prefix
    if len(address) == 4:
        return _IPV4_PREFIX % (*address, cidr)
    return f"{inet_ntop(AF_INET6, address)}/{cidr}"


def _peer_text(peer: PeerState, live: Live) -> str:
    psk = peer.preshared_key
    endpoint = live.endpoint
    where = f"endpoint={endpoint_text(endpoint)}\n" if endpoint else ""
    seconds, nanoseconds = divmod(live.last_handshake, _SECOND)
    ips = "".join(
        [f"allowed_ip={prefix_text(prefix)}\n" for prefix in peer.allowed_ips]
    )
    return (
        f"public_key={peer.public_key.hex()}\n"
        f"preshared_key={psk.reveal().hex() if psk else _NO_KEY}\n"
        "protocol_version=1\n"
        f"{where}"
        f"last_handshake_time_sec={seconds}\n"
        f"last_handshake_time_nsec={nanoseconds}\n"
        f"tx_bytes={live.tx_bytes}\n"
        f"rx_bytes={live.rx_bytes}\n"
        f"persistent_keepalive_interval={peer.keepalive}\n"
        f"{ips}"
    )


def _texts(device: UapiDevice) -> Iterator[str]:
    state = device.observe()
    if state.private_key is not None:
        yield f"private_key={clamp(state.private_key.reveal()).hex()}\n"
    if device.listen_port:
        yield f"listen_port={device.listen_port}\n"
    if state.fwmark:
        yield f"fwmark={state.fwmark}\n"
    for key, peer in state.peers.items():
        if peer.enabled:
            yield _peer_text(peer, device.live(key))


def get_text(device: UapiDevice) -> str:
    """The whole configuration with its secrets: only for the UAPI socket."""
    return "".join(_texts(device))
