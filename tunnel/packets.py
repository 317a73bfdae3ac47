"""The inside of a loopback tunnel, for programs that run on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import TYPE_CHECKING

from tunnel.errors import DeviceError

if TYPE_CHECKING:
    from tunnel.io.memory import TunUser

__all__ = ["Packets"]


class Packets:
    """IP packets into a loopback tunnel and out of it.

    Both directions raise DeviceError once the tunnel has ended, whoever waits included.
    """

    def __init__(self, end: TunUser, ended: asyncio.Future[None]) -> None:
        """`ended` is done when the tunnel is: it wakes who waits for a packet."""
        self._end = end
        self._ended = ended
        self._receiving = asyncio.Lock()  # packets go out in the order of the calls

    async def send(self, packet: bytes) -> None:
        """Hands the tunnel one IP packet, as an application's socket would."""
        while True:
            try:
                self._end.send(packet, timeout=0)
                return
            except TimeoutError:
                await asyncio.sleep(0.001)

    async def recv(self) -> bytes:
        """The next IP packet that arrived through the tunnel.

        Several may wait: each gets a packet of its own, in the order of the calls.
        """
        async with self._receiving:
            while True:
                try:
                    return self._end.recv(timeout=0)
                except TimeoutError:
                    if self._ended.done():
                        raise DeviceError("the TUN device is closed") from None
                await self._readable_or_ended()

    async def _readable_or_ended(self) -> None:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake(*_: object) -> None:
            woken.set()

        # The control thread closes the packets' descriptor, and its number may be
        # somebody else's before the event loop hears of it: so that loop has ours.
        with select.epoll() as watch:
            with contextlib.suppress(OSError, ValueError):  # closed this moment
                watch.register(self._end.fileno(), select.EPOLLIN)
            loop.add_reader(watch.fileno(), wake)
            self._ended.add_done_callback(wake)
            try:
                await woken.wait()
            finally:
                self._ended.remove_done_callback(wake)
                loop.remove_reader(watch.fileno())
