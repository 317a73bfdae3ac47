"""What a Node tells its driver, for logs and status; nothing depends on reading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnel.protocol.peer import Peer


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """A session is confirmed and in use."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class HandshakeGivenUp:
    """All initiations went unanswered; waiting packets were dropped (R19)."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class KeysErased:
    """No new session for three times REJECT_AFTER_TIME; all keys are gone (R38)."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class EndpointMoved:
    """An authenticated packet came from another endpoint, which is used now (R54)."""

    peer: Peer


Event = HandshakeComplete | HandshakeGivenUp | KeysErased | EndpointMoved
