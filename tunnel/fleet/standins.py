"""Endpoints for comparing files without a name server.

A merge of two files must not depend on what DNS says on the machine where it is made.
So a host name stands as an address of the discard prefix 100::/64 (RFC 6666), which
nobody has, while states are compared, and is its own text again afterwards.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, SOCK_DGRAM, inet_pton
from typing import Any

from tunnel.config.values import HostPort
from tunnel.config.wgquick import literal
from tunnel.config.wgquick_write import host_port_text
from tunnel.state.model import Endpoint, unmapped
from tunnel.state.render import endpoint_text

__all__ = ["StandIns"]

_DISCARD = IPv6Address("100::").packed[:8]


class StandIns:
    """The host names that were met, and the addresses that stand for them."""

    def __init__(self) -> None:
        self._hosts: dict[bytes, str] = {}

    def _address(self, host: str) -> bytes:
        address = _DISCARD + hashlib.sha256(host.lower().encode()).digest()[:8]
        self._hosts.setdefault(address, host)
        return address

    def endpoint(self, target: HostPort) -> Endpoint:
        host, port = target
        try:
            address = unmapped(inet_pton(AF_INET6 if ":" in host else AF_INET, host))
        except (OSError, ValueError):
            address = self._address(host)
        return address, port, 0

    def getaddrinfo(self, host: str, _port: object, **_: object) -> list[Any]:
        """In the place of `socket.getaddrinfo`."""
        text = str(IPv6Address(self._address(host)))
        return [(AF_INET6, SOCK_DGRAM, 17, "", (text, 0, 0, 0))]

    def target(self, endpoint: Endpoint) -> HostPort:
        """What an endpoint was made of."""
        host = self._hosts.get(endpoint[0])
        return (host, endpoint[1]) if host is not None else literal(endpoint)

    def text(self, endpoint: Endpoint) -> str:
        return host_port_text(self.target(endpoint))

    def restore(self, text: str) -> str:
        """A shown plan, with the host names back in it."""
        for address, host in self._hosts.items():
            shown = endpoint_text((address, 0, 0)).removesuffix("0")
            text = text.replace(shown, host_port_text((host, 0)).removesuffix("0"))
        return text
