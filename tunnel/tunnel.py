"""The async API: a tunnel that runs in a thread of its own beside your event loop.

Every method that looks into the tunnel or changes it runs in the control thread and
is awaited; packets never pass through Python except those of `packets`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar

from tunnel.changes import Changes
from tunnel.control_thread import ControlThread
from tunnel.errors import DeviceError
from tunnel.packets import Packets
from tunnel.state.apply import Target
from tunnel.state.apply import apply as apply_to
from tunnel.state.model import (
    DeviceState,
    PeerState,
    canonical_prefixes,
)
from tunnel.state.plan import Plan, diff
from tunnel.turns import look_up, run_here

if TYPE_CHECKING:
    from tunnel.config.schema import Config
    from tunnel.engine import Engine
    from tunnel.protocol.types import Timing
    from tunnel.reloads import ReloadEvent
    from tunnel.status import DeviceStatus

__all__ = ["Packets", "Tunnel", "apply", "plan"]

T = TypeVar("T")

_LOCALHOST = bytes([127, 0, 0, 1])


def _state_of(config: Config | DeviceState) -> DeviceState:
    if isinstance(config, DeviceState):
        return config
    from tunnel.config.desired import desired_state

    return run_here(lambda: desired_state(config, look_up))


def plan(
    observed: Config | DeviceState,
    desired: Config | DeviceState,
    *,
    generation: int = 0,
) -> Plan:
    """What has to change so that `observed` becomes `desired`; nothing is done.

    Host names are looked up meanwhile: beside an event loop use `Tunnel.plan`.
    """
    return diff(_state_of(observed), _state_of(desired), generation=generation)


def apply(plan: Plan, target: Target) -> int:
    """Applies all of the plan to the target or nothing of it; the new generation."""
    return apply_to(plan, target)


class Tunnel:
    """A running tunnel, as an async context manager.

    `config` is what `load_config` returns, or a `DeviceState`. Its host names are
    looked up, and its passphrases made into keys, in another thread than the event
    loop's and not before it is needed: what is wrong with them is raised by `start`,
    `plan` and `apply` as ConfigError. `timing` replaces the protocol's times (for
    tests and demonstrations only: both ends must agree).
    """

    def __init__(
        self, config: Config | DeviceState, *, timing: Timing | None = None
    ) -> None:
        self._control = ControlThread(lambda: _state_of(config), timing)
        self._in_turn = asyncio.Lock()  # changes come in the order of the calls
        self._changes: Changes | None = None
        self._packets: Packets | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Opens the interface and applies the configuration; raises if it cannot.

        When it is cancelled the tunnel stops by itself, as soon as what is under way
        is done; `close` waits for that.
        """
        engine = await self._control.start()
        self._changes = Changes(engine)
        if engine.packets is not None:
            self._packets = Packets(engine.packets, self._control.ended)

    async def close(self) -> None:
        """Stops it and gives everything back; idempotent."""
        await self._control.close()

    async def wait(self) -> None:
        """Until the tunnel ends; raises what ended it, if that was a failure."""
        await self._control.wait()

    # --- looking and changing

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Runs `function(engine)` in the control thread; keep it short."""
        return await self._control.call(function)

    async def status(self) -> DeviceStatus:
        """Live values: endpoints, handshakes, bytes, drop counters."""
        return await self.call(lambda engine: engine.device.status())

    async def observe(self) -> DeviceState:
        """The configuration in force."""
        return await self.call(lambda engine: engine.device.observe())

    async def plan(self, config: Config | DeviceState) -> Plan:
        """What applying `config` would do, session by session; nothing is done."""
        desired = await asyncio.to_thread(_state_of, config)
        return await self.call(lambda engine: engine.plan(desired))

    async def apply(self, change: Plan | Config | DeviceState) -> Plan:
        """Applies a plan, or what is missing to a configuration; returns the plan.

        One change at a time, in the order of the calls.
        """
        async with self._in_turn:
            if isinstance(change, Plan):
                made = change
                return await self.call(lambda _: self._applied(made))
            desired = await asyncio.to_thread(_state_of, change)
            return await self.call(lambda engine: self._applied(engine.plan(desired)))

    def _applied(self, plan: Plan) -> Plan:
        """In the control thread, through the same record as every other door."""
        assert self._changes is not None
        self._changes.apply_plan(plan, source="api")
        return plan

    async def history(self) -> tuple[ReloadEvent, ...]:
        """The last changes and attempts of one, the oldest first."""
        changes = self._changes
        return await self.call(lambda _: tuple(changes.history if changes else ()))

    @property
    def packets(self) -> Packets:
        """The inside of a loopback tunnel."""
        if self._packets is None:
            raise DeviceError("only a running tunnel of type loopback has packets")
        return self._packets

    async def connect(self, other: Tunnel, *, address: bytes = _LOCALHOST) -> None:
        """Makes two tunnels of this program peers of each other, over real UDP.

        Each takes the other's interface addresses as its allowed IPs if it does not
        know it as a peer yet, and this host's `address` and its port as endpoint.
        """
        for one, far in ((self, other), (other, self)):
            state, status = await far.observe(), await far.status()
            if status.public_key is None:
                raise DeviceError("a tunnel without a private key has no peers")
            peer = PeerState(
                status.public_key,
                endpoint=(address, status.listen_port, 0),
                allowed_ips=canonical_prefixes(
                    (packed, len(packed) * 8) for packed, _ in state.interface.addresses
                ),
            )
            await one._merge_peer(peer)

    async def _merge_peer(self, peer: PeerState) -> None:
        """At one instant: others may change the peers side by side with this."""

        def merge(engine: Engine) -> None:
            state = engine.device.observe()
            known = state.peers.get(peer.public_key)
            merged = peer if known is None else replace(known, endpoint=peer.endpoint)
            peers = {**state.peers, peer.public_key: merged}
            self._applied(engine.plan(replace(state, peers=peers)))

        async with self._in_turn:
            await self.call(merge)
