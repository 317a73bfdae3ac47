"""The async API used by several tasks at once, and by some that give up."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from typing import Any, Never

import pytest

from tunnel import Tunnel
from tunnel.engine import Engine
from tunnel.errors import DeviceError

from .rig import number_of, packet
from .test_tunnel_api import state, within


def waiting(tunnel: Tunnel, count: int = 1) -> list[asyncio.Task[bytes]]:
    return [asyncio.ensure_future(tunnel.packets.recv()) for _ in range(count)]


async def begun() -> None:
    """What is ready in the event loop has run; nothing here takes many turns."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_tunnels_that_connect_side_by_side_know_each_other() -> None:
    async def scenario() -> None:
        async with (
            Tunnel(state(1)) as hub,
            Tunnel(state(2)) as b,
            Tunnel(state(3)) as c,
            Tunnel(state(4)) as d,
        ):
            await asyncio.gather(*(hub.connect(far) for far in (b, c, d)))
            keys = {(await far.status()).public_key for far in (b, c, d)}
            assert (await hub.observe()).peers.keys() == keys
            assert [e.success for e in await hub.history()] == [True] * 3

    for _ in range(5):
        within(30, scenario)


def test_each_of_several_receivers_gets_a_packet_in_the_order_of_the_calls() -> None:
    async def scenario() -> None:
        async with Tunnel(state(1)) as a, Tunnel(state(2)) as b:
            await a.connect(b)
            tasks = waiting(b, 3)
            await begun()
            tasks.pop(1).cancel()
            for number in range(2):
                await a.packets.send(packet(1, 2, number))
            assert [number_of(d) for d in await asyncio.gather(*tasks)] == [0, 1]

    within(30, scenario)


def test_who_waits_for_a_packet_hears_of_the_end() -> None:
    async def scenario() -> None:
        t = Tunnel(state(1))
        await t.start()
        tasks = waiting(t, 2)
        await begun()
        await t.close()
        for task in tasks:
            with pytest.raises(DeviceError, match="TUN device is closed"):
                await task
        with pytest.raises(DeviceError, match="TUN device is closed"):
            await t.packets.recv()
        with pytest.raises(DeviceError, match="TUN device is closed"):
            await t.packets.send(packet(1, 2))

    within(30, scenario)


def test_who_waits_for_a_packet_takes_nobodys_descriptor() -> None:
    """That of the packets is closed in another thread and its number given away, before
    the event loop hears of it."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        t = Tunnel(state(1))
        await t.start()
        (task,) = waiting(t)
        await begun()
        number = t.packets._end.fileno()
        await asyncio.to_thread(os.getpid)  # the pool has its descriptors
        thread = t._control.thread
        assert thread is not None
        t._control._stop()
        thread.join(30)
        one, two = socket.socketpair()
        os.dup2(one.fileno(), number)
        try:
            heard = asyncio.Event()
            loop.add_reader(number, heard.set)
            with pytest.raises(DeviceError, match="TUN device is closed"):
                await task
            two.send(b"x")
            await heard.wait()
            assert loop.remove_reader(number)
        finally:
            os.close(number)
            one.close()
            two.close()
            await t.close()

    within(30, scenario)


def test_a_change_that_nobody_waits_for_any_more_may_fail_in_silence() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        told: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        held, go_on = threading.Event(), threading.Event()

        def hold(_: Engine) -> None:
            held.set()
            go_on.wait(30)

        def fail(_: Engine) -> Never:
            raise DeviceError("refused")

        async with Tunnel(state(1)) as t:
            holding = asyncio.ensure_future(t.call(hold))
            assert await asyncio.to_thread(held.wait, 30)
            asked = asyncio.ensure_future(t.call(fail))
            await begun()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            go_on.set()
            await holding
            await t.status()  # behind the one that fails
            await begun()
            del asked
            gc.collect()
            await begun()
        assert told == []

    within(30, scenario)


def test_a_function_that_raises_stop_iteration_is_answered() -> None:
    async def scenario() -> None:
        async with Tunnel(state(1)) as t:
            with pytest.raises(RuntimeError, match="StopIteration") as caught:
                await t.call(lambda _: next(iter(())))
            assert isinstance(caught.value.__cause__, StopIteration)
            assert (await t.status()).public_key is not None

    within(30, scenario)
