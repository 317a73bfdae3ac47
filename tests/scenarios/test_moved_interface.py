"""The interface of a running engine is moved to other network namespaces.

Its sockets stay where they were made; whatever happens to it is followed wherever it
is, and no namespace lives on only because a tunnel watches it.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from lab.echo import ping
from lab.held import open_descriptors
from lab.network import Lab, Namespace
from lab.process import wait_until

from tunnel.engine import Engine
from tunnel.errors import DeviceError
from tunnel.io import distant_link_linux
from tunnel.io.gso_linux import train_limit
from tunnel.io.link_linux import LinkMonitor
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret, clamp

from .lanes import packed

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]

PORT = 51820


class Running:
    """An engine in a thread in `home`; `failure` is what it ended with."""

    def __init__(self, home: Namespace) -> None:
        self.home = home
        self.secret = Secret(clamp(os.urandom(32)))
        self.public = PrivateKey(self.secret.reveal()).public
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self.thread = threading.Thread(target=lambda: home.call(self._run))
        self.thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        try:
            self.engine = Engine(InterfaceState(name="wg0", workers=2))
            try:
                self.engine.start(None)
                self._ready.set()
                self.engine.run()
            finally:
                self.engine.close()
        except DeviceError as error:
            self.failure = error
        finally:
            self._ready.set()

    def connect(self, other: Running) -> None:
        peer = PeerState(
            other.public,
            endpoint=(packed(other.home.ipv4), PORT, 0),
            allowed_ips=((packed(f"10.77.0.{other.home.number}"), 32),),
        )
        state = DeviceState(
            private_key=self.secret, listen_port=PORT, peers={peer.public_key: peer}
        )

        def change(engine: Engine) -> None:
            have = engine.device.state.interface
            engine.apply(engine.plan(replace(state, interface=have)))

        self.engine.submit(lambda: change(self.engine)).result(20)

    @property
    def inside(self) -> str:
        return f"10.77.0.{self.home.number}"

    def up_in(self, host: Namespace, name: str = "wg0") -> None:
        """A move takes addresses away; this is what somebody does after it."""
        host.ip("address", "add", f"{self.inside}/24", "dev", name)
        host.ip("link", "set", name, "up")
        self.soon("the sockets", lambda: self.engine.device.up)

    def soon(self, what: str, holds: Callable[[], bool]) -> None:
        wait_until(what, holds, timeout=10)

    def close(self) -> None:
        self.engine.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


class Rig:
    """`moved` and `other` are connected; `first` and `second` are elsewhere."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.home, far, self.first, self.second = lab.hosts
        self.moved, self.other = Running(self.home), Running(far)
        stack.callback(self.moved.close)
        stack.callback(self.other.close)
        self.moved.connect(self.other)
        self.other.connect(self.moved)
        self.moved.up_in(self.home)
        self.other.up_in(far)

    def move(self, near: Namespace, far: Namespace, *also: str) -> None:
        near.ip("link", "set", "wg0", "netns", str(far.pid), *also)

    def assert_traffic(self, host: Namespace) -> None:
        def passes(near: Namespace, to: str) -> bool:
            return ping(near, to, count=1, wait=1).lost == 0

        wait_until("a session", lambda: passes(host, self.other.inside), timeout=20)
        assert passes(self.other.home, self.moved.inside)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Lab("home", "far", "first", "second") as lab, ExitStack() as stack:
        yield Rig(lab, stack)


def described(host: Namespace, name: str) -> dict[str, Any]:
    (found,) = json.loads(host.ip("-json", "-details", "link", "show", name))
    return dict(found)


def test_it_is_followed_from_one_namespace_to_the_next_and_home(rig: Rig) -> None:
    rig.assert_traffic(rig.home)
    before = open_descriptors()
    ways = [(rig.home, rig.first), (rig.first, rig.second), (rig.second, rig.home)]
    for near, far in ways:
        rig.move(near, far)
        rig.moved.soon("it went down", lambda: not rig.moved.engine.device.up)
        rig.moved.up_in(far)
        rig.assert_traffic(far)
        listening = f":{PORT:04X} "
        assert listening in rig.home.run("cat", "/proc/net/udp").stdout
        assert (
            far is rig.home or listening not in far.run("cat", "/proc/net/udp").stdout
        )
        far.ip("link", "set", "wg0", "down")
        rig.moved.soon("down", lambda: not rig.moved.engine.device.up)
        far.ip("link", "set", "wg0", "up")
        rig.moved.soon("up", lambda: rig.moved.engine.device.up)
    rig.assert_traffic(rig.home)
    rig.moved.soon("the descriptors of home", lambda: open_descriptors() == before)
    assert rig.moved.failure is None


