"""Network namespaces joined by Ethernet, gone without trace when the lab closes.

A namespace is held by one process (named after it) and has a network, a mount table
and a host name of its own. Nothing is registered under /run/netns: when the processes
are gone, so is the namespace, whatever happened to the program that made it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from lab.process import LabError, Process, run

__all__ = ["Lab", "Namespace"]

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

# /var/run is private, so that interface names and UAPI sockets never collide.
_HOLDER = """
hostname "$1"
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=0755 tmpfs /var/run
mkdir -m 0700 /var/run/wireguard
for each in all default; do
    echo 0 >/proc/sys/net/ipv6/conf/$each/accept_dad
    echo 0 >/proc/sys/net/ipv6/conf/$each/disable_ipv6
done
ip link set lo up
echo ready
exec -a "$1" cat
"""


class Namespace:
    """One host of the lab: `name`, its outside addresses and the processes in it."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.ipv4 = f"10.99.0.{number}"
        self.ipv6 = f"fd00:99::{number:x}"
        self._processes: list[Process] = []
        apart = ["unshare", "--net", "--mount", "--uts", "--propagation", "private"]
        self._holder = subprocess.Popen(
            [*apart, "bash", "-ec", _HOLDER, "bash", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        first = self._holder.stdout.readline()
        if first != "ready\n":
            self._holder.kill()
            rest = self._holder.communicate()[0]
            raise LabError(f"no namespace {name}: {first}{rest}")

    @property
    def pid(self) -> int:
        """The process that holds the namespace open."""
        return self._holder.pid

    def path(self, inside: str) -> Path:
        """Where a file of this namespace's mount table can be opened from outside."""
        # resolved first: an absolute symlink would lead out of the namespace
        return Path(f"/proc/{self.pid}/root{os.path.realpath(inside)}")

    def _enter(self, argv: Sequence[str]) -> list[str]:
        into = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts"]
        return [*into, f"--wd={Path.cwd()}", *argv]

    def run(
        self,
        *argv: str,
        text: str | None = None,
        timeout: float = 30,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """A command inside, to completion (see `process.run`)."""
        return run(self._enter(argv), text=text, timeout=timeout, check=check)

    def popen(self, *argv: str, env: Mapping[str, str] | None = None) -> Process:
        """A command inside, in the background, ended with the namespace."""
        process = Process(self._enter(argv), env=env)
        self._processes.append(process)
        return process

    def call(self, function: Callable[[], T]) -> T:
        """Runs `function` in a thread that is inside this network (not its mounts)."""
        result: list[T] = []
        failure: list[BaseException] = []

        def inside() -> None:
            try:
                with Path(f"/proc/{self.pid}/ns/net").open("rb") as net:
                    if _libc.setns(net.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(function())
            except BaseException as error:  # noqa: BLE001 - raised by the caller
                failure.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in this network, for use by the calling program."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def ip(self, *argv: str) -> str:
        """`ip ARGS` inside; its output."""
        return self.run("ip", *argv).stdout

    def has_interface(self, name: str) -> bool:
        return self.run("ip", "link", "show", name, check=False).returncode == 0

    def add_outside_address(self, interface: str) -> None:
        self.ip("address", "add", f"{self.ipv4}/24", "dev", interface)
        self.ip("address", "add", f"{self.ipv6}/64", "dev", interface, "nodad")
        self.ip("link", "set", interface, "up")

    def close(self) -> None:
        """Ends everything that was started inside, then the namespace itself."""
        try:
            for process in reversed(self._processes):
                process.end()
        finally:
            self._processes.clear()
            self._release()

    def _release(self) -> None:
        """The holder ends with its standard input."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        try:
            self._holder.wait(5)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()


class Lab:
    """`with Lab("left", "right") as (left, right):` hosts on one Ethernet.

    Two hosts are joined by a veth pair, more by a bridge in a namespace of its own.
    Every host has `eth0` with 10.99.0.N/24 and fd00:99::N/64, N counting from 1.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._stack = ExitStack()
        self.hosts: list[Namespace] = []

    def __enter__(self) -> Self:
        try:
            for number, name in enumerate(self._names, start=1):
                self.hosts.append(self._namespace(name, number))
            self._join()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Namespace]:
        return iter(self.hosts)

    def __getitem__(self, name: str) -> Namespace:
        return self.hosts[self._names.index(name)]

    def _namespace(self, name: str, number: int) -> Namespace:
        host = Namespace(f"tnl-{os.getpid()}-{name}", number)
        self._stack.callback(host.close)
        return host

    def _join(self) -> None:
        if len(self.hosts) == 2:
            left, right = self.hosts
            _veth(left, "eth0", right, "eth0")
        elif len(self.hosts) > 2:
            switch = self._namespace("switch", 0)
            switch.ip("link", "add", "br0", "type", "bridge")
            switch.ip("link", "set", "br0", "up")
            for host in self.hosts:
                port = f"port{host.number}"
                _veth(switch, port, host, "eth0")
                switch.ip("link", "set", port, "master", "br0", "up")
        for host in self.hosts if len(self.hosts) > 1 else []:
            host.add_outside_address("eth0")


def _veth(left: Namespace, name: str, right: Namespace, peer: str) -> None:
    # Ends with equal index numbers would learn of their carrier up to 1 s late
    # (net/core/link_watch.c: linkwatch_urgent_event).
    index = 100 + 2 * max(left.number, right.number)
    near = [name, "index", str(index), "type", "veth"]
    far = ["name", peer, "index", str(index + 1), "netns", str(right.pid)]
    left.ip("link", "add", *near, "peer", *far)
