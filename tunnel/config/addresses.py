"""Host names of endpoints -> addresses."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tunnel.config.values import HostPort
from tunnel.state.model import Endpoint, unmapped

__all__ = ["Addresses", "Resolver", "literal"]

Resolver = Callable[..., list[Any]]


class Addresses:
    """Resolves each host once; literal addresses never reach the resolver.

    Of several answers the smallest of the preferred family is taken, so that a name
    server that rotates its answers does not look like a changed configuration.
    """

    def __init__(self, resolve: Resolver) -> None:
        self._resolve = resolve
        self._known: dict[str, tuple[bytes, int] | None] = {}

    def endpoint(self, target: HostPort) -> Endpoint | None:
        """None when the name has no address."""
        host, port = target
        packed = literal(host)
        if packed is not None:
            return packed, port, 0
        if host not in self._known:
            self._known[host] = self._look_up(host)
        found = self._known[host]
        return (found[0], port, found[1]) if found else None

    def _look_up(self, host: str) -> tuple[bytes, int] | None:
        try:
            answers = self._resolve(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return None
        families = (socket.AF_INET, socket.AF_INET6)
        usable = [(a[0], a[4]) for a in answers if a[0] in families]
        if not usable:
            return None
        preferred = usable[0][0]
        return min(
            (
                unmapped(socket.inet_pton(family, str(address[0]).partition("%")[0])),
                address[3] if family == socket.AF_INET6 else 0,
            )
            for family, address in usable
            if family == preferred
        )


def literal(host: str) -> bytes | None:
    """A literal address; None for a name, or an address with a zone."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return unmapped(socket.inet_pton(family, host))
    except (OSError, ValueError):
        return None
