"""From saving the file to the new configuration being in force, debounce included.

    python bench/reload_latency.py --peers 10000 --rounds 20

One tunnel in memory follows its file, as `tunnel up` does; each round replaces the file
by a rename with one peer more or less and waits for the new generation. All samples
and the load of the machine go to a file under bench/results. As in `bench/reload.py`,
the priority is raised if that is allowed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.report import environment, percentile, save

from tunnel.cli.process import calm_collector
from tunnel.cli.up import Served, serve
from tunnel.config.reload import Source
from tunnel.config.watch import SETTLE
from tunnel.constants import MILLISECOND

TARGET_MS = 150
APPLY_TARGET_MS = 5
PRIORITY = -10
DEBOUNCE_MS = SETTLE // MILLISECOND


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


def replace(path: Path, content: str) -> float:
    """Returns when the rename began: what follows it competes with what it sets off."""
    temporary = path.with_suffix(".new")
    temporary.write_text(content)
    started = time.perf_counter()
    temporary.replace(path)
    return started


def measure(served: Served, path: Path, texts: list[str], rounds: int) -> list[float]:
    """Milliseconds of each round."""
    device, times = served.engine.device, []
    for number in range(rounds):
        time.sleep(0.3)
        before = device.generation
        started = replace(path, texts[(number + 1) % 2])
        while device.generation == before:
            time.sleep(0.001)
        times.append((time.perf_counter() - started) * 1000)
    return times


def follow(
    path: Path, texts: list[str], rounds: int
) -> tuple[list[float], list[float]]:
    """Milliseconds from save to effect, and of plan and apply alone."""
    attempt = Source(path).attempt()
    assert attempt.config is not None
    assert attempt.desired is not None
    desired, config, digest = attempt.desired, attempt.config, attempt.digest
    ready: list[Served] = []
    event = threading.Event()

    def run() -> None:
        with serve(
            desired, config=config, path=path, digest=digest, signals=False
        ) as served:
            ready.append(served)
            event.set()
            served.engine.run()

    thread = threading.Thread(target=run)
    thread.start()
    event.wait()
    try:
        times = measure(ready[0], path, texts, rounds)
        applied = [e.duration_ms for e in ready[0].manager.history if e.success]
    finally:
        ready[0].engine.stop()
        thread.join()
    return times, applied


def report(peers: int, times: list[float], applied: list[float]) -> dict[str, Any]:
    where = environment()
    return {
        "environment": where | {"priority": os.getpriority(os.PRIO_PROCESS, 0)},
        "options": {"peers": peers, "rounds": len(times), "debounce_ms": DEBOUNCE_MS},
        "targets": {"save_ms": TARGET_MS, "apply_ms": APPLY_TARGET_MS},
        "save_ms": times,
        "apply_ms": applied,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    one = facts(options.peers)
    guest = {"name": "guest", "publicKey": key()}
    texts = [json.dumps(one), json.dumps(one | {"peers": [*one["peers"], guest]})]
    calm_collector()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TUNNEL_RUN_DIR"] = directory
        path = Path(directory) / "config.json"
        path.write_text(texts[0])
        times, applied = follow(path, texts, options.rounds)
    whole = report(options.peers, times, applied)
    whole["environment"]["load_before"] = before
    written = save("reload-latency", whole)
    save_ms, apply_ms = statistics.median(times), statistics.median(applied)
    print(
        f"{options.peers} peers, save to effect: median {save_ms:.0f} ms, "
        f"p90 {percentile(times, 90):.0f} ms, worst {max(times):.0f} ms "
        f"(target {TARGET_MS} ms, {DEBOUNCE_MS} ms of it are the debounce)\n"
        f"plan and apply in the control thread: median {apply_ms:.1f} ms, "
        f"worst {max(applied):.1f} ms (target {APPLY_TARGET_MS} ms)\n"
        f"load of the machine: {before:.1f}"
    )
    print(written)


if __name__ == "__main__":
    main()
