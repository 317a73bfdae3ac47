"""Reads a partial set of peers: JSON or wg-quick.

JSON is a list of peers as in config.json, an object with the single key `peers`, or a
mapping of names to what the Ansible filters make (`peers.py`); a file with one peer a
line is read as such a list. What an entry leaves out is not given: merging keeps the
value that is there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnel.config.hidden import hide_keys
from tunnel.config.peer_check import KEEPALIVE_MAX, check_name
from tunnel.config.peer_lines import as_json, has_lines
from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.secrets import Surroundings, read_small
from tunnel.config.values import (
    BadValue,
    HostPort,
    parse_host_port,
    parse_key,
    parse_prefix,
    parse_seconds,
)
from tunnel.config.wgquick import WgQuick, parse_wgquick
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.state.merge import PartialPeer
from tunnel.state.model import (
    Endpoint,
    PeerState,
    canonical_prefixes,
    secret_or_none,
)

if TYPE_CHECKING:
    from tunnel.config.schema import PeerConfig

__all__ = [
    "PartialSet",
    "is_json",
    "partial_of",
    "read_partial",
    "read_text",
    "text_in",
]

_LIMIT = 256 << 20
_JSON = re.compile(r"\s*(\{|\[\s*[\]{])")
Resolve = Callable[[HostPort], Endpoint | None]


@dataclass(frozen=True, slots=True)
class PartialSet:
    """Peers with what is given of each. `references` are preshared keys that are kept
    elsewhere, as config.json writes them, by public key or name of the peer."""

    peers: tuple[PartialPeer, ...]
    references: Mapping[bytes | str, dict[str, Any]] = field(default_factory=dict)


def is_json(text: str) -> bool:
    """Whether a text is JSON rather than a wg-quick file."""
    return _JSON.match(text) is not None


def read_text(path: str) -> str:
    """A file, or standard input for "-"; `ConfigError` when it cannot be read."""
    try:
        raw = sys.stdin.buffer.read(_LIMIT) if path == "-" else _read(Path(path))
        return raw.decode()
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise ConfigError(path, [ConfigProblem("file", 0, f"cannot read it: {reason}")])


def text_in(path: Path) -> str | None:
    """A file that is to be changed; None when there is none yet."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        pass  # reading it says why
    return read_text(str(path))


def _read(path: Path) -> bytes:
    if not path.is_fifo():  # <(command) of a shell
        return read_small(path, _LIMIT)
    with path.open("rb") as pipe:
        return pipe.read(_LIMIT)


def read_partial(path: str, resolve: Resolve) -> PartialSet:
    """The set in a file; `ConfigError` with every problem."""
    text = read_text(path)
    found = Found(text)
    if has_lines(text):
        found.text = text = as_json(text, found)
    elif not is_json(text):
        return PartialSet(partial_of(parse_wgquick(text, path), resolve))
    base = Path.cwd() if path == "-" else Path(path).absolute().parent
    partial = _read_json(text, found, base, resolve)
    if found or partial is None:
        raise ConfigError(path, found.problems())
    return partial


def partial_of(document: WgQuick, resolve: Resolve) -> tuple[PartialPeer, ...]:
    """The peers of a wg-quick file; only what its lines say is given."""
    parts = []
    for peer in document.peers:
        values, state = peer.values, peer.state(resolve)
        given = {
            "name": state.name != "",
            "preshared_key": values.preshared_key is not None,
            "endpoint": values.endpoint is not None,
            "allowed_ips": bool(values.allowed_ips),
            "keepalive": values.keepalive is not None,
        }
        parts.append(PartialPeer(state, frozenset(n for n, g in given.items() if g)))
    return tuple(parts)


