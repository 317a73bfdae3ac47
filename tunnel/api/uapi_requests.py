"""What a UAPI client asks for, parsed: plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tunnel.state.model import Endpoint, PeerState, Prefix, Secret

__all__ = [
    "UNSET",
    "ControlRequest",
    "GetRequest",
    "PeerEdit",
    "Peers",
    "Request",
    "SetRequest",
    "Unchanged",
    "Unset",
]

Peers = Mapping[bytes, PeerState]


class Unset:
    """The type of `UNSET`: a field that the request does not mention."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


@dataclass(slots=True)
class PeerEdit:
    """One `public_key=` section: what to do to that peer.

    `allowed_ips` is in the order given: (True, prefix) gives it to the peer, (False,
    prefix) takes it away, None takes all away (`replace_allowed_ips`).
    """

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: Secret | Unset | None = UNSET
    endpoint: Endpoint | Unset = UNSET
    keepalive: int | Unset = UNSET
    replace_allowed_ips: bool = False
    allowed_ips: list[tuple[bool, Prefix] | None] = field(default_factory=list)


@dataclass(slots=True)
class Unchanged:
    """Sections in a row, each of which replaces a peer by what it is: `states` are the
    values of `peers` that they describe. They came before the `at`-th section that was
    parsed. `text` is all of them as it arrived, with their secrets.
    """

    at: int
    peers: Peers
    states: list[PeerState]
    text: bytes = field(repr=False)


@dataclass(slots=True)
class SetRequest:
    """A whole `set=1`; sections of one peer may repeat and apply in order."""

    private_key: Secret | Unset | None = UNSET
    listen_port: int | Unset = UNSET
    fwmark: int | Unset = UNSET
    replace_peers: bool = False
    peers: list[PeerEdit] = field(default_factory=list)
    unchanged: list[Unchanged] = field(default_factory=list)

    def sections(self) -> Iterator[PeerEdit | Unchanged]:
        """All of them in the order in which they came."""
        done = 0
        for run in self.unchanged:
            yield from self.peers[done : run.at]
            yield run
            done = run.at
        yield from self.peers[done:]


class GetRequest:
    """`get=1`."""


@dataclass(slots=True)
class ControlRequest:
    """`tunnel=1` and one line of JSON: our own verb, see `control.py`."""

    line: bytes = b""


Request = GetRequest | SetRequest | ControlRequest
