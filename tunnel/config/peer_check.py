"""Checks one peer of a configuration after the other, also against the earlier ones.

This runs for every one of ten thousand peers: it parses each text once and keeps the
result. Nothing is derived from a passphrase here.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.config.documents import Document
from tunnel.config.facts import PeerFacts
from tunnel.config.hidden import shown
from tunnel.config.identity import normal_name
from tunnel.config.keys import NO_KEY, passphrase, preshared_key
from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.schema import PeerConfig, SecretRef
from tunnel.config.secrets import Surroundings
from tunnel.config.values import (
    BadValue,
    HostPort,
    parse_host_port,
    parse_key,
    parse_prefix,
    parse_seconds,
)
from tunnel.state.model import Prefix, Secret, canonical_prefixes, secret_or_none

__all__ = ["KEEPALIVE_MAX", "PeerChecker", "check_name"]

KEEPALIVE_MAX = 65535

Entry = tuple[Document, int, PeerConfig]


def check_name(name: str, at: JsonPath, found: Found) -> str:
    """The name in its normal form; problems when it could not be shown or typed."""
    if not name or not name.isprintable() or name[0] == " " or name[-1] == " ":
        found.add(
            at,
            "a name has 1 to 64 printable characters, no space at either end",
            'write for example "laptop"',
        )
    return name if name.isascii() else normal_name(name)


class PeerChecker:
    """Takes one document after the other and knows what the earlier peers own.

    `own_name` and `own_key` are this end, `keepalive` is the default of the whole
    configuration.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        where: Surroundings,
        own_name: str,
        own_key: bytes | None,
        keepalive: int,
    ) -> None:
        self.documents = documents
        self._where = where
        self._own_name = own_name
        self._own_key = own_key
        self._psk: str | None = None
        self._keepalive = keepalive
        self._number = -1  # of the peer that is looked at, over all documents
        self._names: dict[str, int] = {}
        self._keys: dict[bytes, int] = {}
        self._owners: dict[Prefix, int] = {}

    def use_psk(self, psk: str) -> None:
        """From here on, a peer without keys gets them from this passphrase."""
        self._psk = psk

    @property
    def context(self) -> tuple[object, ...]:
        """What the facts of a peer depend on, apart from its own text."""
        return self._own_name, self._own_key, self._psk, self._keepalive

    def check(
        self,
        document: Document,
        index: int,
        endpoint: HostPort | None = None,
        allowed_ips: tuple[Prefix, ...] = (),
    ) -> PeerFacts:
        """The facts of one peer; `endpoint` and `allowed_ips` are its defaults. Ten
        thousand times: what most peers do not have costs one question each."""
        peer = document.peers[index]
        entry = document, index, peer
        number = self._number = self._number + 1
        name = peer.name
        if name:
            if not (name.isascii() and name.isprintable()) or name != name.strip(" "):
                name = check_name(name, (*document.at(index), "name"), document.found)
            if self._names.setdefault(name, number) != number:
                self._add_same_name(entry, name)
        psk = preshared = key = None
        outside = False
        if peer.psk is not None or peer.preshared_key is not None:
            psk, preshared = self._check_secrets(entry)
            outside = SecretRef in (type(peer.psk), type(peer.preshared_key))
        if peer.public_key is not None:
            key = self._check_key(entry, peer.public_key)
        elif psk is None:
            psk = self._check_derived(entry)
        if peer.endpoint is not None:
            try:
                endpoint = parse_host_port(peer.endpoint)
            except BadValue as bad:
                self._add(entry, ("endpoint",), bad.message, bad.hint)
        if peer.allowed_ips is not None:
            allowed_ips = self._check_allowed(entry, peer.allowed_ips)
        keepalive = self._keepalive
        if peer.persistent_keepalive is not None:
            keepalive = self._check_keepalive(entry, peer.persistent_keepalive)
        return PeerFacts(
            name, key, psk, preshared, endpoint, allowed_ips, keepalive, peer.enabled,
            outside,
        )  # fmt: skip

    def _add(self, entry: Entry, at: JsonPath, message: str, hint: str = "") -> None:
        document, index, _ = entry
        document.found.add((*document.at(index), *at), message, hint)

    def _place(self, number: int) -> str:
        """Where the peer stands that was looked at as that one."""
        for document in self.documents:
            if number < len(document.peers):
                return document.place(number)
            number -= len(document.peers)
        raise AssertionError(number)

    def _add_same_name(self, entry: Entry, name: str) -> None:
        first = self._place(self._names[name])
        self._add(
            entry,
            ("name",),
            f"{shown(name)} is the name of {first} too",
            "give every peer its own name",
        )

    def _check_key(self, entry: Entry, text: str) -> bytes | None:
        at = ("publicKey",)
        try:
            key = parse_key(text)
        except BadValue as bad:
            self._add(entry, at, bad.message, bad.hint)
            return None
        number = self._number
        first = self._keys.setdefault(key, number)
        if first != number:
            message = f"the same key as {self._place(first)}"
            self._add(entry, at, message, "every peer has its own key")
        if key == self._own_key:
            self._add(
                entry,
                at,
                "this is the key of this tunnel itself",
                "write the public key of the other end",
            )
        if key == NO_KEY:
            message = "32 zero bytes are no key"
            self._add(entry, at, message, "write the peer's public key")
        return key

    def _check_derived(self, entry: Entry) -> str | None:
        """A peer without any key of its own: the passphrase of the configuration."""
        peer = entry[2]
        if self._psk is None:
            self._add(
                entry,
                ("publicKey",),
                "missing",
                "write the peer's public key, or a psk that both ends know",
            )
        elif not peer.name:
            self._add(
                entry,
                ("name",),
                "missing: with a psk, the name decides the peer's key",
                "write the name of the other end, or its publicKey",
            )
        elif normal_name(peer.name) == self._own_name:
            self._add(
                entry,
                ("name",),
                f"{shown(peer.name)} is the name of this tunnel itself",
                "rename one of them; with a psk, equal names mean equal keys",
            )
        return self._psk

    def _check_secrets(self, entry: Entry) -> tuple[str | None, Secret | None]:
        document, index, peer = entry
        psk = preshared = None
        if peer.psk is None and isinstance(peer.preshared_key, str):
            try:  # nearly always, and right; what is wrong is said below
                return None, secret_or_none(parse_key(peer.preshared_key))
            except BadValue:
                pass
        at, found = document.at(index), document.found
        if peer.psk is not None and peer.preshared_key is not None:
            message = "psk and presharedKey exclude each other"
            found.add((*at, "psk"), message, "keep one")
        if peer.psk is not None:
            psk = passphrase(peer.psk, (*at, "psk"), self._where, found)
            if not peer.name:
                found.add((*at, "name"), "missing: a psk needs the peer's name")
        if peer.preshared_key is not None:
            preshared = preshared_key(
                peer.preshared_key, (*at, "presharedKey"), self._where, found
            )
        return psk, preshared

    def _check_allowed(self, entry: Entry, texts: list[str]) -> tuple[Prefix, ...]:
        """The peer's prefixes; one that an enabled peer owns already is a problem."""
        enabled, number, owners = entry[2].enabled, self._number, self._owners
        if len(texts) == 1:
            try:
                only = parse_prefix(texts[0])
                if not enabled or owners.setdefault(only, number) == number:
                    return (only,)
            except BadValue:
                pass
        prefixes: list[Prefix] = []
        for index, text in enumerate(texts):
            try:
                prefix = parse_prefix(text)
            except BadValue as bad:
                self._add(entry, ("allowedIPs", index), bad.message, bad.hint)
                continue
            prefixes.append(prefix)
            if enabled and (owner := owners.setdefault(prefix, number)) != number:
                self._add(
                    entry,
                    ("allowedIPs", index),
                    f"{shown(text)} belongs to {self._place(owner)} already",
                    "a prefix has one owner; give each device its own /32 or /128",
                )
        return canonical_prefixes(prefixes)

    def _check_keepalive(self, entry: Entry, value: int | str) -> int:
        at = ("persistentKeepalive",)
        try:
            seconds = parse_seconds(value)
        except BadValue as bad:
            self._add(entry, at, bad.message, bad.hint)
            return 0
        if not 0 <= seconds <= KEEPALIVE_MAX:
            message = f"not between 0 and {KEEPALIVE_MAX} seconds"
            self._add(entry, at, message, "write 25")
        return seconds
