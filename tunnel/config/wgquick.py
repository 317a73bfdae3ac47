"""wg-quick files: read with every problem and its line, changed, and written back.

What is written is accepted by `wg-quick` and `wg setconf`. A file that is read keeps
its lines: a section that nothing changed is written as it stood, with its comments.
A peer's name is a comment below `[Peer]`: `# friendly_name=NAME` (which exporters
read), `# Name = NAME`, or `# NAME` alone on the line after it (`wgquick_names.py`). The
texts of a section are in `wgquick_sections.py`, `wgquick_lines.py` and
`wgquick_write.py`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunnel.config.hidden import hide_keys
from tunnel.config.secrets import read_small
from tunnel.config.values import BadValue, HostPort, parse_ip
from tunnel.config.wgquick_lines import check_unique, read_interface, read_peer
from tunnel.config.wgquick_names import names_of, set_apart
from tunnel.config.wgquick_sections import Block, Problems, split
from tunnel.config.wgquick_values import InterfaceValues, PeerValues
from tunnel.config.wgquick_write import interface_lines, peer_lines
from tunnel.constants import DEFAULT_MTU
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    InterfaceState,
    PeerState,
    canonical_prefixes,
    mask,
    unmapped,
)
from tunnel.state.render import address_text

__all__ = ["WgPeer", "WgQuick", "load_wgquick", "parse_wgquick", "wgquick_of"]

MAX_FILE = 64 << 20
Resolve = Callable[[HostPort], Endpoint | None]


@dataclass(frozen=True, slots=True)
class WgPeer:
    """One `[Peer]`; `lines` are those it was read from. Not `named`: the comment there
    that could be its name is another peer's."""

    values: PeerValues
    lines: tuple[str, ...] = field(default=(), compare=False, repr=False)
    named: bool = field(default=True, compare=False, repr=False)

    def text(self, *, secrets: bool = True) -> list[str]:
        """Its lines as they are written."""
        return peer_lines(self.values, self.lines, secrets, self.named)

    def state(self, resolve: Resolve) -> PeerState:
        """As a peer of a desired state. `ConfigError` when a name has no address."""
        values = self.values
        endpoint = None
        if values.endpoint is not None:
            endpoint = resolve(values.endpoint)
            if endpoint is None:
                who = values.name or b64encode(values.public_key).decode()
                raise ConfigError(
                    who,
                    [
                        ConfigProblem(
                            "Peer.Endpoint",
                            0,
                            f"cannot resolve {hide_keys(values.endpoint[0])}",
                            "check the name and the name server, or write an address",
                        )
                    ],
                )
        return PeerState(
            values.public_key,
            values.name,
            values.preshared_key,
            endpoint,
            values.allowed_ips,
            values.keepalive or 0,
        )


@dataclass(frozen=True, slots=True)
class WgQuick:
    """A whole file. `lines` are those of its first part, up to the first peer."""

    interface: InterfaceValues = field(default_factory=InterfaceValues)
    peers: tuple[WgPeer, ...] = ()
    lines: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def text(self, *, secrets: bool = True) -> str:
        """The file; without `secrets`, keys and hooks are shown as `(hidden)`."""
        blocks = [interface_lines(self.interface, self.lines, secrets)]
        blocks += [peer.text(secrets=secrets) for peer in self.peers]
        return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"

    def state(self, name: str, resolve: Resolve) -> DeviceState:
        """The tunnel that `wg-quick up` makes of it, called `name`.

        Routes follow from the allowed IPs unless `Table = off`; hooks, search domains
        and other tables have no place in a state.
        """
        own, peers = self.interface, [peer.state(resolve) for peer in self.peers]
        inside = {mask(*address) for address in own.addresses}
        routes = canonical_prefixes(
            prefix
            for peer in peers
            for prefix in peer.allowed_ips
            if own.table != "off" and prefix not in inside
        )
        return DeviceState(
            private_key=own.private_key,
            listen_port=own.listen_port or 0,
            fwmark=own.fwmark or 0,
            interface=InterfaceState(
                name=name,
                mtu=own.mtu or DEFAULT_MTU,
                addresses=own.addresses,
                routes=routes,
                dns=own.dns,
                auto_configure=True,
            ),
            peers={peer.public_key: peer for peer in peers},
        )

    def with_peers(
        self, peers: Iterable[PeerState], text_of: Callable[[Endpoint], HostPort]
    ) -> WgQuick:
        """The file with exactly these peers. One that is the same, or has only
        changed its name or key, keeps its comments, and the same endpoint its spelling;
        a disabled one is left out."""
        by_key = {peer.values.public_key: peer for peer in self.peers}
        by_name = {peer.values.name: peer for peer in self.peers if peer.values.name}
        made = []
        for state in peers:
            if not state.enabled:
                continue
            old = by_key.get(state.public_key) or by_name.get(state.name)
            values = PeerValues(
                state.public_key,
                state.name,
                state.preshared_key,
                _spelled(text_of(state.endpoint), old) if state.endpoint else None,
                state.allowed_ips,
                _keepalive(state.keepalive, old),
            )
            made.append(replace(old, values=values) if old else WgPeer(values))
        if not all(peer.named for peer in made):
            made = _told_apart(made)
        return WgQuick(self.interface, tuple(made), self.lines)


