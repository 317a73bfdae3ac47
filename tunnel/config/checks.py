"""Understands a configuration as a whole: what the values mean and if they fit.

Produces the `Facts` that `desired.py` turns into a desired state. Reads secret files
and the blocklist, creates nothing, resolves no name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from tunnel.config.documents import Document
from tunnel.config.identity import encode_key, generate_private_key, public_key
from tunnel.config.peers import (
    KEEPALIVE_MAX,
    PeerChecker,
    PeerFacts,
    check_name,
)
from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.schema import Config, PeerConfig
from tunnel.config.secrets import Surroundings, read_small
from tunnel.config.values import (
    BadValue,
    HostPort,
    mask_address,
    parse_address,
    parse_bind,
    parse_fwmark,
    parse_host_port,
    parse_interface_name,
    parse_ip,
    parse_key,
    parse_listen,
    parse_prefix,
    parse_seconds,
    shown,
)
from tunnel.protocol.prefixes import PrefixSet
from tunnel.state.model import (
    Address,
    InterfaceState,
    Prefix,
    Secret,
    canonical_prefixes,
    clamp,
)
from tunnel.workers import AUTO, WORKERS_MAX, read_workers

__all__ = ["SERVER_NAME", "Facts", "understand"]

SERVER_NAME: Final = "server"
DEFAULT_PORT: Final = 51820
REKEY_SECONDS: Final = (15, 120)
IPV6_MIN_MTU: Final = 1280
_BLOCKLIST_LIMIT: Final = 64 << 20  # bytes

T = TypeVar("T")
Settings = tuple[tuple[str, object], ...]


@dataclass(slots=True)
class Facts:
    """A correct configuration, parsed. `files` took part and deserve watching;
    `pending` are those of them that did not exist and are to be created.

    `private_key` is None when it follows from `psk` and `name`. A peer's `endpoint`
    may still be a host name. `documents` hold the peers, all together in the order of
    `peers`; `context` is what these depend on besides.
    """

    name: str
    private_key: Secret | None
    psk: str | None = field(repr=False)
    listen_port: int
    fwmark: int
    interface: InterfaceState
    peers: tuple[PeerFacts, ...]
    log_level: str
    settings: Settings
    files: tuple[Path, ...]
    pending: tuple[Path, ...] = field(default=(), compare=False)
    documents: tuple[Document, ...] = field(default=(), compare=False, repr=False)
    context: tuple[object, ...] = field(default=(), compare=False, repr=False)

    def place(self, number: int) -> str:
        """Where a peer stands, for people."""
        for document in self.documents:
            if number < len(document.peers):
                return document.place(number)
            number -= len(document.peers)
        return "peers"


class _Checker:
    """The values of one document; every `BadValue` becomes a problem of its key."""

    def __init__(self, config: Config, found: Found, where: Surroundings) -> None:
        self.config = config
        self.found = found
        self.where = where

    def value(self, at: JsonPath, parse: Callable[[], T], default: T) -> T:
        try:
            return parse()
        except BadValue as bad:
            self.found.add(at, bad.message, bad.hint)
            return default

    def each(
        self, at: JsonPath, texts: Sequence[str], parse: Callable[[str], T]
    ) -> list[T]:
        values = []
        for index, text in enumerate(texts):
            try:
                values.append(parse(text))
            except BadValue as bad:
                self.found.add((*at, index), bad.message, bad.hint)
        return values

    def prefixes(self, at: JsonPath, texts: Sequence[str]) -> tuple[Prefix, ...]:
        return canonical_prefixes(self.each(at, texts, parse_prefix))

    def seconds(self, key: str, value: int | str, lowest: int, highest: int) -> int:
        seconds = self.value((key,), lambda: parse_seconds(value), lowest)
        if not lowest <= seconds <= highest:
            self.found.add(
                (key,),
                f"not between {lowest} and {highest} seconds",
                f'write "{min(highest, max(lowest, 25))}s"',
            )
        return seconds

    def interface(self) -> InterfaceState:
        tunnel = self.config.tunnel
        name = self.value(
            ("tunnel", "name"), lambda: parse_interface_name(tunnel.name), ""
        )
        addresses: list[Address] = []
        if tunnel.address is not None:
            text = tunnel.address
            one = self.value(("tunnel", "address"), lambda: parse_address(text), None)
            addresses += [one] if one else []
        at = ("tunnel", "addresses")
        addresses += self.each(at, tunnel.addresses, parse_address)
        if tunnel.mtu < IPV6_MIN_MTU and any(len(a) == 16 for a, _ in addresses):
            self.found.add(
                ("tunnel", "mtu"),
                f"IPv6 needs an MTU of at least {IPV6_MIN_MTU}",
                f"write {IPV6_MIN_MTU} or more, or take the IPv6 address out",
            )
        return InterfaceState(
            kind=tunnel.type,
            name=name,
            mtu=tunnel.mtu,
            addresses=tuple(dict.fromkeys(addresses)),
            routes=self.prefixes(("tunnel", "routes"), tunnel.routes),
            dns=tuple(
                dict.fromkeys(self.each(("tunnel", "dns"), tunnel.dns, parse_ip))
            ),
            auto_configure=tunnel.auto_configure and tunnel.type == "tun",
            workers=self.workers(),
        )

    def workers(self) -> int:
        found = read_workers(self.config.workers)
        if found is None:
            self.found.add(
                ("workers",),
                f"{shown(str(self.config.workers))} is not a number of workers",
                f'write "auto" or a number of 1 to {WORKERS_MAX}',
            )
        return found or AUTO

    def listen(self) -> tuple[bytes, int]:
        value = self.config.listen
        if value is None:
            return b"", DEFAULT_PORT if self.config.mode == "server" else 0
        return self.value(("listen",), lambda: parse_listen(value), (b"", 0))

    def endpoint(self, peers: Sequence[PeerConfig]) -> HostPort | None:
        """The address of the client's server, which some peer has to have."""
        text = self.config.endpoint
        if self.config.mode == "server":
            if text is not None:
                self.found.add(
                    ("endpoint",),
                    "a server has no endpoint of its own",
                    'write "mode": "client", or the endpoint of a peer into its entry',
                )
            return None
        if text is not None:
            return self.value(("endpoint",), lambda: parse_host_port(text), None)
        if all(peer.endpoint is None for peer in peers):
            self.found.add(
                ("endpoint",),
                "missing: a client needs the address of its server",
                'write "endpoint": "vpn.example.com:51820"',
            )
        return None

    def private_key(self) -> Secret | None:
        source = self.config.private_key
        if source is None:
            if self.config.psk is None:
                self.found.add(
                    ("privateKey",),
                    "missing: neither privateKey nor psk is there",
                    "make a key with `tunnel genkey` and write it here",
                )
            return None
        text = self.where.secret(
            source,
            ("privateKey",),
            self.found,
            lambda: encode_key(generate_private_key()),
        )
        if text is None:
            return None
        key = self.value(("privateKey",), lambda: parse_key(text), b"")
        if key == bytes(32):
            self.found.add(
                ("privateKey",), "32 zero bytes are no key", "use `tunnel genkey`"
            )
        return Secret(clamp(key)) if key else None

    def blocklist(self) -> tuple[Prefix, ...]:
        text = self.config.access.blocklist
        if text is None:
            return ()
        at = ("access", "blocklist")
        try:
            path = self.where.resolve(text)
            self.where.files[path] = None
            lines = read_small(path, _BLOCKLIST_LIMIT).decode().splitlines()
        except OSError as error:
            reason = error.strerror or str(error)
            self.found.add(at, f"cannot read the file: {reason}", "mend the path")
            return ()
        except (ValueError, RuntimeError):
            self.found.add(at, "not a path to a UTF-8 file", "one prefix per line")
            return ()
        prefixes = []
        for number, line in enumerate(lines, 1):
            entry = line.partition("#")[0].strip()
            try:
                prefixes += [parse_prefix(entry)] if entry else []
            except BadValue as bad:
                self.found.add(at, f"line {number} of the file: {bad.message}")
        return canonical_prefixes(prefixes)

    def settings(self, listen_address: bytes) -> Settings:
        """Everything that is handed through; see `desired.SETTINGS`."""
        config, access = self.config, self.config.access
        if config.max_padding % 16:
            below = config.max_padding // 16 * 16
            self.found.add(
                ("maxPadding",),
                "WireGuard pads to multiples of 16 bytes",
                f"write {below} or {min(below + 16, 65520)}",
            )
        bind, output = config.management.bind, config.logging.output
        if bind is not None:
            text = bind
            self.value(("management", "bind"), lambda: parse_bind(text), "")
        if not output or not output.isprintable():
            self.found.add(
                ("logging", "output"), "not a file name", 'write "stderr" or a path'
            )
        elif output not in ("stderr", "stdout"):
            output = str(self.where.base / output)
        values: dict[str, object] = {
            "access.allow": PrefixSet(self.prefixes(("access", "allow"), access.allow)),
            "access.blocklist": PrefixSet(self.blocklist()),
            "access.deny": PrefixSet(self.prefixes(("access", "deny"), access.deny)),
            "allowDeviceToDevice": config.allow_device_to_device,
            "connectionBurst": config.connection_burst or 0,
            "connectionRate": config.connection_rate or 0.0,
            "listen.address": listen_address,
            "logging.output": output,
            "management.acl": self.prefixes(
                ("management", "acl"), config.management.acl
            ),
            "management.bind": bind or "",
            "maxConnections": config.max_connections,
            "maxPadding": config.max_padding,
            "mode": config.mode,
            "rekeyBudget": config.rekey_budget,
            "rekeyInterval": self.seconds(
                "rekeyInterval", config.rekey_interval, *REKEY_SECONDS
            ),
        }
        return tuple(values.items())


