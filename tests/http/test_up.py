"""`tunnel up` as a process: peers come and go over HTTP while another one's packets
flow, and not one of those is lost.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import clamp

from .rig import Tunnel, document, free_port

CHANGES = 20
PACE = 0.001  # seconds between two bursts
BURST = 4  # packets
LIMIT = 2000  # packets; nobody reads the interface, and so many find room in it


class Up:
    """The process, and what it says over HTTP."""

    def __init__(self, directory: Path, wanted: dict[str, Any]) -> None:
        directory.mkdir()
        self.port = int(wanted["listen"])
        file = Tunnel.__new__(Tunnel)  # only to write the file
        file.path, file.wanted = directory / "config.json", wanted
        file.write()
        self.url = f"http://{wanted['management']['bind']}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunnel", "up", str(file.path)],
            env=os.environ | {"TUNNEL_RUN_DIR": str(directory / "run")},
            stderr=subprocess.PIPE,
            text=True,
        )
        limits = httpx.Timeout(20, connect=2)
        self.client = httpx.Client(base_url=self.url, timeout=limits)
        self._wait()
        token = (directory / ".tunnel" / "management.token").read_text().strip()
        self.client.headers["authorization"] = f"Bearer {token}"

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, self.process.communicate()[1]
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def metrics(self) -> dict[str, float]:
        """Values by name, or by the reason or place that is their only label."""
        found = {}
        whole = self.client.get("/metrics?peers=false").text
        for family in text_string_to_metric_families(whole):
            for sample in family.samples:
                found["/".join([sample.name, *sample.labels.values()])] = sample.value
        return found

    def stop(self) -> str:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.communicate(timeout=20)[1]
        finally:
            self.process.kill()


def pair(port: int, bind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configurations of a server and of the client that sends."""
    keys = [clamp(os.urandom(32)) for _ in range(2)]
    private = [b64encode(key).decode() for key in keys]
    public = [b64encode(PrivateKey(key).public).decode() for key in keys]
    server = document() | {
        "listen": port,
        "privateKey": private[0],
        "tunnel": {"type": "loopback", "name": f"up{port}", "address": "10.0.0.1/24"},
        "peers": [
            {"name": "sender", "publicKey": public[1], "allowedIPs": ["10.0.0.2/32"]}
        ],
        "management": {"bind": bind},
    }
    client = {
        "mode": "client",
        "privateKey": private[1],
        "tunnel": {"type": "loopback", "name": "sender0", "address": "10.0.0.2/24"},
        "peers": [
            {
                "name": "server",
                "publicKey": public[0],
                "endpoint": f"127.0.0.1:{port}",
                "allowedIPs": ["10.0.0.0/24"],
            }
        ],
    }
    return server, client


def packet(number: int) -> bytes:
    body = struct.pack(">Q", number)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 7, 0, 64, 253, 0)
    return head + bytes([10, 0, 0, 2, 10, 0, 0, 1]) + body


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Up, Tunnel]]:
    server, client = pair(free_port(socket.SOCK_DGRAM), f"127.0.0.1:{free_port()}")
    up = Up(tmp_path / "server", server)
    try:
        sender = Tunnel(tmp_path, client)
        try:
            yield up, sender
        finally:
            sender.close()
    finally:
        said = up.stop()
    assert up.process.returncode == 0, said
    assert "Traceback" not in said


def received(up: Up) -> float:
    """Packets that came out of the session."""
    return up.metrics()["tunnel_packets_total/tun_written"]


def wait_for(up: Up, count: float) -> float:
    deadline = time.monotonic() + 10
    while (now := received(up)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def kernel_drops(port: int) -> int:
    """Packets that found the socket's buffer full, because the machine was busy: those
    never were the tunnel's."""
    total = 0
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{port:04X}"):
                total += int(fields[-1])
    return total


def explain(up: Up, sender: Tunnel) -> str:
    """Every counter of both ends that is not zero."""
    ours = sender.call(lambda: sender.engine.device.status().counters)
    counters = {"up": up.metrics(), "sender": ours}
    return "\n".join(
        f"{end} {name} {value}"
        for end, found in counters.items()
        for name, value in found.items()
        if value
    )


def session(up: Up) -> dict[str, Any]:
    peers = up.client.get("/api/wg/status").json()["peers"]
    return next(peer for peer in peers if peer["name"] == "sender")


def established(up: Up) -> dict[str, Any]:
    """Answers are up to half a second old."""
    for _ in range(100):
        found = session(up)
        if found["last_handshake"]:
            return found
        time.sleep(0.05)
    raise AssertionError("no handshake")


def test_peers_come_and_go_while_packets_flow(ends: tuple[Up, Tunnel]) -> None:
    up, sender = ends
    sender.engine.packets.send(packet(0))
    assert wait_for(up, 1) == 1
    before, sent, stop = established(up), 1, threading.Event()

    def flow() -> None:
        nonlocal sent
        while not stop.is_set():
            for _ in range(BURST if sent < LIMIT else 0):
                sender.engine.packets.send(packet(sent), timeout=5)
                sent += 1
            time.sleep(PACE)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        for number in range(CHANGES):
            while sent <= 3 * number and thread.is_alive():
                time.sleep(PACE)
            change(up, number)
    finally:
        stop.set()
        thread.join(10)
    assert sent > 2 * CHANGES
    overrun = kernel_drops(up.port)
    arrived = wait_for(up, sent - overrun)
    assert arrived + overrun == sent, explain(up, sender)
    after = session(up)
    assert after["last_handshake"] == before["last_handshake"]
    assert after["rx_bytes"] > before["rx_bytes"]
    found = up.metrics()
    assert found["tunnel_reload_total/success"] == 2 * CHANGES
    assert found["tunnel_peers"] == 1
    assert not [k for k, v in found.items() if v and "drops_total/" in k]


def change(up: Up, number: int) -> None:
    """One peer more, and gone again."""
    key = b64encode(os.urandom(32)).decode()
    body = {
        "public_key": key,
        "name": f"guest{number}",
        "allowed_ips": [f"10.0.1.{number}/32"],
        "preshared_key": b64encode(os.urandom(32)).decode(),
    }
    added = up.client.post("/api/wg/add-peer", json=body)
    assert added.status_code == 200, added.text
    assert body["preshared_key"] not in added.text
    assert [peer["session"] for peer in added.json()["peers"]] == ["new handshake"]
    assert up.client.get("/api/wg/status").json()["current_peers"] == 2
    removed = up.client.post(
        "/api/wg/remove-peer",
        json={"public_key": key},
        headers={"if-match": added.headers["etag"]},
    )
    assert removed.status_code == 200, removed.text


def test_a_bind_address_that_is_taken_ends_it_with_a_reason(tmp_path: Path) -> None:
    server, _ = pair(free_port(socket.SOCK_DGRAM), "192.0.2.1:7777")
    with pytest.raises(AssertionError, match=r"management\.bind") as caught:
        Up(tmp_path / "server", server)
    assert "choose a free port" in str(caught.value)
