"""Files that a set of peers is merged into: what they say, and their new texts.

A file gives the base state; the merge decides (`state/merge.py`); then the new texts
are made and read again, and they must say exactly what was decided. Only then are
they shown or written. Those of JSON are in `json_files.py`.
"""

from __future__ import annotations

from pathlib import Path

from tunnel.config.line_ends import with_ends_of
from tunnel.config.peer_lines import has_lines
from tunnel.config.wgquick import WgQuick, load_wgquick, parse_wgquick
from tunnel.fleet.json_files import JsonFile, parse_json_file
from tunnel.fleet.partial import PartialSet, is_json, text_in
from tunnel.fleet.standins import StandIns
from tunnel.fleet.texts import FileText, MergeFile, check_says, own_key_of
from tunnel.state.merge import PartialPeer
from tunnel.state.model import DeviceState

__all__ = [
    "FileText",
    "JsonFile",
    "MergeFile",
    "WgQuickFile",
    "check_text",
    "open_file",
]


def open_file(path: Path, names: StandIns, *, create: bool) -> MergeFile:
    """The file at `path`, or an empty one of the kind its name says; `create` lets a
    config.json make the secret files that it asks for."""
    text = text_in(path)
    if path.suffix == ".json" if text is None else is_json(text) or has_lines(text):
        return JsonFile(path, text, names, create=create)
    return WgQuickFile(path, text, names)


def check_text(path: Path, text: str, source: str) -> None:
    """Raises ConfigError, naming `source`, when a text cannot be the content of the
    file at `path`: a config.json, peers alone, or a wg-quick file."""
    if path.suffix == ".json" or is_json(text) or has_lines(text):
        parse_json_file(path, text, source)
    else:
        parse_wgquick(text, source)


class WgQuickFile:
    """A wg-quick file (see `MergeFile`)."""

    def __init__(self, path: Path, text: str | None, names: StandIns) -> None:
        self._path, self._text, self._names = path, text, names
        self._document = WgQuick() if text is None else load_wgquick(path)
        self.state = self._document.state(path.stem, names.endpoint)
        self.own_key = own_key_of(self.state)

    def complete(self, partial: PartialSet) -> tuple[PartialPeer, ...]:
        return partial.peers

    def texts(self, merged: DeviceState, _partial: PartialSet) -> list[FileText]:
        peers = merged.peers.values()
        document = self._document.with_peers(peers, self._names.target)
        if self._text is None and not document.peers:
            return []
        text = with_ends_of(self._text or "", document.text())
        again = parse_wgquick(text, str(self._path))
        said = again.state(self._path.stem, self._names.endpoint)
        check_says(self._path, merged, said.peers)
        if text == self._text or (
            self._text is not None
            and list(merged.peers) == list(self.state.peers)
            and merged.peers == self.state.peers
        ):
            return []
        shown = "" if self._text is None else self._document.text(secrets=False)
        new_shown = with_ends_of(self._text or "", document.text(secrets=False))
        return [FileText(self._path, self._text, text, shown, new_shown)]
