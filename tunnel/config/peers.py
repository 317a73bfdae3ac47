"""The facts of all peers of a configuration: of which of them what is asked.

The peers of a server are all alike; one peer of a client is its server; and of a text
that was understood before only what is new is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.config.documents import Document
from tunnel.config.facts import PeerFacts
from tunnel.config.peer_check import PeerChecker
from tunnel.config.values import HostPort
from tunnel.state.model import Prefix

__all__ = ["all_differ", "all_peers", "client_peers", "remaining_peers"]


def all_peers(checker: PeerChecker) -> tuple[PeerFacts, ...]:
    """The facts of all peers, in order."""
    return tuple(
        checker.check(document, index)
        for document in checker.documents
        for index in range(len(document.peers))
    )


def client_peers(
    checker: PeerChecker,
    server: int,
    endpoint: HostPort | None,
    networks: tuple[Prefix, ...],
) -> tuple[PeerFacts, ...]:
    """The same for a client, whose peer number `server` has these defaults."""
    entries = [(d, index) for d in checker.documents for index in range(len(d.peers))]
    return tuple(
        checker.check(*entry, endpoint, networks)
        if number == server
        else checker.check(*entry)
        for number, entry in enumerate(entries)
    )


def remaining_peers(
    checker: PeerChecker, documents: Sequence[Document], known: Sequence[PeerFacts]
) -> tuple[PeerFacts, ...]:
    """The facts of all peers. Those that stayed in a document are taken from `known`,
    the facts of the peers of `documents`; they are compared with nobody, and a
    problem's text may name another peer than the one it is about."""
    before, at = {}, 0
    for document in documents:
        before[document.path] = known[at : at + len(document.peers)]
        at += len(document.peers)
    facts: list[PeerFacts] = []
    for document in checker.documents:
        old, count = before.get(document.path, ()), len(document.peers)
        front, back = document.front, document.back
        ahead, behind = old[:front], old[len(old) - back :]
        if any(peer.outside for part in (ahead, behind) for peer in part):
            ahead = behind = ()
        middle = range(len(ahead), count - len(behind))
        facts += ahead
        facts += [checker.check(document, index) for index in middle]
        facts += behind
    return tuple(facts)


def all_differ(peers: Sequence[PeerFacts]) -> bool:
    """Whether no two share a name, a key or a prefix: what `PeerChecker` checks one by
    one, so that it can say who."""
    names = [peer.name for peer in peers if peer.name]
    keys = [peer.public_key for peer in peers if peer.public_key is not None]
    prefixes = [p for peer in peers if peer.enabled for p in peer.allowed_ips]
    return all(len(set(each)) == len(each) for each in (names, keys, prefixes))
