"""A change on trial: it is taken back by itself unless somebody confirms it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tunnel.changes import Changes
from tunnel.config.schema import Config
from tunnel.constants import SECOND
from tunnel.engine import Engine
from tunnel.errors import ApplyError, TunnelError
from tunnel.loop import Timer
from tunnel.own_file import OwnFile
from tunnel.prepare import Confirmation, own_path, prepare_confirmation
from tunnel.reloads import ReloadEvent
from tunnel.state.model import DeviceState, prefix_owners
from tunnel.state.plan import Plan, diff
from tunnel.state.targets import StateEditor

__all__ = ["Trial", "Waiting", "take_back"]

log = logging.getLogger("tunnel.manager")


@dataclass(frozen=True, slots=True)
class Waiting:
    """`plan` was applied, `config` was in force before it, `text` is to be saved when
    it is confirmed, if the file still holds what `replaces` names."""

    plan: Plan
    config: Config
    text: bytes | None
    replaces: bytes | None = None


class Trial:
    """The one change that waits to be confirmed, if any. `read_file` makes the tunnel
    what its file says, some time later. Control thread, but for `prepare`."""

    def __init__(
        self, changes: Changes, file: OwnFile, read_file: Callable[[], None]
    ) -> None:
        self._changes = changes
        self._file = file
        self._read_file = read_file
        self._waiting: Waiting | None = None
        self._config: Config | None = None  # in force when the trial began
        self._timer: Timer | None = None

    def begin(self, waiting: Waiting, seconds: float) -> None:
        """It was applied just now, and has so long."""
        loop = self._changes.engine.loop
        self._waiting, self._config = waiting, self._file.config
        self._timer = loop.call_later(int(seconds * SECOND), self._expired)

    @property
    def left(self) -> float | None:
        """Seconds until the change is taken back; None when nothing waits."""
        if self._waiting is None or self._timer is None:
            return None
        now = self._changes.engine.loop.now()
        return max(0, self._timer.when - now) / SECOND

    def check_none(self) -> None:
        if self._waiting is not None:
            raise ApplyError(
                "another change waits to be confirmed",
                hint="tunnel confirm keeps it, tunnel rollback takes it back",
            )

    def prepare(self, *, wait: float = 5) -> Confirmation:
        """All of a confirmation but its last step; any thread. Raises TunnelError, also
        when the file is another one now; if something waited, it waits still."""
        waiting = self._get()
        if waiting.text is None:
            return Confirmation(waiting)
        path = own_path(self._file.path)
        return prepare_confirmation(
            waiting, waiting.text, path, waiting.replaces, wait=wait
        )

    def confirm(self, prepared: Confirmation | None = None) -> None:
        """Keeps the change, and saves it if that was asked for. Raises TunnelError; if
        something waited, it waits still. Without `prepared` that is done here, and no
        other saver is waited for."""
        prepared = prepared or self.prepare(wait=0)
        try:
            if self._get() is not prepared.waiting:
                raise TunnelError("another change waits by now", hint="confirm it anew")
            if prepared.saving is not None:
                self._file.commit(prepared.saving)
        except TunnelError:
            prepared.discard()
            raise
        self.forget()
        log.info("the change was confirmed")

    def rollback(self, source: str = "rollback") -> ReloadEvent:
        """Takes the change back: what it changed and nothing else. Raises TunnelError;
        in any case nothing waits then. A file that came into force meanwhile stays: it
        is read again, as it may say otherwise than what was before the change."""
        started = time.perf_counter()
        waiting, config = self._get(), self._config
        self.forget()
        try:
            plan = take_back(self._changes.engine, waiting.plan)
        except Exception as error:
            raise self._changes.failed(error, source, started) from error
        event = self._changes.succeeded(plan, source, started)
        if self._file.config is config:
            self._file.config = waiting.config
        else:
            self._read_file()
        return event

    def _expired(self) -> None:
        log.warning("the change was not confirmed in time and is taken back")
        try:
            self.rollback("unconfirmed")
        except TunnelError as error:
            log.error("it could not be taken back: %s", error)

    def _get(self) -> Waiting:
        if self._waiting is None:
            raise TunnelError("no change waits to be confirmed")
        return self._waiting

    def forget(self) -> None:
        """What waits is kept, without a word; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting = self._timer = self._config = None


def take_back(engine: Engine, plan: Plan) -> Plan:
    """Applies the inverse of a plan to what runs now; returns what that was."""
    device = engine.device
    target = _without(device.observe(), plan)
    back = diff(device.observe(), target, generation=device.generation)
    engine.apply(back)
    return back


def _without(state: DeviceState, plan: Plan) -> DeviceState:
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
