"""An interface that is in another network namespace, heard from where it was made."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from lab.held import open_descriptors

from tunnel.io.distant_link_linux import DistantLink
from tunnel.io.link_linux import LinkEvent
from tunnel.io.tun import open_tun
from tunnel.io.tun_linux import LinuxTun

from .spaces import Space, new_space

pytestmark = pytest.mark.usefixtures("require_tun")


@pytest.fixture
def away(test_prefix: str) -> Iterator[Space]:
    with new_space(test_prefix + "a") as made:
        yield made


@pytest.fixture
def tun(space: Space, away: Space) -> Iterator[LinuxTun]:
    """wg0, made in `space` and moved to `away`; down, with MTU 1420."""
    with space.inside():
        made = open_tun("wg0", mtu=1420)
    space.ip("link", "set", "wg0", "netns", away.name)
    yield made
    made.close()


def events(link: DistantLink, until: LinkEvent) -> list[LinkEvent]:
    """All up to one that must come."""
    found: list[LinkEvent] = []
    end = time.monotonic() + 20
    while until not in found:
        assert select.select([link], [], [], max(0, end - time.monotonic()))[0], found
        found += link.read_events()
    return found


def test_the_state_at_the_start_and_every_change(
    space: Space, away: Space, tun: LinuxTun
) -> None:
    with space.inside():
        before = open_descriptors()
        link = DistantLink(tun.fileno())
        assert (link.is_up, link.mtu, link.exists) == (False, 1420, True)
        assert link.read_events() == []
        away.ip("link", "set", "wg0", "up")
        assert events(link, LinkEvent.UP) == [LinkEvent.UP]
        away.ip("link", "set", "wg0", "mtu", "1300")
        assert events(link, LinkEvent.MTU) == [LinkEvent.MTU]
        link.limit_gso(30_000)
        (told,) = json.loads(away.ip("-json", "-details", "link", "show", "wg0"))
        assert (link.mtu, told["gso_max_size"]) == (1300, 30_000)
        away.ip("link", "delete", "wg0")
        assert events(link, LinkEvent.DELETED)[-1] is LinkEvent.DELETED
        assert not link.exists
        assert link.read_events() == []
        link.limit_gso(30_000)
        link.close()
        assert open_descriptors() == before


def test_moves_that_nobody_looked_at(
    space: Space, away: Space, tun: LinuxTun, test_prefix: str
) -> None:
    """The last namespace has no number here when it gets there, and another name and
    number wait for it."""
    last_space = new_space(test_prefix + "b")
    with space.inside(), last_space as last, closing(DistantLink(tun.fileno())) as link:
        last.ip(
            *("link", "add", "taken", "index", str(link.ifindex)),
            *("type", "veth", "peer", "name", "its-end", "index", "900"),
        )
        away.ip("link", "set", "wg0", "netns", last.name, "name", "office")
        last.ip("link", "set", "office", "mtu", "1290", "up")
        found = events(link, LinkEvent.UP)
        assert set(found) == {LinkEvent.UP, LinkEvent.MTU}
        assert link.mtu == 1290
        last.ip("link", "set", "office", "down")
        assert events(link, LinkEvent.DOWN) == [LinkEvent.DOWN]
        last.ip("link", "set", "taken", "mtu", "1234")
        last.ip("link", "set", "office", "netns", space.name)
        space.ip("link", "set", "office", "up")
        assert events(link, LinkEvent.UP) == [LinkEvent.UP]


def test_a_lost_notification_is_made_up_for(
    space: Space, away: Space, tun: LinuxTun
) -> None:
    with space.inside(), closing(DistantLink(tun.fileno())) as link:
        small = socket.socket(fileno=socket.dup(link.fileno()))
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        small.close()
        batch = "link set wg0 up\nlink set wg0 down\n" * 200
        away.run("sh", "-c", f"printf '{batch}' | ip -batch -")
        away.ip("link", "set", "wg0", "up", "mtu", "1290")
        link.read_events()
        assert (link.is_up, link.mtu) == (True, 1290)


def test_a_namespace_ends_with_an_interface_that_is_watched(
    space: Space, tun: LinuxTun, test_prefix: str
) -> None:
    with space.inside(), closing(open_tun("wg1")) as other:
        with new_space(test_prefix + "b") as short_lived:
            space.ip("link", "set", "wg1", "netns", short_lived.name)
            link = DistantLink(other.fileno())
            assert other.alive
        with closing(link):
            end = time.monotonic() + 60  # the kernel takes it apart when it has time
            while other.alive and time.monotonic() < end:
                time.sleep(0.01)
            assert not other.alive
    assert tun.alive
