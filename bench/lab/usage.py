"""What processes cost: CPU time in nanoseconds, and memory while something goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.process import Process

__all__ = ["Usage", "cpu_ns"]

_SAMPLE_S = 0.05


def cpu_ns(process: Process) -> int:
    """CPU time of its living threads; work in the kernel on their behalf included.

    /proc/PID/stat counts in ticks of 10 ms, too coarse for a process that idles.
    """
    total = 0
    for each in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            total += int((each / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that has ended meanwhile
            continue
    return total


class Usage:
    """`with Usage(processes) as usage:` what they used in the block.

    `resident_bytes` is the largest resident set of any of them, sampled.
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._start = 0
        self.cpu_seconds = 0.0
        self.resident_bytes = 0

    def _look(self) -> None:
        for process in self._processes:
            self.resident_bytes = max(self.resident_bytes, process.resident_bytes())

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self._look()

    def _cpu_ns(self) -> int:
        return sum(cpu_ns(process) for process in self._processes)

    def __enter__(self) -> Self:
        self._start = self._cpu_ns()
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        if error is None:
            self.cpu_seconds = (self._cpu_ns() - self._start) / 1e9
            self._look()