def _told_apart(peers: list[WgPeer]) -> list[WgPeer]:
    """In another order a comment that was no name could become one."""
    read = names_of(peer.text() for peer in peers)
    if read == [peer.values.name for peer in peers]:
        return peers
    return [
        peer if peer.named else WgPeer(peer.values, set_apart(peer.lines))
        for peer in peers
    ]


def _keepalive(seconds: int, old: WgPeer | None) -> int | None:
    """0 is written only where it was written."""
    if seconds or old is None:
        return seconds or None
    return 0 if old.values.keepalive is not None else None


def _spelled(target: HostPort, old: WgPeer | None) -> HostPort:
    """As it was written, if that means the same."""
    before = old.values.endpoint if old is not None else None
    return before if before and _meaning(before) == _meaning(target) else target


def _meaning(target: HostPort) -> tuple[bytes | str, int]:
    host, port = target
    try:
        return unmapped(parse_ip(host)), port
    except BadValue:
        return host.lower(), port


def literal(endpoint: Endpoint) -> HostPort:
    """An endpoint as numbers."""
    address, port, scope = endpoint
    host = address_text(address)
    return (f"{host}%{scope}" if scope else host), port


def wgquick_of(
    state: DeviceState, text_of: Callable[[Endpoint], HostPort] = literal
) -> WgQuick:
    """A state as a file. `text_of` says how an endpoint is written. Disabled peers
    and settings that wg-quick does not have are left out."""
    own = state.interface
    interface = InterfaceValues(
        private_key=state.private_key,
        listen_port=state.listen_port or None,
        fwmark=state.fwmark or None,
        addresses=own.addresses,
        dns=own.dns,
        mtu=own.mtu if own.mtu != DEFAULT_MTU else None,
    )
    return WgQuick(interface).with_peers(state.peers.values(), text_of)


def parse_wgquick(text: str, source: str = "<text>") -> WgQuick:
    """The file in a text; `ConfigError` with every problem in it."""
    problems = Problems()
    blocks = split(text, problems)
    interface, lines = InterfaceValues(), blocks[0].lines
    seen: Block | None = None
    peers: list[WgPeer] = []
    known: dict[object, str] = {}
    names = iter(names_of(b.lines for b in blocks if b.kind == "peer"))
    for block in blocks[1:]:
        if block.kind == "interface":
            if seen is not None:
                problems.add(
                    "Interface",
                    block.line,
                    f"there is one already on line {seen.line}",
                    "put them together",
                )
            seen = block
            interface = read_interface(block, problems)
            lines += block.lines
            continue
        read, name = read_peer(block, len(peers), problems), next(names)
        values = replace(read, name=name)
        check_unique(values, block, len(peers), known, problems)
        peers.append(WgPeer(values, block.lines, named=name == read.name))
    if problems.found:
        raise ConfigError(source, sorted(problems.found, key=lambda p: p.line))
    return WgQuick(interface, tuple(peers), lines)


def load_wgquick(path: str | Path) -> WgQuick:
    """The file at `path`; `ConfigError` also when it cannot be read."""
    try:
        text = read_small(Path(path), MAX_FILE).decode()
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    else:
        return parse_wgquick(text, str(path))
    raise ConfigError(
        str(path), [ConfigProblem("file", 0, f"cannot read it: {reason}")]
    )
