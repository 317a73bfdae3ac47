"""A partial set of peers merged into a state: the result is again a desired state.

Nothing is compared or applied here; what the merge would change is `diff(base,
merged)`, and that plan is printed or applied like any other.

A peer is known by its key and by its name. The key wins: a known key under another
name is the same peer, renamed. A known name with an unknown key is that peer with a
new key. What cannot be both is an error that names both. Fields that a partial peer
does not give keep the value they have, so that no secret is lost by leaving it out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from tunnel.errors import ConfigError, ConfigProblem
from tunnel.state.model import DeviceState, PeerState, Prefix, short_key
from tunnel.state.render import key_text, prefix_text

__all__ = [
    "GIVEN_ALL",
    "PartialPeer",
    "Presence",
    "merge",
    "presence",
    "sorted_peers",
    "who",
]

GIVEN_ALL = frozenset(
    {"name", "preshared_key", "endpoint", "allowed_ips", "keepalive", "enabled"}
)


@dataclass(frozen=True, slots=True)
class PartialPeer:
    """One peer of a partial set; `given` names the fields that it speaks about.

    The public key may be empty: then the name must be one that the base knows. A peer
    that the base does not know takes every other field from `state` as well, so put
    the defaults there.
    """

    state: PeerState
    given: frozenset[str] = GIVEN_ALL


class Presence(NamedTuple):
    """Who of the expected peers is there: `missing` names and keys that no peer has,
    and peers that nobody expected."""

    missing: tuple[str, ...]
    extra: tuple[PeerState, ...]


def who(peer: PeerState) -> str:
    """A peer as errors call it: its name and the ends of its key."""
    if not peer.public_key:
        return peer.name
    short = short_key(peer.public_key)
    return f"{peer.name} ({short})" if peer.name else short


def sorted_peers(peers: Iterable[PeerState]) -> dict[bytes, PeerState]:
    """By name, then those without a name by key."""
    ordered = sorted(peers, key=lambda p: (not p.name, p.name, p.public_key))
    return {peer.public_key: peer for peer in ordered}


def merge(
    base: DeviceState,
    partial: Iterable[PartialPeer] | Mapping[bytes, PeerState],
    *,
    prune: bool = False,
    inventory: Collection[str] | None = None,
    own_key: bytes | None = None,
) -> DeviceState:
    """`base` with the partial peers in it, its peers sorted.

    With `prune`, peers that `inventory` (names, or keys in base64) does not list are
    removed; without an inventory the partial set is the inventory. `own_key` is the
    public key of this end, which cannot be a peer. Raises `ConfigError` with every
    conflict; merging the same set again changes nothing.
    """
    if isinstance(partial, Mapping):
        partial = map(PartialPeer, partial.values())
    work = _Merge(base.peers, tuple(partial), own_key)
    merged = work.run()
    if prune:
        merged = work.prune(merged, inventory)
    problems = [*work.problems, *_conflicts(merged)]
    if problems:
        raise ConfigError("merge", problems)
    return replace(base, peers=sorted_peers(merged))


def presence(peers: Iterable[PeerState], inventory: Collection[str]) -> Presence:
    """Compares peers with the names and keys that should be there."""
    known: set[str] = set()
    extra = []
    for peer in peers:
        called = {peer.name, key_text(peer.public_key)} & set(inventory)
        known |= called
        if not called:
            extra.append(peer)
    return Presence(tuple(n for n in inventory if n not in known), tuple(extra))


def _problem(peer: PeerState, message: str, hint: str) -> ConfigProblem:
    return ConfigProblem(who(peer) or "a peer", 0, message, hint)


class _Merge:
    """One merge: finds for each partial peer the one it is, in two rounds."""

    def __init__(
        self,
        peers: Mapping[bytes, PeerState],
        partial: tuple[PartialPeer, ...],
        own_key: bytes | None,
    ) -> None:
        self._peers = peers
        self._names = {peer.name: peer for peer in peers.values() if peer.name}
        self._partial = partial
        self._own_key = own_key
        self.problems: list[ConfigProblem] = []

    def run(self) -> list[PeerState]:
        self._check_partial()
        # who is known by key keeps that identity, so its old name is free
        claimed = {p.state.public_key for p in self._partial}
        result = dict(self._peers)
        for part in self._partial:
            before = self._known(part, claimed)
            if before is not None:
                after = _updated(before, part)
                if after.public_key != before.public_key:
                    result.pop(before.public_key, None)
                result[after.public_key] = after
            elif part.state.public_key:
                result[part.state.public_key] = part.state
            else:
                self.problems.append(
                    _problem(
                        part.state,
                        "has no public key, and no peer has this name",
                        "write its publicKey",
                    )
                )
        return list(result.values())

    def _known(self, part: PartialPeer, claimed: set[bytes]) -> PeerState | None:
        """The peer of the base that this one is; None for a new one."""
        state = part.state
        if state.public_key in self._peers:
            return self._peers[state.public_key]
        named = self._names.get(state.name)
        if named is None or named.public_key in claimed:
            return None
        return named

    def _check_partial(self) -> None:
        """No two entries are about the same peer, and none is ourselves."""
        keys: dict[bytes, PeerState] = {}
        names: dict[str, PeerState] = {}
        for part in self._partial:
            state = part.state
            if self._own_key and state.public_key == self._own_key:
                self.problems.append(
                    _problem(
                        state,
                        "this is the key of this tunnel itself",
                        "write the public key of the other end",
                    )
                )
            if state.public_key:
                other = keys.setdefault(state.public_key, state)
                if other is not state:
                    self._twice(state, other, "the same public key")
            if state.name:
                other = names.setdefault(state.name, state)
                if other is not state:
                    self._twice(state, other, "the same name")

    def _twice(self, one: PeerState, other: PeerState, why: str) -> None:
        self.problems.append(
            _problem(one, f"is in the partial set twice, see {who(other)}: {why}", "")
        )

    def prune(
        self, merged: list[PeerState], inventory: Collection[str] | None
    ) -> list[PeerState]:
        """Only the peers of the inventory; one that was just merged must be in it."""
        if inventory is None:
            keys = {part.state.public_key for part in self._partial}
            names = {part.state.name for part in self._partial} - {""}
            return [p for p in merged if p.public_key in keys or p.name in names]
        extra = {peer.public_key for peer in presence(merged, inventory).extra}
        for peer in merged:
            if peer.public_key in extra and self._is_partial(peer):
                self.problems.append(
                    _problem(
                        peer,
                        "is in the partial set and not in the inventory",
                        "add it to the inventory, or leave it out of the set",
                    )
                )
        return [peer for peer in merged if peer.public_key not in extra]

    def _is_partial(self, peer: PeerState) -> bool:
        return any(
            part.state.public_key == peer.public_key
            or (part.state.name and part.state.name == peer.name)
            for part in self._partial
        )


def _updated(before: PeerState, part: PartialPeer) -> PeerState:
    values = {name: getattr(part.state, name) for name in part.given}
    if not part.state.name:
        values.pop("name", None)
    key = part.state.public_key or before.public_key
    after = replace(before, public_key=key, **values)
    return before if after == before else after


def _conflicts(peers: Iterable[PeerState]) -> Iterator[ConfigProblem]:
    """Names and prefixes that two peers would have."""
    names: dict[str, PeerState] = {}
    owners: dict[Prefix, PeerState] = {}
    for peer in peers:
        if peer.name:
            other = names.setdefault(peer.name, peer)
            if other is not peer:
                yield _problem(
                    peer,
                    f"{who(other)} has the same name",
                    "rename one of them, or give both in the partial set",
                )
        for prefix in peer.allowed_ips if peer.enabled else ():
            other = owners.setdefault(prefix, peer)
            if other is not peer:
                yield _problem(
                    peer,
                    f"{prefix_text(prefix)} belongs to {who(other)} already",
                    "a prefix has one owner; take it from one of them",
                )
