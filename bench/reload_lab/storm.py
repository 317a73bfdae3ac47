"""A storm of changes through one UAPI connection, and what the traffic saw of it."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Self

from lab.engines import Engine
from lab.process import LabError
from lab.streams import StreamReport, Streams

from reload_lab.script import ROUND, ROUND_OTHERS, changes, hexadecimal
from reload_lab.star import UNTOUCHED, Star, known

ROUNDS = 100

__all__ = [
    "Connection",
    "Storm",
    "Watched",
    "calm",
    "prepared",
    "steady",
    "storm",
    "summary",
]


class Connection:
    """One connection to a UAPI socket, kept open."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, text: str) -> str:
        return self.exchange(text.encode()).decode()

    def exchange(self, request: bytes) -> bytes:
        self.send(request)
        return self.answer()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def answer(self) -> bytes:
        answer = b""
        while not answer.endswith(b"\n\n"):
            part = self._socket.recv(1 << 16)
            if not part:
                raise LabError("the engine hung up")
            answer += part
        return answer


@dataclass(slots=True)
class Watched:
    """What must not move while the configuration does."""

    handshakes: list[int]
    bytes_seen: list[tuple[int, int]]
    resident: int

    @classmethod
    def of(cls, engine: Engine, around: Star) -> Watched:
        peers = known(engine, around.members)
        return cls(
            [peer.handshake_ns for peer in peers] + around.peer_handshakes(),
            [(peer.rx_bytes, peer.tx_bytes) for peer in peers],
            engine.process.resident_bytes(),
        )


@dataclass(slots=True)
class Storm:
    """A finished storm; times in microseconds."""

    changes: int = 0
    seconds: float = 0.0
    reload_us: Counter[int] = field(default_factory=Counter)
    resident_max: int = 0
    backwards: int = 0  # times that a peer's counter was smaller a second later


def storm(
    engine: Engine,
    around: Star,
    *,
    rate: int,
    seconds: float,
    others_only: bool = False,
) -> Storm:
    """`rate` changes a second for `seconds`, each answered before the next one."""
    script = cycle(prepared(around, others_only=others_only))
    result = Storm()
    last: dict[tuple[str, str], int] = {}
    with Connection(engine.socket_path) as connection:
        start = time.monotonic()
        total = int(rate * seconds)
        while result.changes < total:
            now = time.monotonic()
            wait = start + result.changes / rate - now
            if wait > 0:
                time.sleep(wait)
            began = time.perf_counter_ns()
            answer = connection.exchange(next(script))
            if answer != b"errno=0\n\n":
                raise LabError(f"a change was refused: {answer!r}")
            result.reload_us[(time.perf_counter_ns() - began) // 1000] += 1
            result.changes += 1
            if result.changes % rate == 0:
                resident = engine.process.resident_bytes()
                result.resident_max = max(result.resident_max, resident)
                seen = _counters(connection, around)
                result.backwards += sum(
                    value < last.get(name, 0) for name, value in seen.items()
                )
                last = seen
        result.seconds = time.monotonic() - start
    return result


def steady(
    engine: Engine, requests: Sequence[bytes], rate: int, going: Callable[[], bool]
) -> int:
    """`rate` changes a second while `going`, over and over, each answered before the
    next one; how many. The answer is fetched when the next one is due, so that a
    change wakes this process once: what it takes, the traffic does not get."""
    count, script = 0, cycle(requests)
    with Connection(engine.socket_path) as connection:
        start = time.monotonic()
        connection.send(next(script))
        while going():
            count += 1
            wait = start + count / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            answer = connection.answer()
            if answer != b"errno=0\n\n":
                raise LabError(f"a change was refused: {answer!r}")
            connection.send(next(script))
        connection.answer()
    return count


def _counters(connection: Connection, around: Star) -> dict[tuple[str, str], int]:
    """What the members have sent and received, from the same connection."""
    wanted = {hexadecimal(member.identity.public_key) for member in around.members}
    found, peer = {}, ""
    for line in connection.request("get=1\n\n").split("\n"):
        key, _, value = line.partition("=")
        if key == "public_key":
            peer = value
        elif key in ("rx_bytes", "tx_bytes") and peer in wanted:
            found[peer, key] = int(value)
    return found


def prepared(around: Star, *, others_only: bool = False) -> list[bytes]:
    """Whole rounds of the script as requests, so that the client costs little."""
    changed = around.changed
    endless = changes(
        changed.identity.public_key,
        changed.own,
        changed.endpoints,
        others_only=others_only,
    )
    steps = islice(endless, ROUNDS * (ROUND_OTHERS if others_only else ROUND))
    return [step.uapi().encode() for step in steps]


def calm(around: Star, *, rate: int, seconds: float) -> list[StreamReport]:
    """The traffic alone."""
    return Streams(around.streams(), rate=rate, seconds=seconds).finish()


def summary(reports: Sequence[StreamReport]) -> dict[str, Any]:
    """The untouched peers together, and the changed one."""
    edge = 2 * UNTOUCHED
    return {
        "untouched": StreamReport.merge(reports[:edge]).json(),
        "changed": StreamReport.merge(reports[edge:]).json(),
    }
