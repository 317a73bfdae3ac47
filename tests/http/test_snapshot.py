"""One look at the tunnel for all who ask at about the same time, and no old one."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import Any

import pytest

from tunnel.api import http_read, http_snapshot
from tunnel.api.http_snapshot import FRESH, Snapshot, Snapshots
from tunnel.api.metrics import Reloads
from tunnel.api.problems import Refusal
from tunnel.config.store import load_config
from tunnel.prepare import prepare_file
from tunnel.status import DeviceStatus

from .rig import NEW, Api, problem


class World:
    """A clock, a generation, and looks that are numbered; `slow` delays them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.generation = 1
        self.begun: list[tuple[float, int]] = []  # of each look: when, and of what
        self.fails = False
        self.gate: asyncio.Event | None = None
        self.snapshots = Snapshots(self.take, lambda: self.generation, lambda: self.now)

    async def take(self) -> Snapshot:
        self.begun.append((self.now, self.generation))
        status = DeviceStatus(
            "x", True, None, 0, 0, 1420, self.generation, (), {"look": len(self.begun)}
        )
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise Refusal(504, "timeout", "no")
        return Snapshot(status, None, None, (), Reloads())

    async def ask(self) -> int:
        """The number of the look that is shown."""
        return (await self.snapshots.get()).status.counters["look"]

    async def asking(self, count: int) -> list[asyncio.Task[int]]:
        """So many who wait."""
        tasks = [asyncio.create_task(self.ask()) for _ in range(count)]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks


def test_a_look_is_shown_for_half_a_second() -> None:
    async def run() -> None:
        world = World()
        assert [await world.ask() for _ in range(5)] == [1] * 5
        world.now += FRESH
        assert await world.ask() == 1
        world.now += 0.001
        assert await world.ask() == 2

    asyncio.run(run())


def test_who_waits_for_a_look_shares_it_however_long_it_takes() -> None:
    async def run() -> None:
        world = World()
        world.gate = asyncio.Event()
        early = await world.asking(50)
        world.now += 10
        late = await world.asking(1)
        world.gate.set()
        assert [await one for one in early] == [1] * 50
        assert await late[0] == 2
        assert len(world.begun) == 2

    asyncio.run(run())


def test_a_look_from_before_a_change_is_shown_to_nobody_who_asks_after_it() -> None:
    async def run() -> None:
        world = World()
        world.gate = asyncio.Event()
        early = await world.asking(1)
        world.now += 0.01
        world.snapshots.forget()
        world.now += 0.01
        late = await world.asking(2)
        world.gate.set()
        assert await early[0] == 1
        assert [await one for one in late] == [2, 2]
        world.generation += 1  # through another door
        assert await world.ask() == 3

    asyncio.run(run())


def test_a_failure_is_of_those_who_waited_for_it() -> None:
    async def run() -> None:
        world = World()
        world.fails = True
        world.gate = asyncio.Event()
        early = await world.asking(20)
        world.now += 0.01
        world.gate.set()
        found = await asyncio.gather(*early, return_exceptions=True)
        assert all(isinstance(one, Refusal) and one.status == 504 for one in found)
        assert len(world.begun) == 1
        world.fails = False
        assert await world.ask() == 2

    asyncio.run(run())


def test_looks_are_as_new_as_promised_and_no_more_than_needed(seed: int) -> None:
    """Against the rule itself: which of all looks so far could be shown?"""
    rng = random.Random(seed)

    async def run() -> None:
        world = World()
        changed = 0.0
        for _ in range(2000):
            world.now += rng.choice([0.001, 0.1, 0.3, 0.6])
            match rng.randrange(6):
                case 0:
                    world.snapshots.forget()
                    changed = world.now
                case 1:
                    world.generation += 1
                case _:
                    fit = [
                        number
                        for number, (begun, of) in enumerate(world.begun, 1)
                        if begun >= world.now - FRESH
                        and begun > changed
                        and of == world.generation
                    ]
                    wanted = fit[-1] if fit else len(world.begun) + 1
                    assert await world.ask() == wanted

    asyncio.run(run())


# --- through the API; here a look would be shown for long


@pytest.fixture
def looks(api: Api, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the control thread was asked for everything."""
    monkeypatch.setattr(http_snapshot, "FRESH", 1000.0)
    device = api.tunnel.engine.device
    status, found = device.status, Counter[str]()

    def counted() -> DeviceStatus:
        found["looks"] += 1
        return status()

    monkeypatch.setattr(device, "status", counted)
    return found


def test_many_requests_are_one_look(api: Api, looks: Counter[str]) -> None:
    paths = ("/state", "/api/wg/status", "/metrics", "/metrics?names=both")
    first = [api.get(path) for path in paths]
    for _ in range(3):
        assert [api.get(path).content for path in paths] == [a.content for a in first]
    assert looks["looks"] == 1
    assert {a.headers["content-type"].partition(";")[0] for a in first} == {
        "application/json", "text/plain",
    }  # fmt: skip
    accept = {"accept": "application/openmetrics-text"}
    assert api.get("/metrics", headers=accept).text.endswith("# EOF\n")


def test_the_next_answer_shows_every_change(api: Api, looks: Counter[str]) -> None:
    def state() -> Any:
        answer = api.get("/state").json()
        assert answer["device"]["generation"] == api.generation
        assert len(api.get("/api/wg/status").json()["peers"]) == len(api.peers)
        return answer

    assert len(state()["peers"]) == 3
    assert api.post("/api/wg/add-peer", json=NEW).status_code == 200
    assert len(state()["peers"]) == 4
    problem(api.post("/api/wg/add-peer", json=NEW), 409, "refused")
    assert [one["success"] for one in state()["reloads"]] == [True, False]
    api.want_peers(1)
    assert api.post("/api/apply-wg-config?confirm_within=900").status_code == 200
    assert state()["device"]["pending_confirmation"] > 0
    assert api.post("/api/confirm").status_code == 200
    assert state()["device"]["pending_confirmation"] is None
    api.want_peers(1, 2, 3)
    assert api.post("/api/apply-wg-config?confirm_within=900").status_code == 200
    assert len(state()["peers"]) == 3
    assert api.post("/api/rollback").status_code == 200
    back = state()
    assert len(back["peers"]) == 1
    assert back["device"]["pending_confirmation"] is None
    assert api.post("/api/apply-wg-config").status_code == 200
    gone = {"name": back["peers"][0]["name"]}
    assert api.post("/api/wg/remove-peer", json=gone).status_code == 200
    assert len(state()["peers"]) == 2
    api.want_peers(1, 2)
    file = prepare_file(api.tunnel.path, load_config(api.tunnel.path))
    api.tunnel.call(lambda: api.tunnel.manager.apply(file, source="sighup"))
    assert len(state()["peers"]) == 2  # through another door
    assert looks["looks"] == 9


def test_the_control_thread_makes_no_documents(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[threading.Thread] = []
    for name in ("state_json", "status_of", "render"):
        original = getattr(http_read, name)

        def noted(*args: Any, original: Any = original, **rest: Any) -> Any:
            made.append(threading.current_thread())
            return original(*args, **rest)

        monkeypatch.setattr(http_read, name, noted)
    for path in ("/state", "/api/wg/status", "/metrics"):
        assert api.get(path).status_code == 200
    assert made == [threading.current_thread()] * 3  # the API's, in these tests
