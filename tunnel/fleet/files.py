"""Files that a set of peers is merged into: what they say, and their new texts.

A file gives the base state; the merge decides (`state/merge.py`); then the new texts
are made and read again, and they must say exactly what was decided. Only then are
they shown or written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tunnel.config.identity import PskMode, encode_key, psk_mode, public_key
from tunnel.config.values import parse_seconds
from tunnel.config.wgquick import WgQuick, load_wgquick, parse_wgquick
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.fleet.json_peers import hide_secrets, peers_in, with_peers
from tunnel.fleet.partial import PartialSet, is_json, read_text
from tunnel.fleet.standins import StandIns
from tunnel.state.merge import PartialPeer, who
from tunnel.state.model import DeviceState, PeerState, Secret
from tunnel.state.render import prefix_text

__all__ = ["FileText", "JsonFile", "MergeFile", "WgQuickFile", "open_file"]


@dataclass(frozen=True, slots=True)
class FileText:
    """One file before and after; the `shown` texts hold no secrets."""

    path: Path
    old: str | None
    new: str
    old_shown: str
    new_shown: str


class MergeFile(Protocol):
    """A file with peers."""

    state: DeviceState
    own_key: bytes | None

    def complete(self, partial: PartialSet) -> tuple[PartialPeer, ...]:
        """The partial peers with what this file says about all of its peers."""

    def texts(self, merged: DeviceState, partial: PartialSet, /) -> list[FileText]:
        """The texts that say `merged`; only of files that change."""


def open_file(path: Path, names: StandIns, *, create: bool) -> MergeFile:
    """The file at `path`, or an empty one of the kind its name says; `create` lets a
    config.json make the secret files that it asks for."""
    text = read_text(str(path)) if path.exists() else None
    if path.suffix == ".json" if text is None else is_json(text):
        return JsonFile(path, text, names, create=create)
    return WgQuickFile(path, text, names)


def _own_key(state: DeviceState) -> bytes | None:
    secret = state.private_key
    return public_key(secret.reveal()) if secret is not None else None


def _check(path: Path, merged: DeviceState, said: Mapping[bytes, PeerState]) -> None:
    """The texts must say what the merge decided."""
    wrong = [
        ConfigProblem(
            who(merged.peers.get(key) or said[key]),
            0,
            "this file cannot say what the merge makes of it",
            "write this peer into the file yourself",
        )
        for key in {**merged.peers, **said}
        if merged.peers.get(key) != said.get(key)
    ]
    if wrong:
        raise ConfigError(str(path), wrong)


class WgQuickFile:
    """A wg-quick file (see `MergeFile`)."""

    def __init__(self, path: Path, text: str | None, names: StandIns) -> None:
        self._path, self._text, self._names = path, text, names
        self._document = WgQuick() if text is None else load_wgquick(path)
        self.state = self._document.state(path.stem, names.endpoint)
        self.own_key = _own_key(self.state)

    def complete(self, partial: PartialSet) -> tuple[PartialPeer, ...]:
        return partial.peers

    def texts(self, merged: DeviceState, _partial: PartialSet) -> list[FileText]:
        peers = merged.peers.values()
        document = self._document.with_peers(peers, self._names.target)
        if self._text is None and not document.peers:
            return []
        text = document.text()
        again = parse_wgquick(text, str(self._path))
        said = again.state(self._path.stem, self._names.endpoint)
        _check(self._path, merged, said.peers)
        if text == self._text or (
            self._text is not None
            and list(merged.peers) == list(self.state.peers)
            and merged.peers == self.state.peers
        ):
            return []
        shown = "" if self._text is None else self._document.text(secrets=False)
        return [
            FileText(self._path, self._text, text, shown, document.text(secrets=False))
        ]


@dataclass(slots=True)
class _Part:
    """One JSON file: its text and its peers as they are written."""

    path: Path
    text: str | None
    entries: list[dict[str, Any]]


class JsonFile:
    """config.json with its other files of peers, or such a file alone (see
    `MergeFile`). New peers go to `peersFile` when there is one."""

    def __init__(
        self, path: Path, text: str | None, names: StandIns, *, create: bool
    ) -> None:
        from tunnel.config.store import load_config, parse_config

        self._path, self._names = path, names
        value = json.loads(text) if text is not None and _is_object(text) else None
        alone = value is None or set(value) <= {"peers"}
        if alone:  # checked as the peers of a tunnel that has nothing else
            self._main: dict[str, Any] = {
                "mode": "server", "privateKey": encode_key(os.urandom(32))
            }  # fmt: skip
            wanted = {"file": path.name, "create": True}
            config = parse_config(
                json.dumps({**self._main, "peersFile": wanted}),
                str(path),
                base=path.absolute().parent,
                create=False,
            )
        else:
            config = load_config(path, create=create)
            self._main = dict(value or {})
        self._keepalive = parse_seconds(config.keepalive)
        self._psk: PskMode | None = None
        if config.facts.psk is not None:
            self._psk = psk_mode(config.facts.psk)
        self._own_name = config.facts.name
        # secrets that are not made yet must stay the same while the texts are checked
        self._secrets: dict[str, str] = {}
        if config.facts.private_key is not None:
            raw = config.facts.private_key.reveal()
            self._secrets["privateKey"] = encode_key(raw)
        if config.facts.psk is not None:
            self._secrets["psk"] = config.facts.psk
        self.state = self._state(config)
        self.own_key = None if alone else _own_key(self.state)
        self._read_parts(config, None if alone else text)

    def _state(self, config: Any) -> DeviceState:
        from tunnel.config.desired import desired_state

        return desired_state(config, self._names.getaddrinfo)

    def _read_parts(self, config: Any, text: str | None) -> None:
        """All files with peers, and which peer stands where."""
        from tunnel.config.fragments import fragment_paths

        self._parts = []
        if text is not None:
            self._parts.append(_Part(self._path, text, peers_in(text)))
        for path in fragment_paths(config, self._path.absolute().parent):
            old = read_text(str(path)) if path.exists() else None
            entries = peers_in(old) if old is not None else []
            self._parts.append(_Part(path, old, entries))
        self._new = len(self._parts) - 1 if config.peers_file is not None else 0
        places = [
            (number, index)
            for number, part in enumerate(self._parts)
            for index in range(len(part.entries))
        ]
        self._places = dict(zip(self.state.peers, places, strict=False))

    def complete(self, partial: PartialSet) -> tuple[PartialPeer, ...]:
        """New peers get the file's keepalive, and in PSK mode their keys."""
        return tuple(self._completed(part) for part in partial.peers)

    def _completed(self, part: PartialPeer) -> PartialPeer:
        state, given = part.state, part.given
        if "keepalive" not in given:
            state = replace(state, keepalive=self._keepalive)
        known = {peer.name for peer in self.state.peers.values()}
        if not state.public_key and state.name not in known and self._psk is not None:
            state = replace(state, public_key=self._psk.public_key(state.name))
            if "preshared_key" not in given:
                secret = self._psk.preshared_key(self._own_name, state.name)
                state = replace(state, preshared_key=Secret(secret))
        return PartialPeer(state, given)

    def texts(self, merged: DeviceState, partial: PartialSet) -> list[FileText]:
        entries = self._entries(merged, partial, {})
        said = self._said(entries)
        wrong = {
            key: _differing(said.get(key), peer)
            for key, peer in merged.peers.items()
            if said.get(key) != peer
        }
        if wrong:  # what follows from the rest of the file is written out
            entries = self._entries(merged, partial, wrong)
            said = self._said(entries)
        _check(self._path, merged, said)
        made = []
        for part, new in zip(self._parts, entries, strict=True):
            if new == part.entries and part.text is not None:
                continue
            if part.text is None and not new:
                continue
            text = with_peers("[]\n" if part.text is None else part.text, new)
            shown = hide_secrets(part.text) if part.text is not None else ""
            made.append(FileText(part.path, part.text, text, shown, hide_secrets(text)))
        return made

    def _entries(
        self,
        merged: DeviceState,
        partial: PartialSet,
        forced: Mapping[bytes, Iterable[str]],
    ) -> list[list[dict[str, Any]]]:
        """The peers of each file, each as it was with what has changed."""
        names = {p.name: k for k, p in self.state.peers.items() if p.name}
        made: list[list[dict[str, Any]]] = [[] for _ in self._parts]
        for key, peer in merged.peers.items():
            origin: bytes | None = key if key in self.state.peers else None
            if origin is None and names.get(peer.name) not in merged.peers:
                origin = names.get(peer.name)  # with a new key
            place = self._places.get(origin) if origin is not None else None
            derived = self._psk is not None and key == self._psk.public_key(peer.name)
            if place is None or origin is None:
                entry: dict[str, Any] = {}
                # a key that follows from the name is not written
                base = PeerState(key if derived else b"", keepalive=self._keepalive)
                if derived:
                    base = replace(base, preshared_key=peer.preshared_key)
            else:
                entry = dict(self._parts[place[0]].entries[place[1]])
                base = self.state.peers[origin]
            changed = {*_differing(base, peer), *forced.get(key, ())}
            self._write(entry, peer, changed, partial)
            made[place[0] if place else self._new].append(entry)
        return made

    def _write(
        self,
        entry: dict[str, Any],
        peer: PeerState,
        changed: set[str],
        partial: PartialSet,
    ) -> None:
        reference = partial.references.get(peer.public_key)
        reference = reference or partial.references.get(peer.name)
        psk = peer.preshared_key
        values: dict[str, tuple[str, Any]] = {
            "name": ("name", peer.name or None),
            "public_key": ("publicKey", encode_key(peer.public_key)),
            "preshared_key": (
                "presharedKey",
                reference or (encode_key(psk.reveal()) if psk is not None else None),
            ),
            "endpoint": (
                "endpoint",
                self._names.text(peer.endpoint) if peer.endpoint else None,
            ),
            "allowed_ips": ("allowedIPs", [prefix_text(p) for p in peer.allowed_ips]),
            "keepalive": ("persistentKeepalive", peer.keepalive),
            "enabled": ("enabled", peer.enabled),
        }
        for name, (key, value) in values.items():
            if name in changed and value is None:
                entry.pop(key, None)
            elif name in changed:
                entry[key] = value

    def _said(self, entries: list[list[dict[str, Any]]]) -> Mapping[bytes, PeerState]:
        """What the new files say together, checked as a whole."""
        from tunnel.config.store import parse_config

        main = {
            k: v for k, v in self._main.items() if k not in ("include", "peersFile")
        }
        main |= self._secrets
        main["peers"] = [entry for part in entries for entry in part]
        base = self._path.absolute().parent
        try:
            config = parse_config(json.dumps(main), base=base, create=False)
        except ConfigError as error:
            problems = [replace(problem, line=0) for problem in error.problems]
            raise ConfigError(f"{self._path} after the merge", problems) from None
        return self._state(config).peers


def _is_object(text: str) -> bool:
    return text.lstrip().startswith("{")


_FIELDS = (
    "name", "public_key", "preshared_key", "endpoint", "allowed_ips", "keepalive",
    "enabled",
)  # fmt: skip


def _differing(before: PeerState | None, after: PeerState) -> tuple[str, ...]:
    old = before if before is not None else PeerState(b"")
    return tuple(n for n in _FIELDS if getattr(old, n) != getattr(after, n))