def _read_json(
    text: str, found: Found, base: Path, resolve: Resolve
) -> PartialSet | None:
    from tunnel.config.schema import Fragment
    from tunnel.config.syntax import parse_json, validated
    from tunnel.fleet.peers import is_peer_mapping, parts_of

    value = parse_json(text, found)
    if found:
        return None
    if is_peer_mapping(value):
        return PartialSet(tuple(parts_of(value, resolve)))
    if isinstance(value, list):
        found.unwrap = True
        value = {"peers": value}
    fragment = validated(Fragment, value, found)
    if fragment is None:
        return None
    reader = _JsonReader(found, Surroundings(base, os.environ), resolve)
    parts = [reader.peer(peer, ("peers", n)) for n, peer in enumerate(fragment.peers)]
    return PartialSet(tuple(parts), reader.references)


class _JsonReader:
    """Peers of config.json's form, with what each of them mentions."""

    def __init__(self, found: Found, where: Surroundings, resolve: Resolve) -> None:
        self._found, self._where, self._resolve = found, where, resolve
        self.references: dict[bytes | str, dict[str, Any]] = {}

    def peer(self, peer: PeerConfig, at: JsonPath) -> PartialPeer:
        state = PeerState(self._key(peer, at), enabled=peer.enabled)
        given = {"enabled"} & peer.model_fields_set
        if peer.name:
            name = check_name(peer.name, (*at, "name"), self._found)
            state = replace(state, name=name)
            given.add("name")
        if peer.psk is not None:
            self._found.add(
                (*at, "psk"), "a partial set has no psk", "write the peer's publicKey"
            )
        if peer.allowed_ips is not None:
            texts = enumerate(peer.allowed_ips)
            prefixes = [
                self._value((*at, "allowedIPs", n), parse_prefix, text)
                for n, text in texts
            ]
            wanted = canonical_prefixes(p for p in prefixes if p is not None)
            state = replace(state, allowed_ips=wanted)
            given.add("allowed_ips")
        if peer.persistent_keepalive is not None:
            state = replace(state, keepalive=self._keepalive(peer, at))
            given.add("keepalive")
        if peer.endpoint is not None:
            state = replace(state, endpoint=self._endpoint(peer.endpoint, at))
            given.add("endpoint")
        if peer.preshared_key is not None:
            state = self._preshared(peer, state, at)
            given.add("preshared_key")
        return PartialPeer(state, frozenset(given))

    def _value(self, at: JsonPath, parse: Callable[[Any], Any], text: object) -> Any:
        try:
            return parse(text)
        except BadValue as bad:
            self._found.add(at, bad.message, bad.hint)
            return None

    def _key(self, peer: PeerConfig, at: JsonPath) -> bytes:
        if peer.public_key is not None:
            key = self._value((*at, "publicKey"), parse_key, peer.public_key) or b""
            return bytes(key)
        if not peer.name:
            self._found.add(
                at, "has neither publicKey nor name", "write one of them, or both"
            )
        return b""

    def _keepalive(self, peer: PeerConfig, at: JsonPath) -> int:
        at = (*at, "persistentKeepalive")
        seconds = self._value(at, parse_seconds, peer.persistent_keepalive) or 0
        if not 0 <= seconds <= KEEPALIVE_MAX:
            self._found.add(at, f"not between 0 and {KEEPALIVE_MAX} seconds")
        return int(seconds)

    def _endpoint(self, text: str, at: JsonPath) -> Endpoint | None:
        at = (*at, "endpoint")
        target = self._value(at, parse_host_port, text)
        endpoint = self._resolve(target) if target is not None else None
        if target is not None and endpoint is None:
            host = hide_keys(target[0])
            self._found.add(at, f"cannot resolve {host}", "write an address")
        return endpoint

    def _preshared(self, peer: PeerConfig, state: PeerState, at: JsonPath) -> PeerState:
        source, at = peer.preshared_key, (*at, "presharedKey")
        assert source is not None
        if not isinstance(source, str):
            if source.create:
                self._found.add(at, "a partial set creates no files", "take create out")
                return state
            reference: dict[str, Any] = {"env": source.env}
            if source.file is not None:
                reference = {"file": str(self._where.resolve(source.file))}
            self.references[state.public_key or state.name] = reference
        text = self._where.secret(source, at, self._found, str)
        raw = self._value(at, parse_key, text) if text is not None else None
        return replace(state, preshared_key=secret_or_none(raw))
