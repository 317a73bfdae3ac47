"""The async API at its edges: tunnels that end by themselves, starts that are given
up, and names that take their time."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tunnel import Config, Tunnel
from tunnel.config.store import parse_config
from tunnel.engine import Engine
from tunnel.errors import ConfigError, DeviceError

from .rig import strangers
from .test_tunnel_api import state, within

ADDRESS = bytes([192, 0, 2, 1])


def config(host: str = "peer.test") -> Config:
    """With one peer, whose endpoint is a host name."""
    private, public = (b64encode(os.urandom(32)).decode() for _ in range(2))
    return parse_config(f"""{{
        "mode": "server", "privateKey": "{private}", "listen": 0,
        "tunnel": {{"type": "loopback", "name": "memory1"}},
        "peers": [{{"publicKey": "{public}", "endpoint": "{host}:1",
                    "allowedIPs": ["10.0.0.2/32"]}}]
    }}""")


def resolved_by(monkeypatch: pytest.MonkeyPatch, look_up: Callable[[], None]) -> None:
    """Host names have an address, after `look_up`."""

    def resolve(*_: object, **__: object) -> list[Any]:
        look_up()
        return [(socket.AF_INET, 2, 17, "", (socket.inet_ntoa(ADDRESS), 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


class Gate:
    """Where another thread waits; `entered` says that it is there."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.open.wait(10), "nobody opened the gate: its thread waits itself"


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 10)


async def ended(tunnel: Tunnel) -> bool:
    """By itself: `close` is not needed for it."""
    thread = tunnel._control.thread
    if thread is not None:
        await asyncio.to_thread(thread.join, 10)
    return thread is None or not thread.is_alive()


def test_a_tunnel_that_ended_writes_to_no_descriptor_of_the_program() -> None:
    async def scenario() -> None:
        t = Tunnel(state(1))
        await t.start()
        engine = await t.call(lambda engine: engine)
        number = engine.loop._wake_fd
        failure = DeviceError("the interface was deleted")
        await t.call(lambda engine: engine.loop.fail(failure))
        with pytest.raises(DeviceError, match="was deleted"):
            await t.wait()
        assert await ended(t)
        with strangers() as files:
            assert number in files
            engine.submit(lambda: None)
            engine.stop()
            await t.close()

    within(20, scenario)


def gated(monkeypatch: pytest.MonkeyPatch, stage: str) -> Gate:
    """A start takes long: at its names, at the interface, or at its configuration."""
    gate = Gate()
    if stage == "names":
        resolved_by(monkeypatch, gate)
        return gate
    resolved_by(monkeypatch, lambda: None)
    method = {"interface": "__init__", "configuration": "start"}[stage]
    plain = getattr(Engine, method)

    def slow(engine: Engine, *args: Any, **options: Any) -> None:
        gate()
        plain(engine, *args, **options)

    monkeypatch.setattr(Engine, method, slow)
    return gate


def closings(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that were closed, as it happens."""
    closed: list[Engine] = []
    plain = Engine.close

    def close(engine: Engine) -> None:
        plain(engine)
        closed.append(engine)

    monkeypatch.setattr(Engine, "close", close)
    return closed


stages = pytest.mark.parametrize("stage", ["names", "interface", "configuration"])


@stages
def test_a_start_that_is_cancelled_leaves_nothing(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, closed = gated(monkeypatch, stage), closings(monkeypatch)

    async def scenario() -> None:
        t = Tunnel(config())
        start = asyncio.create_task(t.start())
        await reached(gate)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        gate.open.set()
        assert await ended(t)
        assert len(closed) == (stage != "names")
        await t.close()
        with pytest.raises(DeviceError, match="not running"):
            await t.status()
        with pytest.raises(DeviceError, match="started before"):
            await t.start()

    within(30, scenario)


@stages
def test_a_start_is_told_that_the_tunnel_was_closed(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gated(monkeypatch, stage)

    async def scenario() -> None:
        t = Tunnel(config())
        start = asyncio.create_task(t.start())
        await reached(gate)
        close = asyncio.create_task(t.close())
        await asyncio.sleep(0)  # `close` begins
        gate.open.set()
        with pytest.raises(DeviceError, match="closed before it ran"):
            await start
        await close
        assert await ended(t)

    within(30, scenario)


def test_a_close_before_the_start_takes_nothing_away() -> None:
    async def scenario() -> None:
        t = Tunnel(state(1))
        await t.close()
        async with t:
            await t.status()

    within(20, scenario)


@pytest.mark.parametrize("what", ["start", "plan", "apply"])
def test_names_are_looked_up_beside_the_event_loop(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver answers only once the event loop has had its turn."""
    gate = Gate()
    resolved_by(monkeypatch, gate)

    async def scenario() -> None:
        wanted = config()
        (key,) = (peer.public_key for peer in wanted.facts.peers)
        assert key is not None
        t = Tunnel(wanted if what == "start" else state(1))
        if what == "start":
            waiting: Awaitable[Any] = asyncio.create_task(t.start())
        else:
            await t.start()
            waiting = asyncio.create_task(getattr(t, what)(wanted))
        await reached(gate)
        gate.open.set()
        await waiting
        peers = (await t.observe()).peers
        assert (key in peers) == (what != "plan")
        if key in peers:
            assert peers[key].endpoint == (ADDRESS, 1, 0)
        await t.close()

    within(30, scenario)


def test_changes_come_in_the_order_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the names of the first one take long, and the second has none."""
    gate = Gate()
    resolved_by(monkeypatch, gate)

    async def scenario() -> None:
        final = state(1)
        async with Tunnel(final) as t:
            first = asyncio.create_task(t.apply(config()))
            await reached(gate)
            second = asyncio.create_task(t.apply(final))
            await t.status()  # the second one could have been done meanwhile
            gate.open.set()
            await asyncio.gather(first, second)
            assert await t.observe() == final

    within(30, scenario)


def test_a_name_without_an_address_is_raised_by_the_start() -> None:
    def nowhere(*_: object, **__: object) -> list[Any]:
        raise OSError("no such name")

    async def scenario(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", nowhere)
        t = Tunnel(config())
        with pytest.raises(ConfigError, match=r"peer\.test"):
            await t.start()
        await t.close()

    with pytest.MonkeyPatch.context() as patch:
        within(20, lambda: scenario(patch))
