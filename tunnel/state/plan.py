"""The one comparison of two states: `diff` makes a `Plan`, and a plan is data.

A plan lists what has to change and what each change does to the session of its peer.
Printing it is a dry run, applying it is the change, an empty one means no drift, and
its inverse is the way back. Rendering is in `render.py`, applying in `apply.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import chain, compress
from operator import is_not
from typing import NamedTuple

from tunnel.digest import blake2s
from tunnel.state.model import DeviceState, PeerState, Prefix, Secret

__all__ = ["Action", "ActionKind", "Change", "Move", "Plan", "SessionEffect", "diff"]


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


class Move(NamedTuple):
    """A prefix that changes hands: nobody else may own it in between."""

    prefix: Prefix
    source: bytes
    target: bytes


_PEER_FIELDS = (
    "name",
    "preshared_key",
    "endpoint",
    "allowed_ips",
    "keepalive",
    "enabled",
)
_DEVICE_FIELDS = ("private_key", "listen_port", "fwmark")
_NETWORK_FIELDS = ("mtu", "addresses", "routes", "dns", "auto_configure")
_RESTART_FIELDS = ("kind", "name", "workers")

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
        return _changes(before, after, _PEER_FIELDS)

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


@dataclass(frozen=True)
class Plan:
    """What to do, in order, to the state whose generation is `generation`.

    A target's generation grows by one with every plan that is not empty.
    """

    actions: tuple[Action, ...]
    generation: int

    @property
    def empty(self) -> bool:
        return not self.actions

    @property
    def restart(self) -> bool:
        """Whether something in it needs a new tunnel; such a plan is not applied."""
        kinds = [action.kind for action in self.actions]
        return ActionKind.RESTART in kinds

    @cached_property
    def moves(self) -> tuple[Move, ...]:
        """Prefixes that go from one peer straight to another."""
        peers = [action for action in self.actions if action.key is not None]
        if len(peers) < 2:
            return ()
        left = {
            prefix: action.key
            for action in peers
            for prefix in _effective(action.before) - _effective(action.after)
            if action.key is not None
        }
        if not left:
            return ()
        return tuple(
            Move(prefix, left[prefix], action.key)
            for action in peers
            if action.key is not None
            for prefix in sorted(_effective(action.after) - _effective(action.before))
            if prefix in left
        )

    @cached_property
    def hash(self) -> str:
        """Names what the plan does, whatever its order: 64 hexadecimal digits."""
        parts = sorted(blake2s(_spell(a)).digest() for a in self.actions)
        return blake2s(b"".join(parts)).hexdigest()

    def inverse(self) -> Plan:
        """The plan that undoes this one, right after it was applied."""
        actions = [action.inverse() for action in self.actions]
        actions.sort(key=lambda action: _ORDER[action.kind])
        return Plan(tuple(actions), self.generation + 1)

    def text(self) -> str:
        """A table for people; secrets are masked."""
        from tunnel.state.render import plan_text

        return plan_text(self)

    def json(self) -> dict[str, object]:
        """The plan as JSON values; secrets are masked."""
        from tunnel.state.render import plan_json

        return plan_json(self)


_ORDER = {kind: rank for rank, kind in enumerate(ActionKind)}


def _effective(peer: PeerState | None) -> frozenset[Prefix]:
    if peer is None or not peer.enabled:
        return frozenset()
    return frozenset(peer.allowed_ips)


def _spell(action: Action) -> bytes:
    """Everything an action does, unambiguously. A secret goes in as it is: what comes
    out of SHA-256 tells nothing about a key."""
    parts = [action.kind.value, repr(action.key)]
    for change in action.changes:
        parts.append(change.field)
        parts += [
            repr(value.reveal() if isinstance(value, Secret) else value)
            for value in (change.before, change.after)
        ]
    return "\n".join(parts).encode()


def _changes(
    before: object, after: object, names: tuple[str, ...]
) -> tuple[Change, ...]:
    found = []
    for name in names:  # nearly always there is nothing, and it is the same object
        old, new = getattr(before, name), getattr(after, name)
        if old is not new and old != new:
            found.append(Change(name, old, new))
    return tuple(found)


def diff(
    observed: DeviceState,
    desired: DeviceState,
    *,
    generation: int,
    only: Collection[bytes] | None = None,
) -> Plan:
    """The plan that turns `observed` into `desired`.

    `only` names the peers that can differ, when the caller knows: then nothing is
    spent on the others, however many there are.
    """
    actions = list(_device_actions(observed, desired))
    actions += _peer_actions(observed, desired, only)
    return Plan(tuple(actions), generation)


def _device_actions(observed: DeviceState, desired: DeviceState) -> Iterator[Action]:
    device = _changes(observed, desired, _DEVICE_FIELDS)
    if device:
        yield Action(ActionKind.DEVICE, fields=device)
    old, new = observed.interface, desired.interface
    network = _changes(old, new, _NETWORK_FIELDS) if old is not new else ()
    if network:
        yield Action(ActionKind.NETWORK, fields=network)
    settings = _changes(observed, desired, ("log_level",))
    if observed.settings != desired.settings:
        settings += _settings_changes(dict(observed.settings), dict(desired.settings))
    if settings:
        yield Action(ActionKind.SETTINGS, fields=settings)
    restart = _changes(old, new, _RESTART_FIELDS) if old is not new else ()
    if restart:
        yield Action(ActionKind.RESTART, fields=restart)


def _settings_changes(
    before: dict[str, object], after: dict[str, object]
) -> tuple[Change, ...]:
    names = sorted(before.keys() | after.keys())
    pairs = ((name, before.get(name), after.get(name)) for name in names)
    return tuple(Change(*pair) for pair in pairs if pair[1] != pair[2])


def _peer_actions(
    observed: DeviceState, desired: DeviceState, only: Collection[bytes] | None
) -> list[Action]:
    """Removals first, so that what they own is free; then updates, then additions."""
    have, want = observed.peers, desired.peers
    removed: list[Action] = []
    updated: list[Action] = []
    added: list[Action] = []
    for key in _suspects(have, want) if only is None else only:
        before, after = have.get(key), want.get(key)
        if before is after or before == after:
            continue
        if after is None:
            removed.append(Action(ActionKind.REMOVE, key, before, None))
        elif before is None:
            added.append(Action(ActionKind.ADD, key, None, after))
        else:
            updated.append(Action(ActionKind.UPDATE, key, before, after))
    return removed + updated + added


def _suspects(
    have: Mapping[bytes, PeerState], want: Mapping[bytes, PeerState]
) -> Iterator[bytes]:
    """All keys that have not the same object on both sides. Nearly all have, so they
    are passed over without a step of Python for each."""
    if have is want:
        return iter(())
    other = list(compress(want, map(is_not, want.values(), map(have.get, want))))
    new = sum(key not in have for key in other)
    if len(have) == len(want) - new:
        return iter(other)
    return chain((key for key in have if key not in want), other)
