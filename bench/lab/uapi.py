"""The reading half of the WireGuard UAPI, to look at any engine without `wg`."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from lab.process import LabError

__all__ = ["PeerStatus", "Status", "request", "status"]


@dataclass(slots=True)
class PeerStatus:
    """One peer; `handshake_ns` is Unix time, 0 when there was none."""

    public_key: str  # hex
    endpoint: str = ""
    handshake_ns: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    allowed_ips: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Status:
    listen_port: int = 0
    peers: list[PeerStatus] = field(default_factory=list)


def request(path: Path, text: str, timeout: float = 5) -> str:
    """Sends one operation (ending in an empty line); OSError if nobody answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(str(path))
        client.sendall(text.encode())
        answer = b""
        while not answer.endswith(b"\n\n"):
            part = client.recv(65536)
            if not part:
                break
            answer += part
    return answer.decode()


def status(path: Path) -> Status:
    """What `get=1` says."""
    found = Status()
    fields = [line.partition("=") for line in request(path, "get=1\n\n").split("\n")]
    for key, _, value in fields:
        if key == "listen_port":
            found.listen_port = int(value)
        elif key == "errno" and value != "0":
            raise LabError(f"UAPI get: errno {value}")
        elif key == "public_key":
            found.peers.append(PeerStatus(value))
        elif found.peers:
            _peer_field(found.peers[-1], key, value)
    return found


def _peer_field(peer: PeerStatus, key: str, value: str) -> None:
    if key == "endpoint":
        peer.endpoint = value
    elif key == "allowed_ip":
        peer.allowed_ips.append(value)
    elif key == "last_handshake_time_sec":
        peer.handshake_ns += int(value) * 1_000_000_000
    elif key == "last_handshake_time_nsec":
        peer.handshake_ns += int(value)
    elif key in ("rx_bytes", "tx_bytes"):
        setattr(peer, key, int(value))
