"""Single changes of peers: add, set, remove, enable, disable.

An edit is understood as an entry of `peers` would be, by the same checks, and becomes
the peer's state before and after. `edited_files.py` writes it down.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from tunnel.config.checks import understand
from tunnel.config.desired import desired_state
from tunnel.config.documents import Document
from tunnel.config.identity import encode_key
from tunnel.config.problems import Found
from tunnel.config.schema import AccessConfig, Config, PeerConfig
from tunnel.config.secrets import Surroundings
from tunnel.config.syntax import validated
from tunnel.config.values import BadValue, parse_key
from tunnel.errors import ConfigError, PlanStale, TunnelError
from tunnel.state.merge import who
from tunnel.state.model import DeviceState, PeerState, Prefix, prefix_owners
from tunnel.state.render import endpoint_text, prefix_text
from tunnel.turns import look_up

__all__ = [
    "PeerEdit",
    "Understood",
    "desired_after",
    "entry_of",
    "entry_of_add",
    "find_peer",
    "understand_edits",
]

Action = Literal["add", "set", "remove", "enable", "disable"]

ACTIONS: Final = ("add", "set", "remove", "enable", "disable")
_SPELLED: Final = {
    "name": "name",
    "presharedKey": "preshared_key",
    "endpoint": "endpoint",
    "allowedIPs": "allowed_ips",
    "persistentKeepalive": "keepalive",
    "enabled": "enabled",
}


@dataclass(frozen=True, slots=True)
class PeerEdit:
    """`peer` is a name or a public key in base64 (for `add` the new name, or empty).

    `fields` are keys of a peer in config.json with their values; None takes a value
    away. They may hold secrets.
    """

    action: Action
    peer: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Understood:
    """An edit's meaning: the peer before and after it (None: not there)."""

    edit: PeerEdit
    key: bytes
    before: PeerState | None
    after: PeerState | None


def find_peer(peers: Mapping[bytes, PeerState], text: str) -> PeerState:
    """The peer with this name or public key; TunnelError when there is none."""
    try:
        known = peers.get(parse_key(text))
    except BadValue:
        known = next((p for p in peers.values() if p.name and p.name == text), None)
    if known is not None:
        return known
    names = [peer.name for peer in peers.values() if peer.name]
    close = get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]}?" if close else "list them with: tunnel peer list"
    raise TunnelError(f"there is no peer {text[:64]!r}", hint=hint)


def understand_edits(
    edits: Sequence[PeerEdit], state: DeviceState, config: Config, base: Path
) -> list[Understood]:
    """What the edits, in order, make of a state. Resolves names; any thread.

    `config` says what peers inherit, `base` is where relative paths start. Raises
    TunnelError with nothing changed.
    """
    peers = dict(state.peers)
    found = []
    for edit in edits:
        one = _understand(edit, peers, config, base)
        found.append(one)
        if one.after is None:
            peers.pop(one.key, None)
        else:
            peers[one.key] = one.after
    _check_owners(peers, found)
    return found


def _understand(
    edit: PeerEdit, peers: Mapping[bytes, PeerState], config: Config, base: Path
) -> Understood:
    if edit.action == "add":
        return _understand_add(edit, peers, config, base)
    before = find_peer(peers, edit.peer)
    key = before.public_key
    if edit.action == "remove":
        return Understood(edit, key, before, None)
    if edit.action in ("enable", "disable"):
        after = replace(before, enabled=edit.action == "enable")
        return Understood(edit, key, before, after)
    if edit.action != "set":
        known = ", ".join(ACTIONS)
        raise TunnelError(f"unknown edit {edit.action!r}", hint=f"known: {known}")
    for name in ("publicKey", "psk"):
        if name in edit.fields:
            raise TunnelError(
                f"{who(before)}: {name} makes it another peer",
                hint="remove this one and add the other",
            )
    after = _parsed(entry_of(before) | dict(edit.fields), config, base)
    changed = {_SPELLED[name] for name in edit.fields if name in _SPELLED}
    after = replace(before, **{name: getattr(after, name) for name in changed})
    _check_name(after, peers)
    return Understood(edit, key, before, after)


