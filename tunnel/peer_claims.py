"""What edits of peers are about, known before they are understood: which of them have
to take effect in their order, and whose addresses they need.

What cannot be read here is left out: the edit that it belongs to will be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

from tunnel.config.values import (
    BadValue,
    parse_host_port,
    parse_ip,
    parse_key,
    parse_prefix,
)
from tunnel.errors import TunnelError
from tunnel.peer_edits import PeerEdit, find_peer
from tunnel.state.model import PeerState

__all__ = ["hosts_in", "touched_by"]

T = TypeVar("T")


def touched_by(
    edits: Iterable[PeerEdit], peers: Mapping[bytes, PeerState]
) -> set[Hashable]:
    """Names and keys of the peers, before and after, and the prefixes that may get
    another owner. Two edits without anything in common may change places."""
    found: set[Hashable] = set()
    for edit in edits:
        given = edit.fields
        found.update([edit.peer, *_texts(given.get("name"))])
        found.update(_read(parse_key, [edit.peer, *_texts(given.get("publicKey"))]))
        found.update(_read(parse_prefix, _texts(given.get("allowedIPs"))))
        for peer in _read(lambda text: find_peer(peers, text), [edit.peer]):
            found.update([peer.name, peer.public_key])
            if edit.action != "set" or "allowedIPs" in given:
                found.update(peer.allowed_ips)
    return found - {""}


def hosts_in(edits: Iterable[PeerEdit]) -> Iterator[str]:
    """The names of hosts among their endpoints."""
    texts = [text for edit in edits for text in _texts(edit.fields.get("endpoint"))]
    for host, _ in _read(parse_host_port, texts):
        if not list(_read(parse_ip, [host])):
            yield host


def _texts(value: object) -> list[str]:
    """The texts that a field holds, whatever it should be."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def _read(parse: Callable[[str], T], texts: Iterable[str]) -> Iterator[T]:
    for text in texts:
        with suppress(BadValue, TunnelError):
            yield parse(text)
