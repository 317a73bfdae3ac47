"""Requests about peers -> the edits that the manager understands."""

from __future__ import annotations

from tunnel.api.http_models import NewPeer, PeerToRemove
from tunnel.api.problems import Refusal
from tunnel.config.values import parse_key
from tunnel.peer_edits import PeerEdit
from tunnel.state.model import DeviceState
from tunnel.state.render import key_text

__all__ = ["adding", "key_of", "removing"]


def adding(peer: NewPeer) -> PeerEdit:
    """What is left out is inherited, as in the configuration. Secrets are inline:
    over HTTP no file of this machine can be named."""
    fields: dict[str, object] = {
        "publicKey": peer.public_key,
        "allowedIPs": peer.allowed_ips,
        "presharedKey": peer.preshared_key or None,
        "endpoint": peer.endpoint or None,
        "persistentKeepalive": peer.persistent_keepalive,
        "enabled": None if peer.enabled else False,
    }
    return PeerEdit("add", peer.name, fields)


def removing(key: bytes) -> PeerEdit:
    """By key, which is never ambiguous."""
    return PeerEdit("remove", key_text(key))


def key_of(peer: PeerToRemove, observed: DeviceState) -> bytes:
    """The one peer of `observed` that the request means; Refusal when there is none."""
    if peer.public_key is None and peer.name is None:
        raise Refusal(422, "invalid-request", "give the public_key or the name")
    wanted = None if peer.public_key is None else parse_key(peer.public_key)
    found = [
        key
        for key, state in observed.peers.items()
        if wanted in (None, key) and peer.name in (None, state.name)
    ]
    if not found:
        raise Refusal(404, "no-such-peer", "the tunnel has no such peer")
    if len(found) > 1:
        hint = "give its public_key"
        raise Refusal(409, "ambiguous", "several peers have this name", hint)
    return found[0]