def _server_of(peers: Sequence[PeerConfig]) -> int:
    """Which peer a client's own `endpoint` is for: the one called "server", or the
    first that has no endpoint of its own; -1 when there is none."""
    open_ones = [i for i, peer in enumerate(peers) if peer.endpoint is None]
    named = [i for i in open_ones if peers[i].name == SERVER_NAME]
    return (named or open_ones or [-1])[0]


def understand(
    config: Config,
    documents: Sequence[Document],
    where: Surroundings,
    before: Facts | None = None,
) -> Facts:
    """The facts of a configuration; only valid when no document found a problem.

    `before` are right facts whose documents these were compared with: the peers that
    are the same there are not looked at again, nor compared with the others.
    """
    found = documents[0].found
    check = _Checker(config, found, where)
    client = config.mode == "client"
    documents = _with_server(config, documents) if client else documents
    name = config.name if config.name is not None else config.mode
    name = check_name(name, ("name",), found)
    private = check.private_key()
    keepalive = check.seconds("keepalive", config.keepalive, 0, KEEPALIVE_MAX)
    own_key = public_key(private.reveal()) if private else None
    checker = PeerChecker(documents, where, name, own_key, keepalive)
    psk = None
    if config.psk is not None:
        # An unreadable psk is one problem, not one more for every peer.
        psk = checker.passphrase(config.psk, ("psk",), found)
        checker.use_psk(psk or "")
    interface = check.interface()
    listen_address, listen_port = check.listen()
    everybody = [peer for each in documents for peer in each.peers] if client else []
    endpoint = check.endpoint(everybody)
    context = () if client else checker.context
    if client:
        networks = canonical_prefixes(
            [*map(mask_address, interface.addresses), *interface.routes]
        )
        peers = checker.client(_server_of(everybody), endpoint, networks)
    elif before is not None and before.context == context:
        peers = checker.rest(before.documents, before.peers)
    else:
        peers = checker.all()
    return Facts(
        name=name,
        private_key=private,
        psk=psk,
        listen_port=listen_port,
        fwmark=check.value(("fwmark",), lambda: parse_fwmark(config.fwmark), 0),
        interface=interface,
        peers=peers,
        log_level=config.logging.level,
        settings=check.settings(listen_address),
        files=tuple(where.files),
        pending=tuple(where.pending),
        documents=tuple(documents),
        context=context,
    )


def _with_server(config: Config, documents: Sequence[Document]) -> Sequence[Document]:
    """A client's documents: with a psk, it need not write its server down."""
    if any(document.peers for document in documents):
        return documents
    found = documents[0].found
    if config.psk is None:
        found.add(("peers",), "missing: a client needs its server", "add one peer")
        return documents
    return [Document(found, [PeerConfig(name=SERVER_NAME)])]
