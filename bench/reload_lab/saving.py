"""From saving a file of ten thousand peers with one change to its effect."""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.process import LabError, Process, wait_until
from lab.uapi import request

__all__ = ["save_to_effect"]

PEERS = 10_000
SEED = 20_261_121
ASK_S = 0.002  # how often it is asked whether the change is there
HISTORY = 'tunnel=1\n{"do": "history"}\n\n'


def config(keepalive: int) -> str:
    """A tunnel in memory; `keepalive` is that of one of its peers."""
    rng = random.Random(SEED)
    peers = [
        {
            "name": f"peer{number}",
            "publicKey": base64.b64encode(rng.randbytes(32)).decode(),
            "allowedIPs": [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"],
        }
        for number in range(PEERS)
    ]
    peers[PEERS // 3]["persistentKeepalive"] = keepalive
    key = base64.b64encode(rng.randbytes(32)).decode()
    tunnel = {"type": "loopback", "name": "save0", "address": "10.255.0.1/32"}
    whole = {"mode": "server", "privateKey": key, "tunnel": tunnel, "peers": peers}
    return json.dumps(whole, indent=2)


def save(path: Path, text: str) -> None:
    """As an editor does it: beside it, then in its place."""
    beside = path.with_suffix(".new")
    beside.touch(0o600)
    beside.write_text(text)
    beside.replace(path)


def applied(socket: Path) -> int:
    """How many changes have been carried out."""
    answer = request(socket, HISTORY)
    line = next(x for x in answer.split("\n") if x.startswith("result="))
    told = json.loads(line.removeprefix("result="))
    events = told if isinstance(told, list) else told["events"]
    return sum(bool(event["success"]) for event in events)


def save_to_effect(repeats: int = 7) -> dict[str, Any]:
    """Milliseconds from the rename until the tunnel says that it has changed."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config.json"
        save(path, config(0))
        argv = [sys.executable, "-m", "tunnel", "up", str(path)]
        process = Process(argv, env={"TUNNEL_RUN_DIR": directory})
        try:
            took = _saves(process, path, Path(directory) / "save0.sock", repeats)
        finally:
            process.end()
    return {"save_ms": took}


def _saves(process: Process, path: Path, socket: Path, repeats: int) -> list[float]:
    def answers() -> bool:
        if not process.running:
            raise LabError(process.output())
        return socket.exists()

    wait_until("the tunnel", answers, timeout=20)
    took = []
    texts = [config(1 + number) for number in range(repeats)]
    before = applied(socket)
    for number, text in enumerate(texts, 1):
        time.sleep(0.5)
        save(path, text)
        start = time.perf_counter()
        wait_until(
            "the change",
            lambda wanted=before + number: applied(socket) >= wanted,
            timeout=10,
            interval=ASK_S,
        )
        took.append((time.perf_counter() - start) * 1e3)
    return took
