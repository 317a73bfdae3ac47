"""A checked configuration -> the desired state of the device.

Here the passphrase becomes keys and host names become addresses; everything else was
understood when the configuration was loaded.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from tunnel.config.identity import PskMode, psk_mode
from tunnel.config.peers import PeerFacts
from tunnel.config.schema import Config
from tunnel.config.values import HostPort
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.state.model import DeviceState, Endpoint, PeerState, Secret, short_key

__all__ = ["SETTINGS", "Addresses", "Resolver", "desired_state"]

Resolver = Callable[..., list[Any]]

SETTINGS: Final = (
    ("access.allow", "tuple[Prefix, ...]"),
    ("access.blocklist", "tuple[Prefix, ...]"),
    ("access.deny", "tuple[Prefix, ...]"),
    ("allowDeviceToDevice", "bool"),
    ("connectionBurst", "int"),
    ("connectionRate", "float, handshakes per second and source"),
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


class Addresses:
    """Resolves each host once; literal addresses never reach the resolver.

    Of several answers the smallest of the preferred family is taken, so that a name
    server that rotates its answers does not look like a changed configuration.
    """

    def __init__(self, resolve: Resolver) -> None:
        self._resolve = resolve
        self._known: dict[str, tuple[bytes, int] | None] = {}

    def endpoint(self, target: HostPort) -> Endpoint | None:
        """None when the name has no address."""
        host, port = target
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.inet_pton(family, host), port, 0
        except (OSError, ValueError):
            pass
        if host not in self._known:
            self._known[host] = self._look_up(host)
        found = self._known[host]
        return (found[0], port, found[1]) if found else None

    def _look_up(self, host: str) -> tuple[bytes, int] | None:
        try:
            answers = self._resolve(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return None
        families = (socket.AF_INET, socket.AF_INET6)
        usable = [(a[0], a[4]) for a in answers if a[0] in families]
        if not usable:
            return None
        preferred = usable[0][0]
        return min(
            (
                socket.inet_pton(family, str(address[0]).partition("%")[0]),
                address[3] if family == socket.AF_INET6 else 0,
            )
            for family, address in usable
            if family == preferred
        )


_NO_PEERS: Final[Mapping[bytes, PeerState]] = {}


def desired_state(
    config: Config,
    resolve: Resolver = socket.getaddrinfo,
    known: Mapping[bytes, PeerState] = _NO_PEERS,
) -> DeviceState:
    """What the device should be; `config` comes from `load_config` or `parse_config`.

    `resolve` is called as `socket.getaddrinfo` is, once per host name. A peer that is
    equal to the one in `known` is that very object, so that comparing the two states
    takes no look into it. `ConfigError` when a name has no address, or when a derived
    key equals another peer's key.
    """
    facts = config.facts
    addresses = Addresses(resolve)
    problems: list[ConfigProblem] = []
    peers: dict[bytes, PeerState] = {}
    for peer in facts.peers:
        endpoint = None
        if peer.endpoint is not None:
            endpoint = addresses.endpoint(peer.endpoint)
            if endpoint is None:
                problems.append(_unresolved(peer))
        key, preshared = peer.public_key, peer.preshared_key
        if peer.psk is not None:
            key, preshared = _derive(peer, psk_mode(peer.psk), facts.name)
        assert key is not None
        if key in peers:
            problems.append(_same_key(peer, key))
        same = known.get(key)
        if same is not None and (
            same.allowed_ips == peer.allowed_ips
            and same.name == peer.name
            and same.endpoint == endpoint
            and same.keepalive == peer.keepalive
            and same.enabled == peer.enabled
            and same.preshared_key == preshared
        ):
            peers[key] = same
            continue
        peers[key] = PeerState(
            key, peer.name, preshared, endpoint, peer.allowed_ips, peer.keepalive,
            peer.enabled,
        )  # fmt: skip
    private = facts.private_key
    if private is None and facts.psk is not None:
        mode = psk_mode(facts.psk)
        private = Secret(mode.private_key(facts.name))
        own = peers.get(mode.public_key(facts.name))
        if own is not None:
            problems.append(_own_key(own))
    if problems:
        raise ConfigError("desired state", problems)
    return DeviceState(
        private_key=private,
        listen_port=facts.listen_port,
        fwmark=facts.fwmark,
        interface=facts.interface,
        peers=peers,
        log_level=facts.log_level,
        settings=facts.settings,
    )


def _derive(peer: PeerFacts, mode: PskMode, own_name: str) -> tuple[bytes, Secret]:
    """The keys of a peer with a passphrase; those in the configuration win."""
    key = peer.public_key or mode.public_key(peer.name)
    preshared = peer.preshared_key
    return key, preshared or Secret(mode.preshared_key(own_name, peer.name))


def _unresolved(peer: PeerFacts) -> ConfigProblem:
    host = peer.endpoint[0] if peer.endpoint else ""
    return ConfigProblem(
        f"{peer.path}.endpoint",
        0,
        f"cannot resolve {host}",
        "check the name and the name server, or write an address",
    )


def _own_key(peer: PeerState) -> ConfigProblem:
    return ConfigProblem(
        "peers",
        0,
        f"the key of a peer ({short_key(peer.public_key)}) is this tunnel's own",
        "write the public key of the other end",
    )


def _same_key(peer: PeerFacts, key: bytes) -> ConfigProblem:
    return ConfigProblem(
        peer.path,
        0,
        f"has the same public key as another peer ({short_key(key)})",
        "every peer has its own key",
    )
