"""The sections of a wg-quick file, from values to lines.

A section that was read keeps its lines. When a peer has changed, only the lines of
what changed are replaced, so that comments and order stay.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

from tunnel.config.hidden import HIDDEN, hide_keys
from tunnel.config.values import HostPort
from tunnel.config.wgquick_lines import (
    canonical_key,
    read_peer,
    settings,
)
from tunnel.config.wgquick_names import NAMED, NameLine, name_in, set_apart
from tunnel.config.wgquick_sections import Block, Problems
from tunnel.config.wgquick_values import HOOKS, InterfaceValues, PeerValues
from tunnel.state.render import address_text, prefix_text

__all__ = ["host_port_text", "interface_lines", "peer_lines"]

_PEER_KEYS: Final = (
    "PublicKey",
    "PresharedKey",
    "Endpoint",
    "AllowedIPs",
    "PersistentKeepalive",
)


def host_port_text(target: HostPort) -> str:
    """`host:port`, with brackets around IPv6."""
    host, port = target
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _base64(key: bytes) -> str:
    return b64encode(key).decode()


def _texts(texts: dict[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in texts.items() if v is not None and v != ""}


def _interface_texts(values: InterfaceValues) -> dict[str, str]:
    key, mark, save = values.private_key, values.fwmark, values.save_config
    return _texts(
        {
            "PrivateKey": _base64(key.reveal()) if key is not None else None,
            "ListenPort": values.listen_port,
            "FwMark": None if mark is None else f"0x{mark:x}" if mark else "off",
            "Address": ", ".join(map(prefix_text, values.addresses)),
            "DNS": ", ".join([*map(address_text, values.dns), *values.search]),
            "MTU": values.mtu,
            "Table": values.table,
            "SaveConfig": None if save is None else str(save).lower(),
        }
    )


def _peer_texts(values: PeerValues) -> dict[str, str]:
    psk, endpoint = values.preshared_key, values.endpoint
    return _texts(
        {
            "PublicKey": _base64(values.public_key),
            "PresharedKey": _base64(psk.reveal()) if psk is not None else None,
            "Endpoint": host_port_text(endpoint) if endpoint is not None else None,
            "AllowedIPs": ", ".join(map(prefix_text, values.allowed_ips)),
            "PersistentKeepalive": values.keepalive,
        }
    )


def interface_lines(
    values: InterfaceValues, lines: tuple[str, ...], secrets: bool
) -> list[str]:
    """`[Interface]`: the lines it was read from, or new ones."""
    if not lines:
        made = [f"{key} = {text}" for key, text in _interface_texts(values).items()]
        made += [f"{key} = {command}" for key, command in values.hooks]
        lines = ("[Interface]", *made)
    return list(lines) if secrets else _masked(lines)


def peer_lines(
    values: PeerValues, lines: tuple[str, ...], secrets: bool, named: bool = True
) -> list[str]:
    """`[Peer]`: the lines it was read from with what has changed, or new ones. Not
    `named`: a comment there that could be its name is none."""
    if lines:
        made = _changed(values, lines, named)
    else:
        made = ["[Peer]", *([_name_line(values.name, "")] if values.name else [])]
        made += [f"{key} = {text}" for key, text in _peer_texts(values).items()]
    return made if secrets else _masked(made)


def _changed(values: PeerValues, lines: tuple[str, ...], named: bool) -> list[str]:
    old = read_peer(Block("peer", 1, 1, lines), 0, Problems())
    before, after = _peer_texts(old), _peer_texts(values)
    wrong = {key for key in _PEER_KEYS if before.get(key) != after.get(key)}
    # the line a key's new value goes to, and lines to leave out
    places: dict[int, str] = {}
    for index, written, _ in settings(lines):
        key = canonical_key(written, _PEER_KEYS)
        if key in wrong:
            places[index] = "" if key in places.values() else key or ""
    found = name_in(lines) if named else NameLine()
    made = []
    for index, line in enumerate(lines):
        if index == found.at and found.name != values.name:
            made += [_name_line(values.name, line)] if values.name else []
        elif index not in places:
            made.append(line)
        elif text := after.get(places[index]):
            made.append(f"{places[index]} = {text}")
    if found.at < 0 and values.name:
        made.insert(_header(made) + 1, _name_line(values.name, ""))
    missing = [key for key in _PEER_KEYS if key in wrong - set(places.values())]
    made += [f"{key} = {after[key]}" for key in missing if key in after]
    if named and not values.name and name_in(made).plain:
        return list(set_apart(made))  # the line between it and the header is gone
    return made


def _header(lines: Iterable[str]) -> int:
    return next(i for i, line in enumerate(lines) if line.lstrip().startswith("["))


def _name_line(name: str, old: str) -> str:
    """The comment for a name, in the style of the one it replaces."""
    match = NAMED.fullmatch(old.strip())
    if match:
        start = old[: old.index("=") + 1]
        return f"{start} {name}" if old[len(start) :].startswith(" ") else start + name
    plain = old and "=" not in name and name == name.lstrip("#").strip()
    return f"# {name}" if plain else f"# friendly_name={name}"


def _masked(lines: Iterable[str]) -> list[str]:
    """Whatever looks like a key is hidden, in comments and hooks too; public keys of
    peers are shown. What a hook runs is nobody's business either."""
    made = []
    for line in lines:
        key, equals, _ = line.partition("=")
        if canonical_key(key, HOOKS):
            line = f"{key}{equals} {HIDDEN}"  # noqa: PLW2901
        elif not canonical_key(key, ("PublicKey",)):
            line = hide_keys(line)  # noqa: PLW2901
        made.append(line)
    return made
