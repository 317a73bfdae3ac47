"""`tunnel status`: what running tunnels do, as a table or as JSON.

The JSON has the shape of wireguard-tools' wg-json, without private and preshared keys.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from tunnel.api.client import UapiClient, interfaces
from tunnel.errors import TunnelError

__all__ = ["InterfaceView", "PeerView", "ask", "status"]

CONNECTED_FOR = 180  # seconds: a session lives no longer


@dataclass(slots=True)
class PeerView:
    """One peer as the UAPI tells of it; times in Unix seconds."""

    public_key: str
    endpoint: str = ""
    latest_handshake: int = 0
    rx: int = 0
    tx: int = 0
    keepalive: int = 0
    preshared: bool = False
    allowed_ips: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint or None,
            "latestHandshake": self.latest_handshake,
            "transferRx": self.rx,
            "transferTx": self.tx,
            "persistentKeepalive": self.keepalive,
            "allowedIps": self.allowed_ips,
        }


@dataclass(slots=True)
class InterfaceView:
    name: str
    public_key: str = ""
    listen_port: int = 0
    fwmark: int = 0
    peers: list[PeerView] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "publicKey": self.public_key or None,
            "listenPort": self.listen_port,
            "fwmark": self.fwmark,
            "peers": {peer.public_key: peer.as_json() for peer in self.peers},
        }


def _base64(hexadecimal: str) -> str:
    return b64encode(bytes.fromhex(hexadecimal)).decode()


def _public(private_hex: str) -> str:
    from tunnel.config.identity import encode_key, public_key

    return encode_key(public_key(bytes.fromhex(private_hex)))


def _peer_line(peer: PeerView, key: str, value: str) -> None:
    match key:
        case "endpoint":
            peer.endpoint = value
        case "last_handshake_time_sec":
            peer.latest_handshake = int(value)
        case "rx_bytes":
            peer.rx = int(value)
        case "tx_bytes":
            peer.tx = int(value)
        case "persistent_keepalive_interval":
            peer.keepalive = int(value)
        case "preshared_key":
            peer.preshared = value.strip("0") != ""
        case "allowed_ip":
            peer.allowed_ips.append(value)


def ask(name: str) -> InterfaceView:
    """Asks one running tunnel; raises TunnelError when it does not answer."""
    view = InterfaceView(name)
    with UapiClient(name) as client:
        for key, value in client.request("get=1\n\n"):
            if key == "public_key":
                view.peers.append(PeerView(_base64(value)))
            elif view.peers:
                _peer_line(view.peers[-1], key, value)
            elif key == "private_key":
                view.public_key = _public(value)
            elif key == "listen_port":
                view.listen_port = int(value)
            elif key == "fwmark":
                view.fwmark = int(value)
    return view


def _bytes(n: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{n} B"
        n /= 1024  # type: ignore[assignment]
    return f"{n:.1f} TiB"


def _age(then: int, now: float) -> str:
    if not then:
        return "never"
    seconds = max(0, int(now - then))
    if seconds < 120:
        return f"{seconds} s ago"
    return f"{seconds // 60} min ago" if seconds < 7200 else f"{seconds // 3600} h ago"


def _show(view: InterfaceView) -> None:
    from tunnel.cli.screen import Row, console, show_table

    now = time.time()
    connected = sum(now - p.latest_handshake < CONNECTED_FOR for p in view.peers)
    own = _told(view.name, "state") or {}
    title = (
        f"{view.name}: {view.public_key or 'no private key'}, "
        f"port {view.listen_port}, {_workers(own)}"
        f"{connected} of {len(view.peers)} peers connected"
    )
    names = _names(own)
    columns = ["peer", "endpoint", "handshake", "received", "sent", "allowed IPs"]
    rows: list[Row] = []
    for peer in view.peers:
        cells = [
            peer.public_key,
            peer.endpoint or "-",
            _age(peer.latest_handshake, now),
            _bytes(peer.rx),
            _bytes(peer.tx),
            " ".join(peer.allowed_ips) or "-",
        ]
        name = [names.get(peer.public_key) or "-"] if names else []
        rows.append(((*name, *cells), None))
    screen = console()
    screen.print(title)
    _show_down(view.name, own.get("device", {}), screen)
    show_table(["name", *columns] if names else columns, rows)


def _show_down(name: str, device: dict[str, Any], screen: Any) -> None:
    """Why a tunnel carries nothing, if it does not, or what it should not any more;
    older versions do not tell."""
    if device.get("waiting"):
        screen.print(f"{name} waits, and tries again every second:")
        screen.print(f"  {device['waiting']}", style="red")
    elif device.get("up") is False:
        screen.print(f"{name} is down: ip link set {name} up", style="red")
    if device.get("not_taken_back"):
        screen.print(f"{name} runs a change that was not confirmed in time.")
        screen.print("Taking it back failed, and is tried again every second:")
        screen.print(f"  {device['not_taken_back']}", style="red")


def _told(name: str, do: str) -> Any:
    """What a tunnel of `tunnel up` answers; None from another engine."""
    try:
        with UapiClient(name) as client:
            return client.control(do)
    except TunnelError:
        return None


def _names(own: dict[str, Any]) -> dict[str, str]:
    """The names that the peers of an interface have, by key; the UAPI knows none."""
    peers = own.get("peers", ())
    return {peer["public_key"]: peer["name"] for peer in peers if peer["name"]}


def _workers(own: dict[str, Any]) -> str:
    """How many threads carry packets; of `tunnel up`'s own only, and not of versions
    that do not tell."""
    count = own.get("device", {}).get("workers", 0)
    return f"{count} worker{'s' if count > 1 else ''}, " if count else ""


def _own_state(name: str) -> dict[str, Any]:
    """What a tunnel of this program tells beyond that: `state`, with its history."""
    state = _told(name, "state")
    return {} if state is None else {"state": state}


def status(interface: str | None, *, as_json: bool) -> None:
    """Shows one interface, or all that run here."""
    names = [interface] if interface else interfaces()
    if not names and not as_json:
        raise TunnelError("no tunnel is running", hint="start one with: tunnel up")
    views = [ask(name) for name in names]
    if as_json:
        told = {view.name: view.as_json() | _own_state(view.name) for view in views}
        print(json.dumps(told, indent=2))
        return
    for view in views:
        _show(view)
