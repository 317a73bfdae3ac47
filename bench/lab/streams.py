"""Drives `flows.py`: marked flows between any namespaces, judged at both ends."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.network import Namespace
from lab.process import LabError, Process, wait_until

__all__ = ["Stream", "StreamReport", "Streams", "histogram_percentile"]

PORT = 7100
_FLOWS = str(Path(__file__).with_name("flows.py"))


@dataclass(frozen=True, slots=True)
class Stream:
    """One flow: from `source` in `near` to `target` in `far`, which is `node`."""

    near: Namespace
    source: str
    far: Namespace
    target: str
    node: int


def histogram_percentile(histogram: Counter[int], percent: float) -> int:
    """The smallest key that `percent` of all samples do not exceed; 0 of nothing."""
    left = histogram.total() * percent / 100
    for value, count in sorted(histogram.items()):
        left -= count
        if left <= 0:
            return value
    return 0


@dataclass(slots=True)
class StreamReport:
    """Both ends of one flow or of several together; latencies in microseconds."""

    sent: int
    received: int
    duplicated: int
    misrouted: int
    latency_us: Counter[int]
    reordered: int = 0  # came after one that was sent later

    @property
    def lost(self) -> int:
        return self.sent - self.received

    def percentile_us(self, percent: float) -> int:
        return histogram_percentile(self.latency_us, percent)

    @classmethod
    def merge(cls, reports: Iterable[StreamReport]) -> StreamReport:
        total = cls(0, 0, 0, 0, Counter())
        for report in reports:
            total.sent += report.sent
            total.received += report.received
            total.duplicated += report.duplicated
            total.misrouted += report.misrouted
            total.reordered += report.reordered
            total.latency_us.update(report.latency_us)
        return total

    def json(self) -> dict[str, Any]:
        """With every sample."""
        return {
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "misrouted": self.misrouted,
            **{f"p{p}_us": self.percentile_us(p) for p in (50, 99, 100)},
            "latency_us": {str(us): n for us, n in sorted(self.latency_us.items())},
        }


class Streams:
    """All the flows at `rate` packets per second each, from now on for `seconds`."""

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        rate: int,
        seconds: float,
        size: int = 128,
    ) -> None:
        self.seconds = seconds
        self._closed = False
        self._directory = tempfile.TemporaryDirectory()
        self._specification = Path(self._directory.name) / "flows.json"
        self._specification.write_text(
            json.dumps(
                {
                    "rate": rate,
                    "count": int(rate * seconds),
                    "size": size,
                    "port": PORT,
                    "flows": [_described(n, each) for n, each in enumerate(streams)],
                }
            )
        )
        try:
            self._receiver = self._start("receive")
            self._sender = self._start("send")
        except BaseException:
            self.close()
            raise

    def _start(self, side: str) -> Process:
        process = Process([sys.executable, _FLOWS, side, str(self._specification)])
        setattr(self, f"_{side}", process)

        def ready() -> bool:
            if not process.running:
                raise LabError(process.output())
            return "ready" in process.output()

        wait_until("the flows", ready, timeout=10, interval=0.002)
        return process

    @property
    def running(self) -> bool:
        return self._sender.running

    def finish(self) -> list[StreamReport]:
        """Waits for the end; the reports in the order of the streams."""
        try:
            sent = _answer(self._sender, self.seconds + 20)
            self._receiver.signal(signal.SIGTERM)
            seen = _answer(self._receiver, 20)
        finally:
            self.close()
        if sent["errors"]:
            raise LabError(f"{sent['errors']} packets could not be sent")
        return [
            StreamReport(
                sent["sent"],
                flow["received"],
                flow["duplicated"],
                flow["misrouted"],
                Counter({int(us): n for us, n in flow["latency_us"].items()}),
                flow["reordered"],
            )
            for _, flow in sorted(seen["flows"].items(), key=lambda item: int(item[0]))
        ]

    def close(self) -> None:
        """Ends both sides, if `finish` has not; idempotent."""
        if self._closed:
            return
        self._closed = True
        for name in ("_send", "_receive"):
            process = getattr(self, name, None)
            if process is not None:
                process.end()
        self._directory.cleanup()


def _described(number: int, stream: Stream) -> dict[str, Any]:
    return {
        "flow": number,
        "node": stream.node,
        "source": stream.source,
        "target": stream.target,
        "near": stream.near.pid,
        "far": stream.far.pid,
    }


def _answer(process: Process, timeout: float) -> dict[str, Any]:
    if process.wait(timeout):
        raise LabError(process.output())
    answer: dict[str, Any] = json.loads(process.output().splitlines()[-1])
    return answer
