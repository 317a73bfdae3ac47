"""Sets of peers as plain dictionaries, for tools that hold them in variables.

    {"cm4": {"public_key": "...", "allowed_ips": "10.0.0.3/32",
             "endpoint": "host:port", "persistent_keepalive": "25"}}

`endpoint`, `persistent_keepalive` and `preshared_key` are there only when they are
set. A peer without a name is called by its public key. Merging follows the one rule
of `state/merge.py`. The Ansible filters in contrib/ are these three functions.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tunnel.config.hidden import hide_keys
from tunnel.config.values import (
    BadValue,
    HostPort,
    parse_host_port,
    parse_key,
    parse_prefix,
    parse_seconds,
)
from tunnel.config.wgquick import parse_wgquick
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.fleet.standins import StandIns
from tunnel.state.merge import PartialPeer, merge
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    PeerState,
    canonical_prefixes,
    secret_or_none,
)
from tunnel.state.render import prefix_text

__all__ = [
    "filter_peers_by_inventory",
    "is_peer_mapping",
    "merge_wireguard_peers",
    "parse_wireguard_peers",
    "parts_of",
]

PeerDicts = dict[str, dict[str, str]]
Resolve = Callable[[HostPort], Endpoint | None]


def parse_wireguard_peers(text: str) -> PeerDicts:
    """The peers of a wg-quick file; `ConfigError` with every problem and its line."""
    names = StandIns()
    peers = parse_wgquick(text).peers
    return _dicts((peer.state(names.endpoint) for peer in peers), names)


def merge_wireguard_peers(
    existing: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> PeerDicts:
    """New peers added, known ones updated, all others as they were; sorted by name.

    What an entry of `new` leaves out is kept. `ConfigError` names both peers of every
    conflict.
    """
    names = StandIns()
    base = {p.state.public_key: p.state for p in parts_of(existing, names.endpoint)}
    state = DeviceState(peers=base)
    merged = merge(state, tuple(parts_of(new, names.endpoint)))
    return _dicts(merged.peers.values(), names)


def filter_peers_by_inventory(
    peers: Mapping[str, Mapping[str, Any]], inventory: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Only the peers whose name (or public key) the inventory lists, sorted."""
    wanted = set(inventory)
    return {
        name: dict(peers[name])
        for name in sorted(peers)
        if name in wanted or peers[name].get("public_key") in wanted
    }


def is_peer_mapping(value: object) -> bool:
    """Whether a JSON value is such a dictionary and no object with a `peers` list."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(v, dict) and "public_key" in v for v in value.values())
    )


def parts_of(
    peers: Mapping[str, Mapping[str, Any]], resolve: Resolve
) -> Iterator[PartialPeer]:
    """The dictionaries as partial peers; `ConfigError` with every problem."""
    problems: list[ConfigProblem] = []
    parts = [_part(name, entry, resolve, problems) for name, entry in peers.items()]
    if problems:
        raise ConfigError("peers", problems)
    yield from parts


def _endpoint(text: Any, resolve: Resolve) -> Endpoint:
    target = parse_host_port(str(text))
    endpoint = resolve(target)
    if endpoint is None:
        raise BadValue(f"cannot resolve {hide_keys(target[0])}", "write an address")
    return endpoint


def _prefixes(value: Any) -> tuple[tuple[bytes, int], ...]:
    texts = value.replace(",", " ").split() if isinstance(value, str) else value
    return canonical_prefixes(parse_prefix(str(text)) for text in texts)


_FIELDS: dict[str, tuple[str, Callable[[Any, Resolve], Any]]] = {
    "public_key": ("public_key", lambda v, _: parse_key(str(v))),
    "preshared_key": ("preshared_key", lambda v, _: secret_or_none(parse_key(str(v)))),
    "endpoint": ("endpoint", _endpoint),
    "allowed_ips": ("allowed_ips", lambda v, _: _prefixes(v)),
    "persistent_keepalive": ("keepalive", lambda v, _: parse_seconds(str(v))),
}


def _part(
    name: str,
    entry: Mapping[str, Any],
    resolve: Resolve,
    problems: list[ConfigProblem],
) -> PartialPeer:
    values: dict[str, Any] = {}
    # a peer without a name is called by its public key
    who = name if name == entry.get("public_key") else hide_keys(name)
    for key, value in entry.items():
        place = f"{who}.{hide_keys(key)}"
        known = _FIELDS.get(key)
        if known is None:
            hint = f"known: {', '.join(_FIELDS)}"
            problems.append(ConfigProblem(place, 0, "unknown key", hint))
        elif value not in (None, ""):
            try:
                values[known[0]] = known[1](value, resolve)
            except BadValue as bad:
                problems.append(ConfigProblem(place, 0, bad.message, bad.hint))
    if entry.get("public_key") == name:
        name = ""
    if "public_key" not in entry:
        problems.append(ConfigProblem(f"{who}.public_key", 0, "missing"))
    state = PeerState(values.pop("public_key", b""), name, **values)
    return PartialPeer(state, frozenset(values) | ({"name"} if name else frozenset()))


def _dicts(
    peers: Iterator[PeerState] | Collection[PeerState], names: StandIns
) -> PeerDicts:
    made: PeerDicts = {}
    for peer in peers:
        key = b64encode(peer.public_key).decode()
        entry = {
            "public_key": key,
            "allowed_ips": ", ".join(map(prefix_text, peer.allowed_ips)),
        }
        if peer.preshared_key is not None:
            secret = peer.preshared_key.reveal()
            entry["preshared_key"] = b64encode(secret).decode()
        if peer.endpoint is not None:
            entry["endpoint"] = names.text(peer.endpoint)
        if peer.keepalive:
            entry["persistent_keepalive"] = str(peer.keepalive)
        made[peer.name or key] = entry
    return dict(sorted(made.items()))
