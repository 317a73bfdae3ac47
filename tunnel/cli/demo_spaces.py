"""The two ends of the demonstration in two network namespaces, as processes.

Both run the server's configuration as it is in the file and a client made to match.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tunnel.cli.demo_pair import PORT, RATE, await_handshakes, new_pair, until
from tunnel.cli.traffic import Counts
from tunnel.errors import TunnelError

__all__ = ["Namespaces", "namespaces_work"]

_OUTSIDE = ("192.0.2.1", "192.0.2.2")  # RFC 5737: documentation only


def namespaces_work() -> bool:
    """Root, a TUN device and `ip` are there."""
    return (
        os.geteuid() == 0
        and Path("/dev/net/tun").exists()
        and shutil.which("ip") is not None
    )


class Namespaces:
    """Each end in a network namespace of its own, with a real TUN device."""

    where = "two network namespaces, real TUN devices"

    def __init__(self, config: Path) -> None:
        self._stack = contextlib.ExitStack()
        outside = f"{_OUTSIDE[0]}:51820"
        self._directory, self.pair = self._stack.enter_context(
            new_pair(config, outside, memory=False)
        )
        self.names = (self.pair.server_interface, self.pair.client_interface)
        self._spaces = tuple(f"tnl-demo-{os.getpid()}-{end}" for end in "sc")
        self._counts = [Counts(), Counts()]
        self._reports: set[int] = set()
        self._traffic: list[subprocess.Popen[str]] = []
        os.environ["TUNNEL_RUN_DIR"] = str(self._directory)

    def start(self) -> None:
        self._make_network()
        for space, config in zip(
            self._spaces, (self.pair.server, self.pair.client), strict=True
        ):
            self._spawn(space, "tunnel", "up", str(config), "--log-level", "error")
        for name in self.names:
            until(f"{name} answers", (self._directory / f"{name}.sock").exists)
        await_handshakes(self.names)
        inside = (self.pair.server_address, self.pair.client_address)
        for end, (local, remote) in enumerate((inside, inside[::-1])):
            process = self._spawn(
                self._spaces[end],
                "tunnel.cli.traffic",
                *(local, remote, str(PORT), str(RATE)),
                pipes=True,
            )
            self._traffic.append(process)
            threading.Thread(target=self._read, args=(end,), daemon=True).start()
        until("both ends listen", lambda: self._reports == {0, 1})
        self._tell("start")

    def _make_network(self) -> None:
        for space in self._spaces:
            self._stack.callback(_remove, space)
            _ip("netns", "add", space)
        first, second = self._spaces
        link = ("veth0", "netns", first, "type", "veth", "peer", "veth0")
        _ip("link", "add", *link, "netns", second)
        for space, address in zip(self._spaces, _OUTSIDE, strict=True):
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                _ip("-n", space, "link", "set", device, "up")

    def _spawn(
        self, space: str, module: str, *arguments: str, pipes: bool = False
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", space, sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else None,
            text=True,
        )
        self._stack.callback(_end, process)
        return process

    def _read(self, end: int) -> None:
        output = self._traffic[end].stdout
        assert output is not None
        for line in output:
            self._counts[end] = Counts(**json.loads(line))
            self._reports.add(end)

    def counts(self) -> tuple[Counts, Counts]:
        return self._counts[0], self._counts[1]

    def _tell(self, word: str) -> None:
        for process in self._traffic:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def stop_sending(self) -> None:
        self._tell("stop")
        time.sleep(1)  # what is on its way arrives, and is reported

    def close(self) -> None:
        self._stack.close()


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise TunnelError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _remove(space: str) -> None:
    """With what a signal, at the wrong moment, has left running in it."""
    for pid in _ip("netns", "pids", space, check=False).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", space, check=False)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
