"""`tunnel-wg` in a network namespace, and `wg` to talk to it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RUN = Path("/var/run/wireguard")
COMMAND = [sys.executable, "-m", "tunnel.cli.wg"]


def run(*argv: str, check: bool = True, input: str = "") -> str:  # noqa: A002
    done = subprocess.run(argv, capture_output=True, text=True, input=input, timeout=30)
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout if check else f"{done.returncode} {done.stderr}"


def soon(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it comes true within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def pid_of(path: Path) -> int:
    """The process at the other end of a Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", raw)[0])


class Namespace:
    """A network namespace of its own name; processes started in it end with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._children: list[subprocess.Popen[str]] = []
        self._daemons: list[int] = []
        run("ip", "netns", "add", name)
        self("ip", "link", "set", "lo", "up")

    def argv(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def __call__(self, *argv: str, **kwargs: object) -> str:
        return run(*self.argv(*argv), **kwargs)  # type: ignore[arg-type]

    def daemon(self, interface: str) -> int:
        """Starts `tunnel-wg` as a daemon; it is ready. Its process id."""
        self(*COMMAND, interface)
        pid = pid_of(RUN / f"{interface}.sock")
        self._daemons.append(pid)
        return pid

    def foreground(self, interface: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            self.argv(*COMMAND, "-f", interface), stderr=subprocess.PIPE, text=True
        )
        self._children.append(child)
        path = RUN / f"{interface}.sock"
        assert soon(lambda: path.exists() or child.poll() is not None)
        assert child.poll() is None, child.stderr and child.stderr.read()
        return child

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.communicate()
        for pid in self._daemons:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, 9)
        run("ip", "netns", "del", self.name)
