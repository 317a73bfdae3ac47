"""Ten thousand peers: setconf, syncconf, dump and memory of each engine, in turn."""

from __future__ import annotations

import base64
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.engines import Engine, EngineKind, Identity
from lab.network import Lab
from lab.process import LabError

__all__ = ["PEERS", "Scale", "compare"]

PEERS = 10_000
SEED = 20_261_121
SYNCS = 7
DUMPS = 9
SETTLE_S = 0.5


@dataclass(slots=True)
class Scale:
    """Samples of one engine, a list entry per round or repetition; times in ms."""

    kind: EngineKind
    setconf_ms: list[float] = field(default_factory=list)
    syncconf_ms: list[float] = field(default_factory=list)
    dump_ms: list[float] = field(default_factory=list)
    bytes_per_peer: list[float] = field(default_factory=list)
    refused: str = ""


def config(identity: Identity, *, keepalive: int = 0) -> str:
    """`wg setconf`'s format; always the same random keys. `keepalive` is that of one
    peer: the one change."""
    rng = random.Random(SEED)
    lines = ["[Interface]", f"PrivateKey = {identity.private_key}", "ListenPort = 9"]
    for number in range(PEERS):
        key = base64.b64encode(rng.randbytes(32)).decode()
        octets = f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
        lines += ["[Peer]", f"PublicKey = {key}", f"AllowedIPs = 10.{octets}/32"]
        if number == PEERS // 3 and keepalive:
            lines.append(f"PersistentKeepalive = {keepalive}")
    return "\n".join([*lines, ""])


def timed_ms(engine: Engine, *argv: str) -> float:
    """`wg ARGS`, as long as a user would wait for it."""
    start = time.perf_counter()
    engine.wg(*argv)
    return (time.perf_counter() - start) * 1e3


def one_round(result: Scale) -> None:
    """A fresh engine, filled, changed and listed."""
    with Lab("scale") as lab, tempfile.TemporaryDirectory() as directory:
        identity = Identity.new()
        files = [Path(directory) / f"wg{n}.conf" for n in range(2)]
        for file, keepalive in zip(files, (0, 25), strict=True):
            file.touch(0o600)
            file.write_text(config(identity, keepalive=keepalive))
        engine = Engine(result.kind, lab["scale"])
        try:
            engine.addresses("192.0.2.1/32")
            _measure(result, engine, files)
        finally:
            engine.kill()


def _measure(result: Scale, engine: Engine, files: Sequence[Path]) -> None:
    engine.wg("show", "wg0", "dump")
    empty = engine.process.resident_bytes()
    result.setconf_ms.append(timed_ms(engine, "setconf", "wg0", str(files[0])))
    time.sleep(SETTLE_S)
    used = engine.process.resident_bytes() - empty
    result.bytes_per_peer.append(used / PEERS)
    lines = engine.wg("show", "wg0", "peers").count("\n")
    if lines != PEERS:
        raise LabError(f"{result.kind.name} has {lines} of {PEERS} peers")
    for _ in range(DUMPS):
        result.dump_ms.append(timed_ms(engine, "show", "wg0", "dump"))
    try:
        for number in range(SYNCS):
            file = str(files[1 - number % 2])
            result.syncconf_ms.append(timed_ms(engine, "syncconf", "wg0", file))
    except LabError as error:
        result.refused = str(error).splitlines()[-1]


def compare(kinds: Sequence[EngineKind], rounds: int) -> list[Scale]:
    """Rounds alternate, each engine first in its turn."""
    results = [Scale(kind) for kind in kinds]
    for number in range(rounds):
        start = number % len(results)
        for result in results[start:] + results[:start]:
            one_round(result)
    return results