def test_its_mtu_is_followed_and_strangers_are_left_alone(rig: Rig) -> None:
    """At home another interface gets the number that it has where it is now."""
    rig.move(rig.home, rig.first)
    rig.moved.up_in(rig.first)
    number = str(described(rig.first, "wg0")["ifindex"])
    rig.home.ip(
        *("link", "add", "stranger", "index", number),
        *("type", "veth", "peer", "name", "its-end", "index", "900"),
    )
    before = described(rig.home, "stranger")
    rig.first.ip("link", "set", "wg0", "mtu", "1300")
    rig.moved.soon("the MTU", lambda: rig.moved.engine.device.mtu == 1300)
    rig.moved.soon(
        "the largest packet",
        lambda: described(rig.first, "wg0")["gso_max_size"] == train_limit(1300),
    )
    assert described(rig.home, "stranger") == before
    rig.home.ip("link", "set", "stranger", "mtu", "1234")  # heard, and not ours
    rig.first.ip("link", "set", "wg0", "mtu", "1310")
    rig.moved.soon("the MTU", lambda: rig.moved.engine.device.mtu == 1310)
    rig.assert_traffic(rig.first)


def test_a_moment_without_descriptors_does_not_end_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens meanwhile is seen later."""
    rig.move(rig.home, rig.first)
    rig.moved.up_in(rig.first)
    here, refused = distant_link_linux._here, threading.Event()

    def exhausted(_: int) -> LinkMonitor:
        refused.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(distant_link_linux, "_here", exhausted)
    rig.first.ip("link", "set", "wg0", "mtu", "1300")
    assert refused.wait(10)
    assert rig.moved.engine.device.mtu == 1420
    monkeypatch.setattr(distant_link_linux, "_here", here)
    rig.moved.soon("the MTU", lambda: rig.moved.engine.device.mtu == 1300)
    rig.assert_traffic(rig.first)


def test_it_may_get_another_name_on_the_way(rig: Rig) -> None:
    rig.move(rig.home, rig.first, "name", "office")
    rig.moved.soon("it went down", lambda: not rig.moved.engine.device.up)
    rig.moved.up_in(rig.first, "office")
    rig.assert_traffic(rig.first)
    assert rig.moved.engine.tun.name == "office"


@pytest.mark.parametrize("how", ["interface", "namespace"])
def test_the_engine_ends_with_it(rig: Rig, how: str) -> None:
    rig.move(rig.home, rig.first)
    rig.moved.up_in(rig.first)
    rig.assert_traffic(rig.first)
    if how == "interface":
        rig.first.ip("link", "delete", "wg0")
    else:
        rig.first.close()  # nobody else is in it
    rig.moved.thread.join(20)
    assert not rig.moved.thread.is_alive()
    assert "deleted" in str(rig.moved.failure) or "gone" in str(rig.moved.failure)
    assert rig.other.failure is None


def test_a_move_of_which_nothing_was_heard_is_no_deletion(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOBUFS: the kernel knows of no such interface, and the descriptor is alive."""
    notice = LinkMonitor._notice

    def deaf(self: LinkMonitor, kind: int, body: bytes) -> Any:
        return () if kind == 17 else notice(self, kind, body)

    monkeypatch.setattr(LinkMonitor, "_notice", deaf)
    link = rig.moved.engine.interface.link
    rig.move(rig.home, rig.first)
    assert isinstance(link, LinkMonitor)
    link._ask()
    rig.moved.up_in(rig.first)
    rig.assert_traffic(rig.first)


def test_where_others_cannot_be_heard_it_is_watched_from_inside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CAP_NET_BROADCAST."""

    def refuse(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(distant_link_linux, "DistantLink", refuse)
    rig.move(rig.home, rig.first)
    rig.moved.up_in(rig.first)
    rig.assert_traffic(rig.first)
    assert isinstance(rig.moved.engine.interface.link, LinkMonitor)
    rig.move(rig.first, rig.second)
    rig.moved.soon("it went down", lambda: not rig.moved.engine.device.up)
    rig.moved.up_in(rig.second)
    rig.assert_traffic(rig.second)


def test_where_it_may_not_be_followed_the_engine_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CAP_SYS_ADMIN."""

    def refuse(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(distant_link_linux, "DistantLink", refuse)
    monkeypatch.setattr(distant_link_linux, "_here", refuse)
    rig.move(rig.home, rig.first)
    rig.moved.thread.join(20)
    assert "moved and cannot be followed" in str(rig.moved.failure)
