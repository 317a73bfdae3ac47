"""rtnetlink notifications about one interface."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator

import pytest
from lab.held import open_descriptors

from tunnel.errors import DeviceError
from tunnel.io.link_linux import LinkEvent, LinkMonitor

from .spaces import Space, new_space

pytestmark = pytest.mark.usefixtures("require_tun")


@pytest.fixture
def monitor(space: Space) -> Iterator[LinkMonitor]:
    """Of an interface wg0 that is down and has MTU 1420."""
    space.ip("tuntap", "add", "dev", "wg0", "mode", "tun")
    space.ip("link", "set", "wg0", "mtu", "1420")
    with space.inside():
        made = LinkMonitor(socket.if_nametoindex("wg0"))
    yield made
    made.close()


def events(monitor: LinkMonitor) -> list[LinkEvent]:
    assert select.select([monitor], [], [], 20)[0], "nothing was reported"
    return monitor.read_events()


def test_the_state_at_the_start_is_known(monitor: LinkMonitor) -> None:
    assert (monitor.is_up, monitor.mtu, monitor.exists) == (False, 1420, True)
    assert monitor.read_events() == []


def test_every_change_is_one_event(space: Space, monitor: LinkMonitor) -> None:
    space.ip("link", "set", "wg0", "up")
    assert events(monitor) == [LinkEvent.UP]
    space.ip("link", "set", "wg0", "mtu", "1300")
    assert events(monitor) == [LinkEvent.MTU]
    assert monitor.mtu == 1300
    space.ip("link", "set", "wg0", "down")
    assert events(monitor) == [LinkEvent.DOWN]
    space.ip("link", "delete", "wg0")
    assert events(monitor) == [LinkEvent.DELETED]
    assert not monitor.exists
    assert monitor.read_events() == []


def test_events_come_in_order(space: Space, monitor: LinkMonitor) -> None:
    space.ip("link", "set", "wg0", "up")
    space.ip("link", "set", "wg0", "down")
    space.ip("link", "set", "wg0", "mtu", "1300", "up")
    space.ip("link", "delete", "wg0")
    seen = events(monitor)
    assert seen[:2] == [LinkEvent.UP, LinkEvent.DOWN]
    assert set(seen[2:4]) == {LinkEvent.UP, LinkEvent.MTU}
    # the kernel takes an interface down before it deletes it, and says so
    assert seen[4:] in ([LinkEvent.DELETED], [LinkEvent.DOWN, LinkEvent.DELETED])


def test_other_interfaces_and_other_changes_are_silent(
    space: Space, monitor: LinkMonitor
) -> None:
    space.ip("tuntap", "add", "dev", "wg1", "mode", "tun")
    space.ip("link", "set", "wg1", "up")
    space.ip("link", "delete", "wg1")
    space.ip("link", "set", "wg0", "alias", "office")
    assert events(monitor) == []
    assert monitor.exists


def test_large_packets_are_limited_where_the_system_lets_us(
    space: Space, monitor: LinkMonitor
) -> None:
    def limit() -> int:
        (told,) = json.loads(space.ip("-json", "-details", "link", "show", "wg0"))
        return int(told["gso_max_size"])

    monitor.limit_gso(30_000)
    assert limit() == 30_000
    monitor.limit_gso(1 << 30)  # more than the kernel has
    assert limit() == 30_000
    space.ip("link", "set", "wg0", "up")
    assert events(monitor) == [LinkEvent.UP]  # the refusal is no event and no error


def test_moving_is_not_deletion(
    space: Space, monitor: LinkMonitor, test_prefix: str
) -> None:
    with new_space(test_prefix + "m") as other:
        space.ip("link", "set", "wg0", "netns", other.name)
        assert events(monitor)[-1:] == [LinkEvent.MOVED]


def test_a_lost_notification_is_made_up_for(space: Space, monitor: LinkMonitor) -> None:
    """The receive buffer overflows: ENOBUFS, then the state is compared again."""
    small = socket.socket(fileno=socket.dup(monitor.fileno()))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    small.close()
    batch = "link set wg0 up\nlink set wg0 down\n" * 200
    space.run("sh", "-c", f"printf '{batch}' | ip -batch -")
    space.ip("link", "set", "wg0", "up", "mtu", "1290")
    monitor.read_events()
    assert (monitor.is_up, monitor.mtu) == (True, 1290)
    space.run("sh", "-c", f"printf '{batch}' | ip -batch -")
    space.ip("link", "delete", "wg0")
    assert monitor.read_events()[-1] is LinkEvent.DELETED


def test_no_interface_no_monitor(space: Space) -> None:
    before = open_descriptors()
    with space.inside(), pytest.raises(DeviceError, match="no network interface"):
        LinkMonitor(4711)
    assert open_descriptors() == before
