"""What was changed, when, by whom and how it ended: the last few of all changes."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tunnel.errors import ApplyError, NotSaved, TunnelError
from tunnel.state.plan import ActionKind, Plan, SessionEffect
from tunnel.state.render import key_text

__all__ = ["ReloadEvent", "ReloadHistory", "changes_of", "counts_of", "peers_of"]

log = logging.getLogger("tunnel.manager")

KEEP: Final = 100
PEERS_SHOWN: Final = 50  # of one event
_MANY: Final = frozenset({"api", "uapi"})  # doors of programs: not a line for each

_NAMES: Final = {
    "access.allow": "access",
    "access.blocklist": "access",
    "access.deny": "access",
    "allowDeviceToDevice": "device_to_device",
    "connectionBurst": "connection_limits",
    "connectionRate": "connection_limits",
    "listen.address": "listen_address",
    "log_level": "log_level",
    "logging.output": "log_output",
    "management.acl": "management_acl",
    "management.bind": "management_bind",
    "maxConnections": "connection_limits",
    "maxPadding": "max_padding",
    "rekeyBudget": "rekey_limits",
    "rekeyInterval": "rekey_limits",
}


@dataclass(frozen=True, slots=True)
class ReloadEvent:
    """One change, or an attempt of one.

    `timestamp` is Unix time; `source` is the door: "file", "sighup", "control",
    "http", "uapi", "api" (a Python program), "rollback", "unconfirmed" (taken back).
    `changes` are kinds of things ("peers", "log_level", "listen_port", ...), none when
    there was nothing to do. `peers` holds the first of those touched, `counts` all of
    them by action.
    """

    timestamp: float
    source: str
    success: bool
    changes: list[str] = field(default_factory=list)
    peers: list[dict[str, str]] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    duration_ms: float = 0.0
    error: str = ""
    generation: int = 0

    @classmethod
    def of(
        cls,
        plan: Plan,
        source: str,
        timestamp: float,
        duration_ms: float,
        generation: int,
    ) -> ReloadEvent:
        """A plan that was applied."""
        return cls(
            timestamp=timestamp,
            source=source,
            success=True,
            changes=changes_of(plan),
            peers=peers_of(plan),
            counts=counts_of(plan),
            duration_ms=duration_ms,
            generation=generation,
        )

    def json(self) -> dict[str, object]:
        return {
            "timestamp": round(self.timestamp, 3),
            "source": self.source,
            "success": self.success,
            "changes": self.changes,
            "peers": self.peers,
            "counts": dict(self.counts),
            "duration_ms": round(self.duration_ms, 3),
            "error": self.error,
            "generation": self.generation,
        }


class ReloadHistory:
    """The last events, oldest first, and how many there were of either kind. Each one
    is logged as it comes. `last_success` is Unix time, `sessions` what became of those
    of the peers that changes touched."""

    def __init__(self, keep: int = KEEP) -> None:
        self._events: deque[ReloadEvent] = deque(maxlen=keep)
        self.succeeded = 0
        self.failed = 0
        self.by_source: Counter[str] = Counter()  # those that succeeded
        self.last_success = 0.0
        self.sessions: Counter[SessionEffect] = Counter()

    def add(self, event: ReloadEvent) -> None:
        self._events.append(event)
        if event.success:
            self.succeeded += 1
            self.by_source[event.source] += 1
            self.last_success = event.timestamp
        else:
            self.failed += 1

    def applied(
        self, plan: Plan, source: str, started: float, generation: int
    ) -> ReloadEvent:
        """Notes a plan that was applied; `started` is of `time.perf_counter`."""
        duration = (time.perf_counter() - started) * 1000
        event = ReloadEvent.of(plan, source, time.time(), duration, generation)
        self.add(event)
        self.sessions.update(a.session for a in plan.actions if a.key is not None)
        level = logging.DEBUG if source in _MANY else logging.INFO
        what = ", ".join(event.changes) or "nothing to change"
        log.log(level, "%s: %s, %.1f ms", source, what, duration)
        return event

    def refused(
        self, error: Exception, source: str, started: float, generation: int
    ) -> TunnelError:
        """Notes a change that failed; returns what to raise."""
        if isinstance(error, TunnelError):
            failure = error
        else:
            log.error("a change failed unexpectedly", exc_info=error)
            failure = ApplyError(f"nothing was changed: {type(error).__name__}")
        self.add(
            ReloadEvent(
                timestamp=time.time(),
                source=source,
                success=False,
                duration_ms=(time.perf_counter() - started) * 1000,
                error=str(failure),
                generation=generation,
            )
        )
        kept = "the running configuration is kept: "
        kept = "" if isinstance(failure, NotSaved) else kept
        log.error("%s: %s%s", source, kept, failure)
        return failure

    def __iter__(self) -> Iterator[ReloadEvent]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    @property
    def last(self) -> ReloadEvent | None:
        return self._events[-1] if self._events else None

    def json(self) -> dict[str, object]:
        return {
            "succeeded": self.succeeded,
            "failed": self.failed,
            "by_source": dict(self.by_source),
            "events": [event.json() for event in self._events],
        }


def changes_of(plan: Plan) -> list[str]:
    """The kinds of things that a plan changes, each once, in the plan's order."""
    found: dict[str, None] = {}
    for action in plan.actions:
        if action.key is not None:
            found["peers"] = None
        elif action.kind is ActionKind.NETWORK:
            found["network"] = None
        else:
            for change in action.fields:
                found[_NAMES.get(change.field, change.field)] = None
    return list(found)


def peers_of(plan: Plan) -> list[dict[str, str]]:
    """What happens to the first few peers of a plan."""
    peers = (action for action in plan.actions if action.key is not None)
    return [
        {
            "name": action.name,
            "public_key": key_text(action.key or b""),
            "action": action.kind.value,
            "session": action.session.value,
        }
        for action, _ in zip(peers, range(PEERS_SHOWN), strict=False)
    ]


def counts_of(plan: Plan) -> dict[str, int]:
    """How many peers are added, updated and removed."""
    kinds = (ActionKind.ADD, ActionKind.UPDATE, ActionKind.REMOVE)
    counts = {kind.value: 0 for kind in kinds}
    for action in plan.actions:
        if action.key is not None:
            counts[action.kind.value] += 1
    return counts
