"""What is compared: engines, a forwarder without cryptography, and the bare network.

Each of them is, for the measures, the same thing: two hosts with an inside address
each, and the processes that carry what goes from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from lab.echo import ping
from lab.engines import ENGINES, EngineKind, engine_kind
from lab.native import BENCH, compiled
from lab.network import Lab, Namespace
from lab.pair import tunnel_pair
from lab.process import LabError, Process, run, wait_until

__all__ = ["CONTENDERS", "Contender", "Rig", "Side", "contender"]

_INTERFACE = "wg0"
_MTU = "1420"


@dataclass(frozen=True, slots=True)
class Side:
    host: Namespace
    address: str  # inside


@dataclass(frozen=True, slots=True)
class Rig:
    """Ready for traffic between `left` and `right`; `processes` carry it, if any."""

    left: Side
    right: Side
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    open: Callable[[], AbstractContextManager[Rig]]
    kind: EngineKind | None = None  # what has no peers and no keys has none

    def version(self) -> str:
        """The first line of what the program says about itself."""
        if self.kind is None:
            return ""
        done = run([*self.kind.argv[:-1], "--version"], check=False, timeout=10)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0].strip() if lines else ""


@contextmanager
def _engine(kind: EngineKind) -> Iterator[Rig]:
    with tunnel_pair(kind, kind) as pair:
        ends = (pair.left, pair.right)
        left, right = (Side(end.host, end.ipv4) for end in ends)
        yield Rig(left, right, tuple(end.engine.process for end in ends))


def _inside(host: Namespace, interface: str) -> Side:
    address = f"10.77.0.{host.number}"
    host.ip("address", "add", f"{address}/24", "dev", interface)
    host.ip("link", "set", interface, "mtu", _MTU, "up")
    return Side(host, address)


@contextmanager
def _forwarder() -> Iterator[Rig]:
    sources = [BENCH / "forwarder" / f"{name}.c" for name in ("forwarder", "pieces")]
    program = str(compiled(*sources, options=["-lpthread"]))
    with Lab("left", "right") as lab:
        left, right = lab
        ways = ((left, right), (right, left))
        processes = tuple(
            near.popen(program, _INTERFACE, far.ipv4) for near, far in ways
        )
        for host in lab:
            wait_until(
                "the forwarder's interface",
                partial(host.has_interface, _INTERFACE),
                timeout=5,
            )
        yield Rig(_inside(left, _INTERFACE), _inside(right, _INTERFACE), processes)


@contextmanager
def _veth() -> Iterator[Rig]:
    with Lab("left", "right") as lab:
        left, right = lab
        yield Rig(_inside(left, "eth0"), _inside(right, "eth0"))


@contextmanager
def _proved(name: str, opened: AbstractContextManager[Rig]) -> Iterator[Rig]:
    """After the handshake, and only if nothing is lost before anything began."""
    with opened as rig:
        if ping(rig.left.host, rig.right.address, count=10, interval=0.01).lost:
            raise LabError(f"{name}: packets are lost before anything began")
        yield rig


def _opener(
    name: str, make: Callable[[], AbstractContextManager[Rig]]
) -> Callable[[], AbstractContextManager[Rig]]:
    return lambda: _proved(name, make())


CONTENDERS = (*ENGINES, "forwarder", "veth")


def contender(name: str) -> Contender:
    """Any of CONTENDERS; LabError says how to get an engine that is missing."""
    if name in ENGINES:
        kind = engine_kind(name)
        return Contender(name, _opener(name, lambda: _engine(kind)), kind)
    bare = {"forwarder": _forwarder, "veth": _veth}[name]
    return Contender(name, _opener(name, bare))
