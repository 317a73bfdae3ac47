"""The hub as a program of ours with the Python API (`api_hub.py`), in its namespace."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.process import LabError, Process, wait_until

from reload_lab.star import PORT, Star

__all__ = ["ApiHub", "api_hub"]

_PROGRAM = str(Path(__file__).with_name("api_hub.py"))


class ApiHub:
    """The running program."""

    def __init__(self, process: Process, seconds: float) -> None:
        self.process = process
        self._seconds = seconds
        self._told = 0

    def storm(self) -> dict[str, Any]:
        """Lets it change itself; what it says about that."""
        self.process.signal(signal.SIGUSR1)
        wait_until(
            "the end of the storm",
            lambda: len(self._answers()) > self._told,
            timeout=self._seconds + 30,
            interval=0.05,
        )
        answer: dict[str, Any] = json.loads(self._answers()[self._told])
        self._told += 1
        return answer

    def _answers(self) -> list[str]:
        lines = self.process.output().splitlines()
        if not self.process.running:
            raise LabError("\n".join(lines))
        return [line for line in lines if line.startswith("{")]


@contextmanager
def api_hub(around: Star, rate: int, seconds: float) -> Iterator[ApiHub]:
    """The program as the hub, every session made; a storm has this rate and length."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "settings.json"
        file.touch(0o600)
        file.write_text(json.dumps(_settings(around, rate, seconds)))
        process = around.host.popen(sys.executable, _PROGRAM, str(file))

        def ready() -> bool:
            if not process.running:
                raise LabError(process.output())
            return "ready" in process.output()

        try:
            wait_until("the program with the API", ready, timeout=20)
            around.address_hub()
            around.connect()
            yield ApiHub(process, seconds)
        finally:
            process.end()


def _settings(around: Star, rate: int, seconds: float) -> dict[str, Any]:
    changed = around.changed
    return {
        "private_key": around.identity.private_key,
        "port": PORT,
        "peers": [
            (peer.public_key, list(peer.allowed_ips), peer.endpoint)
            for peer in around.peers()
        ],
        "changed": {
            "key": changed.identity.public_key,
            "own": list(changed.own),
            "endpoints": list(changed.endpoints),
        },
        "rate": rate,
        "seconds": seconds,
    }
