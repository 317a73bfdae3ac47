"""Writes edits of peers into the files of a configuration.

Everything that an edit does not touch stays as it is spelled. Nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunnel.config import json_text
from tunnel.config.fragments import fragment_paths
from tunnel.config.identity import encode_key
from tunnel.config.line_ends import with_ends_of
from tunnel.config.peer_lines import add_line, edit_line, is_lines
from tunnel.config.schema import Config, PeersFile
from tunnel.errors import TunnelError
from tunnel.peer_edits import Understood, entry_of, entry_of_add
from tunnel.state.model import PeerState

__all__ = ["edited_texts"]


def edited_texts(
    edits: Sequence[Understood], path: Path, config: Config, raw: bytes
) -> dict[Path, bytes]:
    """The files with the edits in them: only those that change. `raw` is the content
    of the main file at `path`, `config` what is in it now."""
    texts = {path: raw.decode()}
    for fragment in fragment_paths(config, path.parent):
        texts[fragment] = fragment.read_bytes().decode() if fragment.exists() else "[]"
    before = dict(texts)
    home = path
    if config.peers_file is not None:
        named = config.peers_file
        file = named.file if isinstance(named, PeersFile) else named
        home = path.parent / file
    for edit in edits:
        _write(edit, texts, home)
    return {
        path: with_ends_of(before[path], text).encode()
        for path, text in texts.items()
        if text != before[path]
    }


def _write(edit: Understood, texts: dict[Path, str], home: Path) -> None:
    """One edit, in the file that has the peer, or as a new entry in `home`."""
    if edit.before is not None:
        for path, text in texts.items():
            done = _write_known(edit, edit.before, text)
            if done is not None:
                texts[path] = done
                return
    if edit.after is not None:
        add = edit.edit.action == "add"
        entry = entry_of_add(edit.edit) if add else entry_of(edit.after)
        texts[home] = _with_entry(texts[home], entry)


def _peers_array(text: str) -> json_text.Container | None:
    document = json_text.Container.at(text)
    if text[document.start] == "[":
        return document
    item = json_text.member(document, "peers")
    return json_text.Container.at(text, item.value_start) if item else None


def _write_known(edit: Understood, before: PeerState, text: str) -> str | None:
    """The text with the entry of that peer changed; None when it is not there."""
    key = encode_key(before.public_key)
    if is_lines(text):
        return edit_line(text, key, _members(edit, {}) if edit.after else None)
    array = _peers_array(text)
    for item in array.items if array is not None else ():
        entry = item.value
        named = entry.get("name") == before.name != "" and not entry.get("publicKey")
        if entry.get("publicKey") != key and not named:
            continue
        assert array is not None
        if edit.after is None:
            return json_text.remove(text, array, item)
        for name, value in _members(edit, entry).items():
            if named and name == "name" and value != before.name:
                raise TunnelError(
                    f"{before.name}: its key follows from its name and the psk",
                    hint="remove this peer and add one with the other name",
                )
            members = json_text.Container.at(text, item.start)
            text = json_text.set_member(text, members, name, value)
        return text
    return None


def _members(edit: Understood, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an entry that an edit sets; None takes one out."""
    if edit.edit.action == "set":
        return dict(edit.edit.fields)
    enabled = edit.edit.action == "enable"
    return {} if enabled and "enabled" not in entry else {"enabled": enabled}


def _with_entry(text: str, entry: dict[str, Any]) -> str:
    if is_lines(text):
        return add_line(text, entry)
    array = _peers_array(text)
    if array is not None:
        return json_text.append(text, array, entry)
    document = json_text.Container.at(text)
    text = json_text.append(text, document, [], "peers")
    array = _peers_array(text)
    assert array is not None
    return json_text.append(text, array, entry)
