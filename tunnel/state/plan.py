"""The one comparison of two states: `diff` makes a `Plan`, and a plan is data.

A plan lists what has to change and what each change does to the session of its peer.
Printing it is a dry run, applying it is the change, an empty one means no drift, and
its inverse is the way back. Rendering is in `render.py`, applying in `apply.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, compress
from operator import is_not
from typing import NamedTuple

from tunnel.digest import blake2s
from tunnel.state.action import (
    Action,
    ActionKind,
    Change,
    SessionEffect,
    changes_between,
)
from tunnel.state.model import DeviceState, PeerState, Prefix, Secret

__all__ = ["Action", "ActionKind", "Change", "Move", "Plan", "SessionEffect", "diff"]


class Move(NamedTuple):
    """A prefix that changes hands: nobody else may own it in between."""

    prefix: Prefix
    source: bytes
    target: bytes


_DEVICE_FIELDS = ("private_key", "listen_port", "fwmark")
_NETWORK_FIELDS = ("mtu", "addresses", "routes", "dns", "auto_configure")
_RESTART_FIELDS = ("kind", "name", "workers")


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
    device = changes_between(observed, desired, _DEVICE_FIELDS)
    if device:
        yield Action(ActionKind.DEVICE, fields=device)
    old, new = observed.interface, desired.interface
    network = changes_between(old, new, _NETWORK_FIELDS) if old is not new else ()
    if network:
        yield Action(ActionKind.NETWORK, fields=network)
    settings = changes_between(observed, desired, ("log_level",))
    if observed.settings != desired.settings:
        settings += _settings_changes(dict(observed.settings), dict(desired.settings))
    if settings:
        yield Action(ActionKind.SETTINGS, fields=settings)
    restart = changes_between(old, new, _RESTART_FIELDS) if old is not new else ()
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
