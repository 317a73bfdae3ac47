"""The history of changes as HTTP shows it: in `/state`, and as totals for metrics."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from tunnel.api.http_models import PeerEvent, Reload
from tunnel.api.metrics import Reloads
from tunnel.reloads import ReloadEvent, ReloadHistory
from tunnel.state.plan import SessionEffect

__all__ = ["peers_of", "reloads_of", "totals"]

_KEPT = (SessionEffect.KEPT, SessionEffect.NEXT_HANDSHAKE)


def totals(history: ReloadHistory) -> Reloads:
    """Counted since the start, however few events are kept."""
    sessions = history.sessions
    return Reloads(
        succeeded=history.succeeded,
        failed=history.failed,
        last_success=history.last_success,
        sessions_kept=sum(sessions[effect] for effect in _KEPT),
        sessions_ended=sessions[SessionEffect.ENDS],
    )


def reloads_of(history: Iterable[ReloadEvent]) -> list[Reload]:
    """Oldest first."""
    return [
        Reload.model_validate(event.json() | {"timestamp": _rfc3339(event.timestamp)})
        for event in history
    ]


def peers_of(event: ReloadEvent) -> list[PeerEvent]:
    """The peers that an event touched (the first of them, if they are many)."""
    return [PeerEvent.model_validate(peer) for peer in event.peers]


def _rfc3339(unix: float) -> str:
    text = datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
