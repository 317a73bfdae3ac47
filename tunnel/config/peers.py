"""Checks the peers of a configuration against each other, in one pass.

This is the loop that runs for every one of ten thousand peers: it parses each text
once and keeps the result. Nothing is derived from a passphrase here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tunnel.config.identity import generate_psk, normal_name
from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found, render_path
from tunnel.config.schema import PeerConfig, SecretRef
from tunnel.config.secrets import Surroundings
from tunnel.config.strength import weakness
from tunnel.config.values import (
    BadValue,
    HostPort,
    parse_host_port,
    parse_key,
    parse_prefix,
    parse_seconds,
    shown,
)
from tunnel.state.model import Prefix, Secret, canonical_prefixes, secret_or_none

__all__ = ["KEEPALIVE_MAX", "Entry", "PeerChecker", "PeerFacts", "check_name"]

KEEPALIVE_MAX = 65535
_NO_KEY = bytes(32)

Entry = tuple[Found, JsonPath, PeerConfig]


@dataclass(slots=True)
class PeerFacts:
    """A peer as understood. Without `public_key`, it follows from `psk` and `name`."""

    path: str
    name: str
    public_key: bytes | None
    psk: str | None = field(repr=False)
    preshared_key: Secret | None
    endpoint: HostPort | None
    allowed_ips: tuple[Prefix, ...]
    keepalive: int
    enabled: bool


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
    """Takes one peer after the other and knows what the earlier ones own.

    `own_name` and `own_key` are this end, `keepalive` is the default of the whole
    configuration.
    """

    def __init__(
        self,
        where: Surroundings,
        own_name: str,
        own_key: bytes | None,
        keepalive: int,
    ) -> None:
        self._where = where
        self._own_name = own_name
        self._own_key = own_key
        self._psk: str | None = None
        self._keepalive = keepalive
        self._names: dict[str, str] = {}
        self._keys: dict[bytes, str] = {}
        self._owners: dict[Prefix, str] = {}

    def use_psk(self, psk: str) -> None:
        """From here on, a peer without keys gets them from this passphrase."""
        self._psk = psk

    def check(
        self,
        entry: Entry,
        endpoint: HostPort | None = None,
        allowed_ips: tuple[Prefix, ...] = (),
    ) -> PeerFacts:
        """The facts of one peer; `endpoint` and `allowed_ips` are its defaults."""
        found, at, peer = entry
        # the main file's peers, ten thousand times, without the general rendering
        path = render_path(at, found.label) if found.label else f"peers[{at[1]}]"
        name = self._check_name(entry, path) if peer.name else ""
        psk = preshared = None
        if peer.psk is not None or peer.preshared_key is not None:
            psk, preshared = self._check_secrets(entry)
        key = None
        if peer.public_key is not None:
            key = self._check_key(entry, peer.public_key, path)
        elif psk is None:
            psk = self._check_derived(entry)
        if peer.endpoint is not None:
            try:
                endpoint = parse_host_port(peer.endpoint)
            except BadValue as bad:
                found.add((*at, "endpoint"), bad.message, bad.hint)
        if peer.allowed_ips is not None:
            allowed_ips = self._check_allowed(entry, peer.allowed_ips, path)
        keepalive = self._keepalive
        if peer.persistent_keepalive is not None:
            keepalive = self._check_keepalive(entry, peer.persistent_keepalive)
        return PeerFacts(
            path, name, key, psk, preshared, endpoint, allowed_ips, keepalive,
            peer.enabled,
        )  # fmt: skip

    def _check_name(self, entry: Entry, path: str) -> str:
        found, at, peer = entry
        name = check_name(peer.name, (*at, "name"), found)
        first = self._names.setdefault(name, path)
        if first is not path:
            found.add(
                (*at, "name"),
                f"{shown(name)} is the name of {first} too",
                "give every peer its own name",
            )
        return name

    def _check_key(self, entry: Entry, text: str, path: str) -> bytes | None:
        found, at, _ = entry
        at = (*at, "publicKey")
        try:
            key = parse_key(text)
        except BadValue as bad:
            found.add(at, bad.message, bad.hint)
            return None
        first = self._keys.setdefault(key, path)
        if first is not path:
            found.add(at, f"the same key as {first}", "every peer has its own key")
        if key == self._own_key:
            found.add(
                at,
                "this is the key of this tunnel itself",
                "write the public key of the other end",
            )
        if key == _NO_KEY:
            found.add(at, "32 zero bytes are no key", "write the peer's public key")
        return key

    def _check_derived(self, entry: Entry) -> str | None:
        """A peer without any key of its own: the passphrase of the configuration."""
        found, at, peer = entry
        if self._psk is None:
            found.add(
                (*at, "publicKey"),
                "missing",
                "write the peer's public key, or a psk that both ends know",
            )
        elif not peer.name:
            found.add(
                (*at, "name"),
                "missing: with a psk, the name decides the peer's key",
                "write the name of the other end, or its publicKey",
            )
        elif normal_name(peer.name) == self._own_name:
            found.add(
                (*at, "name"),
                f"{shown(peer.name)} is the name of this tunnel itself",
                "rename one of them; with a psk, equal names mean equal keys",
            )
        return self._psk

    def _check_secrets(self, entry: Entry) -> tuple[str | None, Secret | None]:
        found, at, peer = entry
        psk = preshared = None
        if peer.psk is not None and peer.preshared_key is not None:
            found.add(
                (*at, "psk"), "psk and presharedKey exclude each other", "keep one"
            )
        if peer.psk is not None:
            psk = self.passphrase(peer.psk, (*at, "psk"), found)
            if not peer.name:
                found.add((*at, "name"), "missing: a psk needs the peer's name")
        if peer.preshared_key is not None:
            preshared = self.key(peer.preshared_key, (*at, "presharedKey"), found)
        return psk, preshared

    def passphrase(
        self, source: str | SecretRef, at: JsonPath, found: Found
    ) -> str | None:
        """The text of a psk that is strong enough."""
        text = self._where.secret(source, at, found, generate_psk)
        weak = weakness(text) if text is not None else None
        if weak:
            found.add(at, *weak)
        return text

    def key(self, source: str | SecretRef, at: JsonPath, found: Found) -> Secret | None:
        """A secret key; all zero bytes mean none."""
        text = self._where.secret(source, at, found, generate_psk)
        if text is None:
            return None
        try:
            return secret_or_none(parse_key(text))
        except BadValue as bad:
            hint = bad.hint.replace("genkey", "genpsk")
            found.add(at, bad.message, hint)
            return None

    def _check_allowed(
        self, entry: Entry, texts: list[str], path: str
    ) -> tuple[Prefix, ...]:
        """The peer's prefixes; one that an enabled peer owns already is a problem."""
        found, at, peer = entry
        prefixes: list[Prefix] = []
        for index, text in enumerate(texts):
            try:
                prefix = parse_prefix(text)
            except BadValue as bad:
                found.add((*at, "allowedIPs", index), bad.message, bad.hint)
                continue
            prefixes.append(prefix)
            owner = self._owners.setdefault(prefix, path) if peer.enabled else path
            if owner is not path:
                found.add(
                    (*at, "allowedIPs", index),
                    f"{shown(text)} belongs to {owner} already",
                    "a prefix has one owner; give each device its own /32 or /128",
                )
        if len(prefixes) == 1:
            return (prefixes[0],)
        return canonical_prefixes(prefixes)

    def _check_keepalive(self, entry: Entry, value: int | str) -> int:
        found, at, _ = entry
        at = (*at, "persistentKeepalive")
        try:
            seconds = parse_seconds(value)
        except BadValue as bad:
            found.add(at, bad.message, bad.hint)
            return 0
        if not 0 <= seconds <= KEEPALIVE_MAX:
            found.add(at, f"not between 0 and {KEEPALIVE_MAX} seconds", "write 25")
        return seconds
