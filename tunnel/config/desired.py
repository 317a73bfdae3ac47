"""A checked configuration -> the desired state of the device.

Here the passphrase becomes keys and host names become addresses; everything else was
understood when the configuration was loaded.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import is_not
from typing import Final

from tunnel.config.addresses import Addresses, Resolver, literal
from tunnel.config.facts import Facts, PeerFacts
from tunnel.config.hidden import hide_keys
from tunnel.config.identity import PskMode, psk_mode
from tunnel.config.schema import Config
from tunnel.config.values import HostPort
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.state.model import DeviceState, Endpoint, PeerState, Secret, short_key

__all__ = ["SETTINGS", "desired_state"]

SETTINGS: Final = (
    ("access.allow", "PrefixSet, empty for everybody"),
    ("access.blocklist", "PrefixSet"),
    ("access.deny", "PrefixSet"),
    ("allowDeviceToDevice", "bool"),
    ("connectionBurst", "int, 0 for the protocol's"),
    ("connectionRate", "float, handshakes per second and source, 0 for the protocol's"),
    ("listen.address", "bytes, packed; empty for every address"),
    ("logging.output", '"stderr", "stdout" or an absolute path'),
    ("management.acl", "tuple[Prefix, ...]"),
    ("management.bind", '"host:port", "unix:/path" or "" for none'),
    ("maxConnections", "int, 0 for no limit"),
    ("maxPadding", "int, bytes"),
    ("mode", '"server" or "client"'),
    ("rekeyBudget", "int, messages"),
    ("rekeyInterval", "int, seconds"),
)
"""The names in `DeviceState.settings`, in their order, and what each value is."""


_NO_PEERS: Final[Mapping[bytes, PeerState]] = {}


class _Present:
    """The endpoints of the peers that run, for names without an address just now."""

    def __init__(self, known: Mapping[bytes, PeerState], before: Config | None) -> None:
        self._known = known
        self._before = before
        self._names: dict[bytes | str, HostPort | None] | None = None

    def endpoint(self, key: bytes, peer: PeerFacts) -> Endpoint | None:
        """None unless the peer runs with the very endpoint that is configured now."""
        running = self._known.get(key)
        if running is None or self._before is None:
            return None
        if self._names is None:
            peers = self._before.facts.peers
            self._names = {p.public_key or p.name: p.endpoint for p in peers}
        same = self._names.get(peer.public_key or peer.name) == peer.endpoint
        return running.endpoint if same else None


def desired_state(
    config: Config,
    resolve: Resolver = socket.getaddrinfo,
    known: Mapping[bytes, PeerState] = _NO_PEERS,
    before: Config | None = None,
    kept: list[ConfigProblem] | None = None,
) -> DeviceState:
    """What the device should be; `config` comes from `load_config` or `parse_config`.

    `resolve` is called as `socket.getaddrinfo` is, once per host name. A peer that is
    equal to the one in `known` is that very object, so that comparing the two states
    takes no look into it.

    `before` is the configuration under which `known` runs: a peer whose endpoint is
    the same name there keeps the address it has when the name has none; these are
    noted in `kept`. `ConfigError` when another name has no address, which is temporary
    if nothing else is wrong, or when a derived key equals another peer's key.
    """
    facts = config.facts
    addresses, present = Addresses(resolve), _Present(known, before)
    unresolved: list[ConfigProblem] = []
    problems: list[ConfigProblem] = []
    kept = [] if kept is None else kept
    states = [
        peer.state or _peer_state(facts, number, addresses, present, unresolved, kept)
        for number, peer in enumerate(facts.peers)
    ]
    peers = {state.public_key: state for state in states}
    if len(peers) != len(states):
        problems += _same_keys(facts, states)
    if known:
        _share(peers, known, facts)
    private = facts.private_key
    if private is None and facts.psk is not None:
        mode = psk_mode(facts.psk)
        private = Secret(mode.private_key(facts.name))
        own = peers.get(mode.public_key(facts.name))
        if own is not None:
            problems.append(_own_key(own))
    if unresolved or problems:
        found = unresolved + problems
        raise ConfigError("desired state", found, temporary=not problems)
    return DeviceState(
        private_key=private,
        listen_port=facts.listen_port,
        fwmark=facts.fwmark,
        interface=facts.interface,
        peers=peers,
        log_level=facts.log_level,
        settings=facts.settings,
    )


def _peer_state(
    facts: Facts,
    number: int,
    addresses: Addresses,
    present: _Present,
    unresolved: list[ConfigProblem],
    kept: list[ConfigProblem],
) -> PeerState:
    """One peer. Unless names or passphrases took part, it is kept with its facts."""
    peer, endpoint = facts.peers[number], None
    alone = peer.psk is None
    key, preshared = peer.public_key, peer.preshared_key
    if peer.psk is not None:
        key, preshared = _derive(peer, psk_mode(peer.psk), facts.name)
    assert key is not None
    if peer.endpoint is not None:
        alone = alone and literal(peer.endpoint[0]) is not None
        endpoint = addresses.endpoint(peer.endpoint)
        if endpoint is None:
            endpoint = present.endpoint(key, peer)
            problem = _unresolved(facts.place(number), peer.endpoint[0])
            (unresolved if endpoint is None else kept).append(problem)
    state = PeerState(
        key, peer.name, preshared, endpoint, peer.allowed_ips, peer.keepalive,
        peer.enabled,
    )  # fmt: skip
    if alone:
        peer.state = state
    return state


def _share(
    peers: dict[bytes, PeerState], known: Mapping[bytes, PeerState], facts: Facts
) -> None:
    """Puts the objects of `known` in the place of those that are equal to them."""
    other = compress(peers, map(is_not, peers.values(), map(known.get, peers)))
    equal = {key for key in other if known.get(key) == peers[key]}
    if not equal:
        return
    for key in equal:
        peers[key] = known[key]
    for peer in facts.peers:
        if peer.state is not None and peer.public_key in equal:
            peer.state = peers[peer.state.public_key]


def _derive(peer: PeerFacts, mode: PskMode, own_name: str) -> tuple[bytes, Secret]:
    """The keys of a peer with a passphrase; those in the configuration win."""
    key = peer.public_key or mode.public_key(peer.name)
    preshared = peer.preshared_key
    return key, preshared or Secret(mode.preshared_key(own_name, peer.name))


def _unresolved(place: str, host: str) -> ConfigProblem:
    one = place.removesuffix("$")  # a peer that is a document by itself
    return ConfigProblem(
        f"{one}endpoint" if one != place else f"{place}.endpoint",
        0,
        f"cannot resolve {hide_keys(host)}",
        "check the name and the name server, or write an address",
    )


def _own_key(peer: PeerState) -> ConfigProblem:
    return ConfigProblem(
        "peers",
        0,
        f"the key of a peer ({short_key(peer.public_key)}) is this tunnel's own",
        "write the public key of the other end",
    )


def _same_keys(facts: Facts, states: Sequence[PeerState]) -> Iterator[ConfigProblem]:
    seen: set[bytes] = set()
    for number, state in enumerate(states):
        if state.public_key in seen:
            yield ConfigProblem(
                facts.place(number),
                0,
                f"has the same public key as another peer "
                f"({short_key(state.public_key)})",
                "every peer has its own key",
            )
        seen.add(state.public_key)
