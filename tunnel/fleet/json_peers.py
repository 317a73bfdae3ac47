"""The `peers` of a JSON text, replaced without touching anything else in it.

A new list has one peer a line; an entry that has not changed keeps its spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from tunnel.config.identity import encode_key
from tunnel.config.json_text import Container, append, member
from tunnel.config.peer_lines import entries_of, is_lines, with_entries
from tunnel.state.model import PeerState
from tunnel.state.render import prefix_text

__all__ = ["hide_secrets", "peers_in", "with_peers", "write_peer"]

_SECRET: Final = re.compile(
    r'("(?:privateKey|presharedKey|preshared_key|psk)"\s*:\s*)"(?:[^"\\]|\\.)*"'
)


def hide_secrets(text: str) -> str:
    """The text with `(hidden)` for every key and passphrase written in it."""
    return _SECRET.sub(r'\1"(hidden)"', text)


def peers_in(text: str) -> list[dict[str, Any]]:
    """The entries of a valid file of peers, or of a config.json."""
    if is_lines(text):
        return entries_of(text)
    array = _array(text)
    return [item.value for item in array.items] if array is not None else []


def with_peers(text: str, peers: Sequence[dict[str, Any]]) -> str:
    """`text`, valid JSON, with these peers: the list itself, or the member `peers` of
    the object, which is put last when it is not there. Or `text` with a peer a line."""
    if is_lines(text):
        return with_entries(text, peers)
    array = _array(text)
    if array is None:
        text = append(text, Container.at(text), [], "peers")
        array = _array(text)
        assert array is not None
    if not peers:
        return f"{text[: array.start]}[]{text[array.end :]}"
    spelled = {
        json.dumps(item.value): text[item.value_start : item.end]
        for item in array.items
    }
    line = text.rfind("\n", 0, array.start) + 1
    indent = re.sub(r"\S.*", "", text[line : array.start], flags=re.DOTALL)
    rows = [
        spelled.get(json.dumps(p)) or json.dumps(p, ensure_ascii=False) for p in peers
    ]
    body = ",\n".join(f"{indent}  {row}" for row in rows)
    return f"{text[: array.start]}[\n{body}\n{indent}]{text[array.end :]}"


def write_peer(
    entry: dict[str, Any],
    peer: PeerState,
    fields: Collection[str],
    endpoint: str | None,
    reference: dict[str, Any] | None,
) -> None:
    """The entry says these fields of the peer; its endpoint is written as `endpoint`,
    and `reference` in the place of a preshared key."""
    psk = peer.preshared_key
    values: dict[str, tuple[str, Any]] = {
        "name": ("name", peer.name or None),
        "public_key": ("publicKey", encode_key(peer.public_key)),
        "preshared_key": (
            "presharedKey",
            reference or (encode_key(psk.reveal()) if psk is not None else None),
        ),
        "endpoint": ("endpoint", endpoint),
        "allowed_ips": ("allowedIPs", [prefix_text(p) for p in peer.allowed_ips]),
        "keepalive": ("persistentKeepalive", peer.keepalive),
        "enabled": ("enabled", peer.enabled),
    }
    for name, (key, value) in values.items():
        if name in fields and value is None:
            entry.pop(key, None)
        elif name in fields:
            entry[key] = value


def _array(text: str) -> Container | None:
    document = Container.at(text)
    if text[document.start] == "[":
        return document
    found = member(document, "peers")
    if found is None or found.value is None:
        return None
    return Container.at(text, found.value_start)
