"""Commands and background processes, each of which is ended by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["LabError", "Process", "run", "wait_until"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class LabError(Exception):
    """Something the lab itself needs has failed; what is under test may be fine."""


def run(
    argv: Sequence[str],
    *,
    text: str | None = None,
    timeout: float = 30,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs to completion with `text` on stdin; raises LabError unless it exits 0."""
    try:
        done = subprocess.run(
            argv,
            check=False,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as late:
        raise LabError(f"{' '.join(argv)}: no end after {timeout} s") from late
    if check and done.returncode:
        raise LabError(
            f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def wait_until(
    what: str, holds: Callable[[], bool], *, timeout: float, interval: float = 0.01
) -> float:
    """Waits until `holds()`; returns the seconds it took, LabError after `timeout`."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > timeout:
            raise LabError(f"{what}: not within {timeout} s")
        time.sleep(interval)
    return time.monotonic() - start


class Process:
    """A background process whose output goes to an unnamed file.

    When it is started from the main thread it also dies with this process, even if
    that is killed (PR_SET_PDEATHSIG follows the thread that forked).
    """

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> None:
        self.argv = tuple(argv)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._text = ""
        tied = threading.current_thread() is threading.main_thread()
        self._popen = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv] if tied else argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def output(self) -> str:
        """Everything written so far to stdout and stderr."""
        if not self._log.closed:
            size = os.fstat(self._log.fileno()).st_size
            self._text = os.pread(self._log.fileno(), size, 0).decode(errors="replace")
        return self._text

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """The exit code, negative for a signal; LabError when it does not end."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise LabError(f"{self.argv[-1]}: no end after {timeout} s") from late

    def end(self, grace: float = 1.0) -> int:
        """SIGTERM, after `grace` seconds SIGKILL; idempotent."""
        if self.running:
            self.signal(signal.SIGTERM)
            try:
                self.wait(grace)
            except LabError:
                self.signal(signal.SIGKILL)
        code = self.wait(10)
        self.output()
        self._log.close()
        return code

    def cpu_seconds(self) -> float:
        """User and system time used so far, of all its threads."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def threads(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())
