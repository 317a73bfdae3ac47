"""Merging into a running tunnel, through its control socket.

A tunnel of `tunnel up` is told by edits of peers, so that names, history and its file's
idea of an endpoint are kept; any other WireGuard in userspace by one UAPI `set`.
"""

from __future__ import annotations

import socket
from base64 import b64decode
from dataclasses import replace
from typing import Any

from tunnel.api.client import UapiClient, interfaces
from tunnel.cli.merge import Options, decide, expected, require
from tunnel.config.addresses import Addresses
from tunnel.config.identity import encode_key, public_key
from tunnel.config.values import parse_prefix
from tunnel.errors import TunnelError
from tunnel.fleet.partial import read_partial
from tunnel.fleet.running import RunningTunnel
from tunnel.state.apply import apply
from tunnel.state.merge import presence
from tunnel.state.model import DeviceState, PeerState, canonical_prefixes
from tunnel.state.plan import Action, ActionKind, Plan, diff
from tunnel.state.render import endpoint_text, prefix_text

__all__ = ["edits_of", "merge_running"]


def merge_running(partial: str, interface: str, options: Options) -> tuple[Any, ...]:
    """What `Result` is made of; raises TunnelError with nothing changed."""
    given = read_partial(partial, Addresses(socket.getaddrinfo).endpoint)
    name = interface or _only_one()
    managed = _managed(name)
    with UapiClient(name) as client:
        tunnel = RunningTunnel(client)
        if managed is None:  # it knows no names, so those of the set are as good
            tunnel.names = {p.state.public_key: p.state.name for p in given.peers}
        before = _with_known(tunnel.observe(), managed)
        key = before.private_key
        own = public_key(key.reveal()) if key is not None else None
        merged, found = decide(before, given.peers, own, options)
        plan = diff(before, merged, generation=tunnel.generation)
        told: dict[str, Any] | None = None
        if managed is not None and not plan.empty:
            told = _edit(name, plan, options)
        elif not options.dry_run:
            # where a peer has roamed to meanwhile is no reason to go back
            apply(plan, tunnel, verify=False)
        if not options.dry_run:
            now = _with_known(tunnel.observe(), _managed(name))
            found = presence(now.peers.values(), expected(given.peers, options))
            require(found)
    return name, "RUNNING", before, merged, plan, (), (), found, told


def _managed(name: str) -> list[dict[str, Any]] | None:
    """Its peers as `tunnel up` knows them; None when it is another program's."""
    with UapiClient(name) as client:
        try:
            peers: list[dict[str, Any]] = client.control("peers")
        except TunnelError:
            return None
    return peers


def _with_known(
    state: DeviceState, managed: list[dict[str, Any]] | None
) -> DeviceState:
    """With names, and the disabled peers that the UAPI does not show."""
    peers = dict(state.peers)
    for told in managed or ():
        key = b64decode(told["public_key"])
        prefixes = canonical_prefixes(map(parse_prefix, told["allowed_ips"]))
        disabled = PeerState(
            key,
            allowed_ips=prefixes,
            keepalive=told["persistent_keepalive"],
            enabled=False,
        )
        peers[key] = replace(peers.get(key, disabled), name=told["name"])
    return replace(state, peers=peers)


def _edit(name: str, plan: Plan, options: Options) -> dict[str, Any]:
    with UapiClient(name) as client:
        told: dict[str, Any] = client.control(
            "edit",
            edits=[edits_of(action) for action in plan.actions],
            dry_run=options.dry_run,
        )
    return told


def edits_of(action: Action) -> dict[str, Any]:
    """An action on a peer as an edit of the control socket; it holds secrets."""
    assert action.key is not None
    peer = action.after
    if peer is None:
        return {"action": "remove", "peer": encode_key(action.key)}
    psk = peer.preshared_key
    spelled = {
        "name": peer.name or None,
        "preshared_key": encode_key(psk.reveal()) if psk is not None else None,
        "endpoint": endpoint_text(peer.endpoint) or None,
        "allowed_ips": [prefix_text(prefix) for prefix in peer.allowed_ips],
        "keepalive": peer.keepalive,
        "enabled": peer.enabled,
    }
    keys = {
        "name": "name",
        "preshared_key": "presharedKey",
        "endpoint": "endpoint",
        "allowed_ips": "allowedIPs",
        "keepalive": "persistentKeepalive",
        "enabled": "enabled",
    }
    changed = {change.field for change in action.changes}
    fields = {keys[f]: value for f, value in spelled.items() if f in changed}
    if action.kind is ActionKind.ADD:
        fields.pop("name", None)
        fields |= {"publicKey": encode_key(action.key)}
        fields.setdefault("persistentKeepalive", peer.keepalive)
        return {"action": "add", "peer": peer.name, "fields": fields}
    return {"action": "set", "peer": encode_key(action.key), "fields": fields}


def _only_one() -> str:
    names = interfaces()
    if len(names) == 1:
        return names[0]
    if not names:
        raise TunnelError("no tunnel is running", hint="start one with: tunnel up")
    raise TunnelError(
        f"{len(names)} tunnels are running: {', '.join(names)}",
        hint="say which one: --running NAME",
    )
