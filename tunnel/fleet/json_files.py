"""config.json, its other files of peers, and such a file alone, as the target of a
merge (see `files.py`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnel.config.identity import PskMode, encode_key, psk_mode
from tunnel.config.line_ends import with_ends_of
from tunnel.config.values import parse_seconds
from tunnel.errors import ConfigError
from tunnel.fleet.json_peers import hide_secrets, peers_in, with_peers, write_peer
from tunnel.fleet.partial import PartialSet, text_in
from tunnel.fleet.standins import StandIns
from tunnel.fleet.texts import FileText, check_says, own_key_of
from tunnel.state.merge import PartialPeer
from tunnel.state.model import DeviceState, PeerState, Secret

if TYPE_CHECKING:
    from tunnel.config.schema import Config

__all__ = ["JsonFile", "parse_json_file", "peers_alone"]


def peers_alone(text: str) -> bool:
    """Whether a JSON text holds peers only, as `peersFile` and `include` name them."""
    if not text.lstrip().startswith("{"):
        return True
    try:
        return set(json.loads(text)) <= {"peers"}
    except ValueError:
        return False


def _standing_in() -> dict[str, Any]:
    """The rest of the configuration around peers that have none."""
    return {"mode": "server", "privateKey": encode_key(os.urandom(32))}


def parse_json_file(path: Path, text: str, source: str) -> Config:
    """A text as the content of the file at `path`: a configuration, or peers alone as
    those of a tunnel that has nothing else. Nothing is created. Raises ConfigError."""
    from tunnel.config.store import parse_config

    base = path.absolute().parent
    if not peers_alone(text):
        return parse_config(text, source, base=base, create=False)
    main = json.dumps({**_standing_in(), "peersFile": path.name})
    overlay = {base / path.name: text.encode()}
    return parse_config(main, source, base=base, create=False, overlay=overlay)


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
        from tunnel.config.store import load_config

        self._path, self._names = path, names
        alone = text is None or peers_alone(text)
        if alone:
            self._main = _standing_in()
            config = parse_json_file(path, "[]" if text is None else text, str(path))
        else:
            config = load_config(path, create=create)
            self._main = dict(json.loads(text or ""))
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
        self.own_key = None if alone else own_key_of(self.state)
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
            old = text_in(path)
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
        check_says(self._path, merged, said)
        made = []
        for part, new in zip(self._parts, entries, strict=True):
            if new == part.entries and part.text is not None:
                continue
            if part.text is None and not new:
                continue
            text = with_peers("[]\n" if part.text is None else part.text, new)
            text = with_ends_of(part.text or "", text)
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
            endpoint = self._names.text(peer.endpoint) if peer.endpoint else None
            write_peer(entry, peer, changed, endpoint, _reference(partial, peer))
            made[place[0] if place else self._new].append(entry)
        return made

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


_FIELDS = (
    "name", "public_key", "preshared_key", "endpoint", "allowed_ips", "keepalive",
    "enabled",
)  # fmt: skip


def _differing(before: PeerState | None, after: PeerState) -> tuple[str, ...]:
    old = before if before is not None else PeerState(b"")
    return tuple(n for n in _FIELDS if getattr(old, n) != getattr(after, n))


def _reference(partial: PartialSet, peer: PeerState) -> dict[str, Any] | None:
    """What the set has in the place of the peer's preshared key."""
    named = partial.references.get(peer.public_key)
    return named or partial.references.get(peer.name)
