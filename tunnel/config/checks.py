"""Understands a configuration as a whole: what the values mean and if they fit.

Reads secret files and the blocklist, creates nothing, resolves no name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import starmap
from typing import Final

from tunnel.config.checked import Checked
from tunnel.config.documents import Document
from tunnel.config.facts import Facts
from tunnel.config.hidden import shown
from tunnel.config.identity import public_key
from tunnel.config.keys import passphrase, private_key
from tunnel.config.peer_check import KEEPALIVE_MAX, PeerChecker, check_name
from tunnel.config.peers import all_peers, client_peers, remaining_peers
from tunnel.config.schema import Config, PeerConfig
from tunnel.config.secrets import Surroundings
from tunnel.config.settings import settings_of
from tunnel.config.values import (
    HostPort,
    parse_address,
    parse_fwmark,
    parse_host_port,
    parse_interface_name,
    parse_ip,
    parse_listen,
)
from tunnel.netconfig.linux import SYSTEM_TABLES
from tunnel.state.model import Address, InterfaceState, canonical_prefixes, mask
from tunnel.workers import AUTO, WORKERS_MAX, read_workers

__all__ = ["SERVER_NAME", "understand"]

SERVER_NAME: Final = "server"
DEFAULT_PORT: Final = 51820
IPV6_MIN_MTU: Final = 1280


def _interface(config: Config, check: Checked) -> InterfaceState:
    tunnel = config.tunnel
    name = check.value(
        ("tunnel", "name"), lambda: parse_interface_name(tunnel.name), ""
    )
    addresses: list[Address] = []
    if tunnel.address is not None:
        text = tunnel.address
        one = check.value(("tunnel", "address"), lambda: parse_address(text), None)
        addresses += [one] if one else []
    addresses += check.each(("tunnel", "addresses"), tunnel.addresses, parse_address)
    routes = check.prefixes(("tunnel", "routes"), tunnel.routes)
    ours = (*addresses, *(routes if tunnel.auto_configure else ()))
    if tunnel.mtu < IPV6_MIN_MTU and any(len(a) == 16 for a, _ in ours):
        check.found.add(
            ("tunnel", "mtu"),
            f"IPv6 needs an MTU of at least {IPV6_MIN_MTU}",
            f"write {IPV6_MIN_MTU} or more, or take the IPv6 addresses and routes out",
        )
    return InterfaceState(
        kind=tunnel.type,
        name=name,
        mtu=tunnel.mtu,
        addresses=tuple(dict.fromkeys(addresses)),
        routes=routes,
        dns=tuple(dict.fromkeys(check.each(("tunnel", "dns"), tunnel.dns, parse_ip))),
        auto_configure=tunnel.auto_configure and tunnel.type == "tun",
        workers=_workers(config, check),
    )


def _workers(config: Config, check: Checked) -> int:
    found = read_workers(config.workers)
    if found is None:
        check.found.add(
            ("workers",),
            f"{shown(str(config.workers))} is not a number of workers",
            f'write "auto" or a number of 1 to {WORKERS_MAX}',
        )
    return found or AUTO


def _fwmark(config: Config, interface: InterfaceState, check: Checked) -> int:
    """A default route takes along the tunnel's own datagrams unless they are marked;
    it lives in the routing table of that number."""
    fwmark = check.value(("fwmark",), lambda: parse_fwmark(config.fwmark), None)
    default = any(length == 0 for _, length in interface.routes)
    if not default or not interface.auto_configure or sys.platform != "linux":
        return fwmark or 0
    if fwmark == 0:
        check.found.add(
            ("tunnel", "routes"),
            "a default route needs a fwmark: without one it leads the tunnel's own "
            "datagrams into the tunnel",
            'write "fwmark": 51820, or take the default route out',
        )
    elif fwmark in SYSTEM_TABLES:
        check.found.add(
            ("fwmark",),
            f"the default route would be in routing table {fwmark}, which is the "
            f"system's own ({SYSTEM_TABLES[fwmark]})",
            'write another number: "fwmark": 51820',
        )
    return fwmark or 0


def _listen(config: Config, check: Checked) -> tuple[bytes, int]:
    value = config.listen
    if value is None:
        return b"", DEFAULT_PORT if config.mode == "server" else 0
    return check.value(("listen",), lambda: parse_listen(value), (b"", 0))


def _endpoint(
    config: Config, check: Checked, peers: Sequence[PeerConfig]
) -> HostPort | None:
    """The address of the client's server, which some peer has to have."""
    text = config.endpoint
    if config.mode == "server":
        if text is not None:
            check.found.add(
                ("endpoint",),
                "a server has no endpoint of its own",
                'write "mode": "client", or the endpoint of a peer into its entry',
            )
        return None
    if text is not None:
        return check.value(("endpoint",), lambda: parse_host_port(text), None)
    if all(peer.endpoint is None for peer in peers):
        check.found.add(
            ("endpoint",),
            "missing: a client needs the address of its server",
            'write "endpoint": "vpn.example.com:51820"',
        )
    return None


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
    check = Checked(found)
    client = config.mode == "client"
    documents = _with_server(config, documents) if client else documents
    name = config.name if config.name is not None else config.mode
    name = check_name(name, ("name",), found)
    private = private_key(config, where, found)
    keepalive = check.seconds("keepalive", config.keepalive, 0, KEEPALIVE_MAX)
    own_key = public_key(private.reveal()) if private else None
    checker = PeerChecker(documents, where, name, own_key, keepalive)
    psk = None
    if config.psk is not None:
        # An unreadable psk is one problem, not one more for every peer.
        psk = passphrase(config.psk, ("psk",), where, found)
        checker.use_psk(psk or "")
    interface = _interface(config, check)
    listen_address, listen_port = _listen(config, check)
    everybody = [peer for each in documents for peer in each.peers] if client else []
    endpoint = _endpoint(config, check, everybody)
    context = () if client else checker.context
    if client:
        networks = canonical_prefixes(
            [*starmap(mask, interface.addresses), *interface.routes]
        )
        peers = client_peers(checker, _server_of(everybody), endpoint, networks)
    elif before is not None and before.context == context:
        peers = remaining_peers(checker, before.documents, before.peers)
    else:
        peers = all_peers(checker)
    return Facts(
        name=name,
        private_key=private,
        psk=psk,
        listen_port=listen_port,
        fwmark=_fwmark(config, interface, check),
        interface=interface,
        peers=peers,
        log_level=config.logging.level,
        settings=settings_of(config, check, where, listen_address),
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
