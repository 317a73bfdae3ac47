"""Every measure of `bench/reload.py` that needs traffic: one function each.

They return plain data with every sample (latencies as histograms in microseconds) and
never judge; `judge.py` compares with the targets.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from lab.engines import Engine, EngineKind, engine_kind
from lab.process import LabError
from lab.streams import Streams
from lab.traffic import iperf3

from reload_lab import script
from reload_lab.api_process import api_hub
from reload_lab.star import PORT, Star, hub_engine, star
from reload_lab.storm import Storm, Watched, calm, prepared, steady, storm, summary

__all__ = ["api_storm", "engines_side_by_side", "goodput", "uapi_storm"]

RATE = 1000  # packets per second of each of the 18 flows
CALM_S = 10.0
EDGE_S = 0.3  # traffic before and after the changes
HERE = Path(__file__).parent


def _numbers(histogram: Counter[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(histogram.items())}


def _storm_data(done: Storm) -> dict[str, Any]:
    return {**asdict(done), "reload_us": _numbers(done.reload_us)}


def _watched(before: Watched, after: Watched) -> dict[str, Any]:
    """Handshakes that were made meanwhile, counters that went back, memory."""
    backwards = sum(
        new < old
        for olds, news in zip(before.bytes_seen, after.bytes_seen, strict=True)
        for old, new in zip(olds, news, strict=True)
    )
    return {
        "new_handshakes": sum(
            a != b for a, b in zip(before.handshakes, after.handshakes, strict=True)
        ),
        "counters_backwards": backwards,
        "resident_before": before.resident,
        "resident_after": after.resident,
    }


def uapi_storm(rate: int, seconds: float) -> dict[str, Any]:
    """`rate` reloads a second through one UAPI connection, under marked traffic."""
    with star() as around, hub_engine(around, engine_kind("ours")) as engine:
        storm(engine, around, rate=rate, seconds=2)  # memory is warm afterwards
        quiet = calm(around, rate=RATE, seconds=CALM_S)
        before = Watched.of(engine, around)
        streams = Streams(around.streams(), rate=RATE, seconds=seconds + 2 * EDGE_S)
        time.sleep(EDGE_S)
        done = storm(engine, around, rate=rate, seconds=seconds)
        reports = streams.finish()
        time.sleep(max(0.0, 1 - EDGE_S))
        watched = _watched(before, Watched.of(engine, around))
    return {
        "rate": rate,
        "calm": summary(quiet),
        "storm": summary(reports),
        "reloads": _storm_data(done),
        **watched,
        "counters_backwards": watched["counters_backwards"] + done.backwards,
    }


def api_storm(rate: int, seconds: float) -> dict[str, Any]:
    """The same through `await tunnel.apply(...)`, with the log level as well."""
    with star() as around, api_hub(around, rate, seconds) as hub:
        quiet = calm(around, rate=RATE, seconds=CALM_S)
        handshakes = around.peer_handshakes()
        resident = hub.process.resident_bytes()
        streams = Streams(around.streams(), rate=RATE, seconds=seconds + 2 * EDGE_S)
        time.sleep(EDGE_S)
        done = hub.storm()
        reports = streams.finish()
        time.sleep(max(0.0, 1 - EDGE_S))
        after = around.peer_handshakes()
        resident_after = hub.process.resident_bytes()
    return {
        "rate": rate,
        "calm": summary(quiet),
        "storm": summary(reports),
        "reloads": done,
        "new_handshakes": sum(a != b for a, b in zip(handshakes, after, strict=True)),
        "counters_backwards": done["backwards"],
        "resident_before": resident,
        "resident_after": resident_after,
        "retired_snapshots_max": done["retired_max"],
    }


def goodput(rate: int, seconds: float, rounds: int) -> dict[str, Any]:
    """TCP through the hub to an untouched peer as fast as it goes, with and without."""
    found: dict[str, Any] = {
        "without": [], "with": [], "reloads": [], "reload_cpu_us": []
    }  # fmt: skip
    with star() as around, hub_engine(around, engine_kind("ours")) as engine:
        requests = prepared(around)
        for number in range(rounds):
            order = ("without", "with") if number % 2 == 0 else ("with", "without")
            for which in order:
                speed = rate if which == "with" else 0
                before = control_seconds(engine)
                bits, done = _transfer(around, engine, requests, speed, seconds)
                found[which].append(bits)
                if done:
                    used = control_seconds(engine) - before
                    found["reloads"].append(done)
                    found["reload_cpu_us"].append(used / done * 1e6)
    return found


def control_seconds(engine: Engine) -> float:
    """CPU seconds that the thread which carries out changes has had so far."""
    pid = engine.process.pid
    fields = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


def _transfer(
    around: Star, engine: Engine, requests: list[bytes], rate: int, seconds: float
) -> tuple[float, int]:
    """Bits per second, and how many changes came from this very thread meanwhile."""
    far = around.untouched[0]
    with ThreadPoolExecutor(1) as pool:
        transfer = pool.submit(
            iperf3, around.host, far.host, far.inside, seconds=seconds
        )
        done = 0
        if rate:
            done = steady(engine, requests, rate, lambda: not transfer.done())
        return transfer.result().bits_per_second, done


def engines_side_by_side(
    kinds: Sequence[EngineKind], rate: int, seconds: float
) -> list[dict[str, Any]]:
    """The script through `wg set`, and `wg syncconf`, for each engine as the hub."""
    return [_one_engine(kind, rate, seconds) for kind in kinds]


PHASES = ("calm", "others", "all", "syncconf")


def _one_engine(kind: EngineKind, rate: int, seconds: float) -> dict[str, Any]:
    phases: dict[str, Any] = {}
    with (
        star() as around,
        hub_engine(around, kind) as engine,
        tempfile.TemporaryDirectory() as directory,
    ):
        for phase in PHASES:
            commands = _commands(phase, around, Path(directory))
            before = around.peer_handshakes()
            streams = Streams(around.streams(), rate=RATE, seconds=seconds + 2 * EDGE_S)
            time.sleep(EDGE_S)
            done = _run_commands(around, commands, rate, seconds, directory)
            reports = streams.finish()
            after = around.peer_handshakes()
            changes = sum(a != b for a, b in zip(before, after, strict=True))
            phases[phase] = {**summary(reports), **done, "new_handshakes": changes}
        cpu = engine.process.cpu_seconds()
    return {"engine": kind.name, "phases": phases, "cpu_seconds": cpu}


def _commands(phase: str, around: Star, directory: Path) -> list[list[str]]:
    changed = around.changed
    if phase == "calm":
        return []
    if phase == "syncconf":
        return _sync_commands(around, directory)
    endless = script.changes(
        changed.identity.public_key,
        changed.own,
        changed.endpoints,
        others_only=phase == "others",
    )
    keys = script.PresharedKeys(str(directory))
    return [step.wg("wg0", keys) for step in islice(endless, 660)]


def _sync_commands(around: Star, directory: Path) -> list[list[str]]:
    """Two files in turn, in which the changed peer's prefixes differ."""
    commands = []
    head = f"[Interface]\nPrivateKey = {around.identity.private_key}\n"
    head += f"ListenPort = {PORT}\n\n"
    for number in range(2):
        peers = around.peers()
        text = head + "\n".join(peer.render() for peer in peers)
        if number:
            own = ", ".join(around.changed.own)
            text = text.replace(own, f"{own}, {script.COVERS[0]}")
        file = directory / f"sync{number}.conf"
        file.touch(0o600)
        file.write_text(text)
        commands.append(["wg", "syncconf", "wg0", str(file)])
    return commands


def _run_commands(
    around: Star, commands: list[list[str]], rate: int, seconds: float, directory: str
) -> dict[str, Any]:
    if not commands:
        return {"changes": 0, "refused": 0, "seconds": seconds, "reload_us": {}}
    file = Path(directory) / "commands.json"
    settings = {"commands": commands, "rate": rate, "seconds": seconds}
    file.write_text(json.dumps(settings))
    program = str(HERE / "wg_runner.py")
    process = around.host.popen(sys.executable, program, str(file))
    if process.wait(seconds + 20):
        raise LabError(process.output())
    answer: dict[str, Any] = json.loads(process.output().splitlines()[-1])
    return answer