def _understand_add(
    edit: PeerEdit, peers: Mapping[bytes, PeerState], config: Config, base: Path
) -> Understood:
    after = _parsed(entry_of_add(edit), config, base)
    if after.public_key in peers:
        other = who(peers[after.public_key])
        raise TunnelError(
            f"{other} has this key already", hint="change it with: tunnel peer set"
        )
    _check_name(after, peers)
    return Understood(edit, after.public_key, None, after)


def entry_of_add(edit: PeerEdit) -> dict[str, Any]:
    """The new peer as an entry of config.json."""
    entry: dict[str, Any] = {"name": edit.peer} if edit.peer else {}
    entry |= {name: value for name, value in edit.fields.items() if value is not None}
    return entry


def _check_name(peer: PeerState, peers: Mapping[bytes, PeerState]) -> None:
    for other in peers.values():
        if other.name == peer.name != "" and other.public_key != peer.public_key:
            raise TunnelError(
                f"{who(other)} has the name {peer.name!r} already",
                hint="give every peer its own name",
            )


def _check_owners(
    peers: Mapping[bytes, PeerState], edits: Iterable[Understood]
) -> None:
    """A prefix has one owner, also after all of the edits."""
    owners: dict[Prefix, bytes] = prefix_owners(peers)  # the last one that has it
    touched = {edit.key for edit in edits}
    for peer in peers.values() if touched else ():
        for prefix in peer.allowed_ips if peer.enabled else ():
            other = owners[prefix]
            if other != peer.public_key and {other, peer.public_key} & touched:
                one, two = who(peers[other]), who(peer)
                raise TunnelError(
                    f"{prefix_text(prefix)} would belong to {two} and to {one}",
                    hint="a prefix has one owner; take it from one of them first",
                )


def entry_of(peer: PeerState) -> dict[str, Any]:
    """A peer's state as an entry of config.json, with its secret."""
    entry: dict[str, Any] = {"name": peer.name} if peer.name else {}
    entry["publicKey"] = encode_key(peer.public_key)
    if peer.preshared_key is not None:
        entry["presharedKey"] = encode_key(peer.preshared_key.reveal())
    if peer.endpoint is not None:
        entry["endpoint"] = endpoint_text(peer.endpoint)
    entry["allowedIPs"] = [prefix_text(prefix) for prefix in peer.allowed_ips]
    if peer.keepalive:
        entry["persistentKeepalive"] = peer.keepalive
    if not peer.enabled:
        entry["enabled"] = False
    return entry


def _parsed(entry: Mapping[str, Any], config: Config, base: Path) -> PeerState:
    """One entry as the configuration would understand it."""
    name = str(entry.get("name") or "the peer")
    found = Found(label=name if name.isprintable() else ascii(name)[1:-1])
    given = {name: value for name, value in entry.items() if value is not None}
    peer = validated(PeerConfig, given, found)
    if peer is not None:
        alone = config.model_copy(
            update={
                "mode": "server",  # no peer inherits the client's endpoint
                "name": config.facts.name,
                "endpoint": None,
                "peers": [],
                "access": AccessConfig(),
            }
        )
        where = Surroundings(base, os.environ)
        document = Document(found, [peer], single=True)
        alone._facts = understand(alone, [document], where)
    if found or peer is None:
        raise ConfigError("peer", found.problems())
    (state,) = desired_state(alone, look_up).peers.values()
    return state


def desired_after(state: DeviceState, edits: Sequence[Understood]) -> DeviceState:
    """A state with the edits in it. PlanStale when one of the peers is not what it
    was when they were understood."""
    peers = dict(state.peers)
    for edit in edits:
        if peers.get(edit.key) != edit.before:
            name = who(edit.before or edit.after or PeerState(edit.key))
            raise PlanStale(f"{name} was changed meanwhile", hint="try again")
        if edit.after is None:
            del peers[edit.key]
        else:
            peers[edit.key] = edit.after
    _check_owners(peers, edits)
    return replace(state, peers=peers)
