"""One step of a plan: what it changes, and what becomes of the session of its peer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tunnel.state.model import PeerState

__all__ = ["Action", "ActionKind", "Change", "SessionEffect", "changes_between"]


class ActionKind(Enum):
    """What an action does; the values are used in JSON."""

    DEVICE = "device"  # private key, listen port, fwmark
    NETWORK = "network"  # addresses, routes, MTU, DNS of the interface
    SETTINGS = "settings"  # log level, limits, access, management
    RESTART = "restart"  # tunnel.type, tunnel.name, workers: only of a new tunnel
    REMOVE = "remove"
    UPDATE = "update"
    ADD = "add"


class SessionEffect(Enum):
    """What becomes of the session of the action's peer (of all, for the device)."""

    KEPT = "kept"
    NEXT_HANDSHAKE = "kept until next handshake"
    NEW = "new handshake"
    ENDS = "ends"


class Change(NamedTuple):
    """One field; `before` and `after` are values of the state, secrets included."""

    field: str
    before: object
    after: object


_PEER_FIELDS = (
    "name",
    "preshared_key",
    "endpoint",
    "allowed_ips",
    "keepalive",
    "enabled",
)
_INVERSE = {ActionKind.ADD: ActionKind.REMOVE, ActionKind.REMOVE: ActionKind.ADD}


@dataclass(frozen=True, slots=True)
class Action:
    """One step. A peer's action has `key` and its states before and after (None: not
    there); an action of the whole device has `key` None and its `fields`."""

    kind: ActionKind
    key: bytes | None = None
    before: PeerState | None = None
    after: PeerState | None = None
    fields: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """The peer's name, the new one if it changes; empty for the device."""
        peer = self.after or self.before
        return peer.name if peer is not None else ""

    @property
    def restart(self) -> bool:
        return self.kind is ActionKind.RESTART

    @property
    def changes(self) -> tuple[Change, ...]:
        """The fields that differ; for an added peer those that are not the default."""
        if self.key is None:
            return self.fields
        before = self.before or PeerState(self.key)
        after = self.after or PeerState(self.key)
        return changes_between(before, after, _PEER_FIELDS)

    @property
    def session(self) -> SessionEffect:
        if self.key is None:
            return _device_effect(self)
        before = self.before is not None and self.before.enabled
        after = self.after is not None and self.after.enabled
        if not after:
            return SessionEffect.ENDS if before else SessionEffect.KEPT
        if not before:
            return SessionEffect.NEW
        assert self.before is not None
        assert self.after is not None
        if self.before.preshared_key != self.after.preshared_key:
            return SessionEffect.NEXT_HANDSHAKE
        return SessionEffect.KEPT

    def inverse(self) -> Action:
        return Action(
            _INVERSE.get(self.kind, self.kind),
            self.key,
            self.after,
            self.before,
            tuple(Change(c.field, c.after, c.before) for c in self.fields),
        )


def _device_effect(action: Action) -> SessionEffect:
    if action.restart:
        return SessionEffect.ENDS
    if any(change.field == "private_key" for change in action.fields):
        return SessionEffect.NEW
    return SessionEffect.KEPT


def changes_between(
    before: object, after: object, names: tuple[str, ...]
) -> tuple[Change, ...]:
    """Those of the attributes `names` that differ."""
    found = []
    for name in names:  # nearly always there is nothing, and it is the same object
        old, new = getattr(before, name), getattr(after, name)
        if old is not new and old != new:
            found.append(Change(name, old, new))
    return tuple(found)
