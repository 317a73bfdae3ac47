"""The hub as a program that uses the Python API: `python api_hub.py SETTINGS`.

SETTINGS is a JSON file of `star.api_settings`. It says `ready` once the interface
exists, and after SIGUSR1 changes the running tunnel `rate` times a second for
`seconds`, one `await tunnel.apply(...)` after the other; then it prints one line of
JSON and waits for SIGTERM.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# run by its path: the directory of this file is not a package then
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reload_lab.script import Change, changes
from tunnel import Tunnel
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    InterfaceState,
    PeerState,
    Prefix,
    Secret,
    canonical_prefixes,
    mask,
)

LEVELS = ("info", "debug")
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def prefix(text: str) -> Prefix:
    address, _, length = text.partition("/")
    return mask(ipaddress.ip_address(address).packed, int(length))


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).packed, int(port), 0


def peer_state(key: str, allowed: list[str], where: str) -> PeerState:
    return PeerState(
        base64.b64decode(key),
        endpoint=endpoint(where),
        allowed_ips=canonical_prefixes(map(prefix, allowed)),
    )


def changed(state: DeviceState, change: Change) -> DeviceState:
    """The state after one step of the script; a prefix has one owner."""
    key = base64.b64decode(change.key)
    peers = dict(state.peers)
    if change.remove:
        peers.pop(key, None)
        return replace(state, peers=peers)
    peer = peers.get(key) or PeerState(key)
    if change.allowed_ips is not None:
        wanted = canonical_prefixes(map(prefix, change.allowed_ips))
        for other, known in state.peers.items():
            if other != key and set(known.allowed_ips) & set(wanted):
                rest = tuple(p for p in known.allowed_ips if p not in wanted)
                peers[other] = replace(known, allowed_ips=rest)
        peer = replace(peer, allowed_ips=wanted)
    if change.endpoint is not None:
        peer = replace(peer, endpoint=endpoint(change.endpoint))
    if change.keepalive is not None:
        peer = replace(peer, keepalive=change.keepalive)
    if change.preshared_key is not None:
        secret = Secret(base64.b64decode(change.preshared_key))
        peer = replace(peer, preshared_key=secret)
    peers[key] = peer
    return replace(state, peers=peers)


@dataclass(slots=True)
class Outcome:
    """What the storm came to; times in microseconds."""

    changes: int = 0
    seconds: float = 0.0
    reload_us: Counter[int] = field(default_factory=Counter)
    resident_max: int = 0
    retired_max: int = 0
    backwards: int = 0
    before: dict[str, int] = field(default_factory=dict)


async def look(tunnel: Tunnel, outcome: Outcome, everything: bool) -> None:
    """Samples what is held back, and now and then every counter."""
    retired = await tunnel.call(lambda e: e.device.pump.retired_snapshots)
    outcome.retired_max = max(outcome.retired_max, retired)
    if not everything:
        return
    outcome.resident_max = max(outcome.resident_max, resident_bytes())
    status = await tunnel.status()
    values = dict(status.counters)
    for peer in status.peers:
        name = peer.public_key.hex()
        values[f"{name}.rx"] = peer.rx_bytes
        values[f"{name}.tx"] = peer.tx_bytes
    outcome.backwards += sum(
        values.get(name, 0) < value
        for name, value in outcome.before.items()
        if "." not in name or name in values  # a guest that left took its own along
    )
    outcome.before = values


async def storm(tunnel: Tunnel, settings: dict[str, Any]) -> Outcome:
    """The script, with a change of the log level in every round."""
    who = settings["changed"]
    script = changes(who["key"], who["own"], who["endpoints"])
    outcome, rate = Outcome(), settings["rate"]
    state = await tunnel.observe()
    total, start = int(rate * settings["seconds"]), time.monotonic()
    while outcome.changes < total:
        wait = start + outcome.changes / rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        step = next(script)
        if step.what == "add":
            level = LEVELS[outcome.changes % 2]
            state = replace(state, log_level=level)
        state = changed(state, step)
        began = time.perf_counter_ns()
        await tunnel.apply(state)
        outcome.reload_us[(time.perf_counter_ns() - began) // 1000] += 1
        outcome.changes += 1
        if outcome.changes % 10 == 0:
            await look(tunnel, outcome, outcome.changes % rate == 0)
    outcome.seconds = time.monotonic() - start
    return outcome


async def run(settings: dict[str, Any]) -> None:
    peers = [peer_state(*each) for each in settings["peers"]]
    state = DeviceState(
        private_key=Secret(base64.b64decode(settings["private_key"])),
        listen_port=settings["port"],
        interface=InterfaceState(name="wg0"),
        peers={peer.public_key: peer for peer in peers},
    )
    begin, end = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, begin.set)
    loop.add_signal_handler(signal.SIGTERM, end.set)
    async with Tunnel(state) as tunnel:
        print("ready", flush=True)
        while not end.is_set():
            waits = [asyncio.ensure_future(each.wait()) for each in (begin, end)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
            if begin.is_set():
                begin.clear()
                outcome = await storm(tunnel, settings)
                print(json.dumps(_described(outcome)), flush=True)


def _described(outcome: Outcome) -> dict[str, Any]:
    return {
        "changes": outcome.changes,
        "seconds": outcome.seconds,
        "reload_us": dict(sorted(outcome.reload_us.items())),
        "resident_max": outcome.resident_max,
        "retired_max": outcome.retired_max,
        "backwards": outcome.backwards,
    }


if __name__ == "__main__":
    asyncio.run(run(json.loads(Path(sys.argv[1]).read_text())))
