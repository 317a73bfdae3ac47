"""A change on trial: it is taken back by itself unless somebody confirms it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tunnel.config.schema import Config
from tunnel.constants import SECOND
from tunnel.errors import ApplyError, TunnelError
from tunnel.loop import ControlLoop, Timer
from tunnel.state.model import DeviceState, prefix_owners
from tunnel.state.plan import Plan
from tunnel.state.targets import StateEditor

__all__ = ["Unconfirmed", "Waiting", "without_plan"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """`plan` was applied, `config` was in force before it, `text` is to be saved when
    it is confirmed."""

    plan: Plan
    config: Config
    text: bytes | None


class Unconfirmed:
    """The one change that waits, if any; `expired` is called when its time is up."""

    def __init__(self, loop: ControlLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._waiting: Waiting | None = None
        self._timer: Timer | None = None

    def put(self, waiting: Waiting, seconds: float) -> None:
        self._waiting = waiting
        self._timer = self._loop.call_later(int(seconds * SECOND), self._expired)

    def left(self) -> float | None:
        """Seconds; None when nothing waits."""
        if self._waiting is None or self._timer is None:
            return None
        return max(0, self._timer.when - self._loop.now()) / SECOND

    def check_none(self) -> None:
        if self._waiting is not None:
            raise ApplyError(
                "another change waits to be confirmed",
                hint="tunnel confirm keeps it, tunnel rollback takes it back",
            )

    def get(self) -> Waiting:
        """What waits; TunnelError when nothing does."""
        if self._waiting is None:
            raise TunnelError("no change waits to be confirmed")
        return self._waiting

    def take(self) -> Waiting:
        """The same; it waits no longer."""
        waiting = self.get()
        self.forget()
        return waiting

    def forget(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting = self._timer = None


def without_plan(state: DeviceState, plan: Plan) -> DeviceState:
    """A state with what the plan did taken back, and later changes left alone.

    A prefix that somebody else got meanwhile returns to the peer that had it.
    """
    inverse = plan.inverse()
    editor = StateEditor(state)
    for action in inverse.actions:
        editor.apply(action)
    result = editor.result()
    restored = {
        action.key: action.after
        for action in inverse.actions
        if action.key is not None and action.after is not None
    }
    taken = prefix_owners(restored)
    peers = {
        key: peer
        if key in restored or not any(p in taken for p in peer.allowed_ips)
        else replace(
            peer, allowed_ips=tuple(p for p in peer.allowed_ips if p not in taken)
        )
        for key, peer in result.peers.items()
    }
    return replace(result, peers=peers)
