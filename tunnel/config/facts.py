"""What a configuration says, once it is understood: `checks.py` makes these facts, and
`desired.py` turns them into a desired state."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tunnel.config.documents import Document
from tunnel.config.values import HostPort
from tunnel.state.model import InterfaceState, PeerState, Prefix, Secret

__all__ = ["Facts", "PeerFacts", "Settings"]

Settings = tuple[tuple[str, object], ...]


@dataclass(slots=True)
class PeerFacts:
    """A peer as understood. Without `public_key`, it follows from `psk` and `name`.

    `outside`: a file or the environment took part. `state` is what follows from the
    facts, once that is known and as far as nothing else has a say in it.
    """

    name: str
    public_key: bytes | None
    psk: str | None = field(repr=False)
    preshared_key: Secret | None
    endpoint: HostPort | None
    allowed_ips: tuple[Prefix, ...]
    keepalive: int
    enabled: bool
    outside: bool = False
    state: PeerState | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class Facts:
    """A correct configuration, parsed. `files` took part and deserve watching;
    `pending` are those of them that did not exist and are to be created.

    `private_key` is None when it follows from `psk` and `name`. A peer's `endpoint`
    may still be a host name. `documents` hold the peers, all together in the order of
    `peers`; `context` is what these depend on besides.
    """

    name: str
    private_key: Secret | None
    psk: str | None = field(repr=False)
    listen_port: int
    fwmark: int
    interface: InterfaceState
    peers: tuple[PeerFacts, ...]
    log_level: str
    settings: Settings
    files: tuple[Path, ...]
    pending: tuple[Path, ...] = field(default=(), compare=False)
    documents: tuple[Document, ...] = field(default=(), compare=False, repr=False)
    context: tuple[object, ...] = field(default=(), compare=False, repr=False)

    def place(self, number: int) -> str:
        """Where a peer stands, for people."""
        for document in self.documents:
            if number < len(document.peers):
                return document.place(number)
            number -= len(document.peers)
        return "peers"
