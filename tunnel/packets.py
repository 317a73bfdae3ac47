"""The inside of a loopback tunnel, for programs that run on asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnel.io.memory import TunUser

__all__ = ["Packets"]


class Packets:
    """IP packets into a loopback tunnel and out of it."""

    def __init__(self, end: TunUser) -> None:
        self._end = end

    async def send(self, packet: bytes) -> None:
        """Hands the tunnel one IP packet, as an application's socket would."""
        while True:
            try:
                self._end.send(packet, timeout=0)
                return
            except TimeoutError:
                await asyncio.sleep(0.001)

    async def recv(self) -> bytes:
        """The next IP packet that arrived through the tunnel."""
        while True:
            try:
                return self._end.recv(timeout=0)
            except TimeoutError:
                await self._readable()

    async def _readable(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._end.fileno()
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(fd)
