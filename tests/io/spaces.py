"""Network namespaces for the tests: made under a unique name, always deleted."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


class Space:
    """One network namespace; `ip` runs in it and `inside` moves this thread there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *argv],
            capture_output=True,
            text=True,
            timeout=20,
        )
        if check:
            assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def ip(self, *arguments: str) -> str:
        return self.run("ip", *arguments)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Descriptors opened in the block belong to the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(there)
            os.close(home)


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def new_space(prefix: str) -> Iterator[Space]:
    """An empty namespace with its loopback up."""
    space = Space(f"{prefix}{next(_numbers)}")
    subprocess.run(["ip", "netns", "add", space.name], check=True, timeout=20)
    try:
        space.ip("link", "set", "lo", "up")
        yield space
    finally:
        subprocess.run(["ip", "netns", "delete", space.name], check=True, timeout=20)
