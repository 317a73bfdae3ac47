"""From saving the file to the new configuration being in force, debounce included.

    python bench/reload_latency.py --peers 10000 --rounds 20

One tunnel in memory follows its file, as `tunnel up` does; each round replaces the file
by a rename with one peer more or less and waits for the new generation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from tunnel.cli.up import Served, serve
from tunnel.config.reload import Source

TARGET_MS = 150


def key() -> str:
    return b64encode(os.urandom(32)).decode()


def facts(peers: int) -> dict[str, Any]:
    listed = [
        {
            "name": f"p{n}",
            "publicKey": key(),
            "allowedIPs": [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/32"],
        }
        for n in range(peers)
    ]
    tunnel = {"type": "loopback", "name": "bench-reload"}
    return {
        "mode": "server",
        "listen": 0,
        "privateKey": key(),
        "tunnel": tunnel,
        "peers": listed,
    }


def replace(path: Path, content: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(content)
    temporary.replace(path)


def measure(served: Served, path: Path, texts: list[str], rounds: int) -> list[float]:
    """Milliseconds of each round."""
    device, times = served.engine.device, []
    for number in range(rounds):
        time.sleep(0.3)
        before = device.generation
        replace(path, texts[(number + 1) % 2])
        started = time.perf_counter()
        while device.generation == before:
            time.sleep(0.001)
        times.append((time.perf_counter() - started) * 1000)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    one = facts(options.peers)
    guest = {"name": "guest", "publicKey": key()}
    texts = [json.dumps(one), json.dumps(one | {"peers": [*one["peers"], guest]})]
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TUNNEL_RUN_DIR"] = directory
        path = Path(directory) / "config.json"
        path.write_text(texts[0])
        attempt = Source(path).attempt()
        assert attempt.config is not None
        assert attempt.desired is not None
        ready: list[Served] = []
        event = threading.Event()

        def run() -> None:
            with serve(
                attempt.desired,
                config=attempt.config,
                path=path,
                digest=attempt.digest,
                signals=False,
            ) as served:
                ready.append(served)
                event.set()
                served.engine.run()

        thread = threading.Thread(target=run)
        thread.start()
        event.wait()
        times = measure(ready[0], path, texts, options.rounds)
        applied = [e.duration_ms for e in ready[0].manager.history if e.success]
        ready[0].engine.stop()
        thread.join()
    median, worst = statistics.median(times), max(times)
    print(
        f"{options.peers} peers, save to effect: median {median:.0f} ms, worst "
        f"{worst:.0f} ms (target {TARGET_MS} ms, 100 ms of it are the debounce); "
        f"plan and apply in the control thread: {statistics.median(applied):.1f} ms"
    )


if __name__ == "__main__":
    main()
