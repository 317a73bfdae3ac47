"""The tunnel's interface as the system shows it: up or down, its MTU, moved to another
network namespace, deleted. What it is, the device becomes.
"""

from __future__ import annotations

import logging
from socket import if_nametoindex
from typing import Final, Protocol

from tunnel.constants import SECOND
from tunnel.device import Device, Network
from tunnel.errors import DeviceError, TunnelError
from tunnel.io.base import TunDevice
from tunnel.io.distant_link_linux import DistantLink, follow_link
from tunnel.io.gso_linux import train_limit
from tunnel.io.link_linux import LinkEvent, LinkMonitor
from tunnel.loop import Timer
from tunnel.netconfig.base import IPV6_MTU_MIN

__all__ = ["InterfaceWatch", "RestoringNetwork"]

log = logging.getLogger("tunnel.engine")

RETRY: Final = SECOND


class RestoringNetwork(Network, Protocol):
    """Knows as well what an interface loses by going down, or by an MTU that is too
    small for IPv6."""

    def restore(self) -> None:
        """Puts that back, as far as it was configured; raises nothing."""


class InterfaceWatch:
    """Of one device and its TUN interface; used in the control thread.

    With `network` the interface is configured from here, and what it loses is restored.
    `trains`: large packets of it may be limited to what fits one.
    """

    def __init__(
        self,
        device: Device,
        tun: TunDevice,
        network: RestoringNetwork | None,
        *,
        trains: bool,
    ) -> None:
        self._device = device
        self._loop = device.loop
        self._tun = tun
        self._network = network
        self._trains = trains
        self.link: LinkMonitor | DistantLink | None = None
        # what it has lost IPv6 addresses and routes by, since they were restored
        self._went_down = False
        self._was_small = False
        self._look_later: Timer | None = None
        self._retry: Timer | None = None
        self._refusal = ""  # why the sockets could not be bound, as logged

    def start(self) -> None:
        """From now on the device is up when the interface is."""
        self._watch(LinkMonitor(_ifindex(self._tun.name)))

    def close(self) -> None:
        """Idempotent."""
        if self.link is not None:
            self.link.close()

    # --- up and down

    def set_up(self, up: bool) -> None:
        """A port that is taken is waited for."""
        try:
            self._device.set_up(up)
        except TunnelError as error:
            if str(error) != self._refusal:
                self._refusal = str(error)
                log.error("%s", error)
            if self._retry is None:
                self._retry = self._loop.call_later(RETRY, self._retry_up)
        else:
            self._refusal = ""

    def _retry_up(self) -> None:
        """The port was taken when the interface went up; it may be free by now."""
        self._retry = None
        if self.link is None or self.link.is_up:
            self.set_up(True)

    def _switch(self, up: bool) -> None:
        """The system says that the interface went up or down."""
        self._went_down |= not up
        self.set_up(up)

    def _restore(self, link: LinkMonitor | DistantLink) -> None:
        """What it lost, as soon as it can have that again. The sockets come first: the
        commands take a while, and what still has a route needs nothing else."""
        small = link.mtu < IPV6_MTU_MIN
        if link.is_up and (self._went_down or (self._was_small and not small)):
            self._went_down, self._was_small = False, small
            if self._network is not None and self._is_here():
                self._network.restore()

    def _is_here(self) -> bool:
        """Whether the name it was opened under is still its own."""
        try:
            return self.link is not None and _ifindex(self._tun.name) == (
                self.link.ifindex
            )
        except DeviceError:
            return False

    # --- what the system says

    def _watch(self, link: LinkMonitor | DistantLink) -> None:
        self.link = link
        self._loop.add_reader(link.fileno(), self.look)
        self._set_mtu(link)
        if link.is_up:
            self.set_up(True)

    def _set_mtu(self, link: LinkMonitor | DistantLink) -> None:
        self._device.set_mtu(link.mtu)
        size = train_limit(link.mtu)
        if self._trains and size:
            link.limit_gso(size)

    def look(self) -> None:
        """There may be news of the interface. Raises DeviceError when it is gone."""
        link = self.link
        assert link is not None
        events = link.read_events()
        for event in events:
            if event in {LinkEvent.MOVED, LinkEvent.DELETED}:
                # it looks deleted when the word of its move was lost
                if event is LinkEvent.DELETED and not self._tun.alive:
                    raise DeviceError("the interface was deleted")
                self._follow(link)
                return
            if event is LinkEvent.MTU:
                self._set_mtu(link)
            else:
                self._switch(event is LinkEvent.UP)
        # of several values only the last is known
        many = events.count(LinkEvent.MTU) > 1
        self._was_small |= many or link.mtu < IPV6_MTU_MIN
        self._restore(link)
        if link.unseen and self._look_later is None:
            self._look_later = self._loop.call_later(RETRY, self._look_again)

    def _look_again(self) -> None:
        self._look_later = None
        self.look()

    def _follow(self, link: LinkMonitor | DistantLink) -> None:
        """The interface went to another network namespace. The sockets stay here,
        which is the point of moving it."""
        self._loop.remove_reader(link.fileno())
        link.close()
        self._network = None  # where it is now, its addresses are not our business
        self.set_up(False)
        try:
            self._watch(follow_link(self._tun.fileno()))
        except OSError as error:
            raise DeviceError(
                f"the interface moved and cannot be followed: {error.strerror}"
            ) from error


def _ifindex(name: str) -> int:
    try:
        return if_nametoindex(name)
    except OSError as error:
        raise DeviceError(f"the interface {name} is gone") from error
