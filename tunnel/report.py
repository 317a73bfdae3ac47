"""The state of a tunnel as JSON values, for the control socket and HTTP. No secrets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from tunnel.reloads import ReloadEvent
from tunnel.state.render import endpoint_text, key_text, prefix_text
from tunnel.status import DeviceStatus

__all__ = ["device_json", "peers_json", "state_json"]

_SECOND = 1_000_000_000


def device_json(status: DeviceStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "up": status.up,
        "waiting": status.waiting or None,
        "public_key": key_text(status.public_key) if status.public_key else None,
        "listen_port": status.listen_port,
        "fwmark": status.fwmark,
        "mtu": status.mtu,
        "generation": status.generation,
        "workers": status.workers,
    }


def peers_json(status: DeviceStatus) -> list[dict[str, object]]:
    """`latest_handshake` is Unix time in seconds, 0 for never."""
    now = time.time_ns()
    return [
        {
            "name": peer.name,
            "public_key": key_text(peer.public_key),
            "enabled": peer.enabled,
            "connected": peer.connected(now),
            "endpoint": endpoint_text(peer.endpoint),
            "allowed_ips": [prefix_text(prefix) for prefix in peer.allowed_ips],
            "persistent_keepalive": peer.keepalive,
            "preshared_key": peer.has_preshared_key,
            "latest_handshake": peer.last_handshake // _SECOND,
            "rx_bytes": peer.rx_bytes,
            "tx_bytes": peer.tx_bytes,
        }
        for peer in status.peers
    ]


def state_json(
    status: DeviceStatus,
    left: float | None,
    path: Path | None,
    events: Iterable[ReloadEvent],
    refusal: str = "",
) -> dict[str, object]:
    """Everything; `left` are the seconds in which a change waits to be confirmed,
    `refusal` is why it could not be taken back after them."""
    return {
        "device": {
            **device_json(status),
            "config_file": str(path) if path else None,
            "pending_confirmation": None if left is None else round(left, 3),
            "not_taken_back": refusal or None,
        },
        "peers": peers_json(status),
        "counters": dict(status.counters),
        "reloads": [event.json() for event in events],
    }
