"""Every change of one engine, whatever the door: carried out, timed and recorded."""

from __future__ import annotations

import time

from tunnel.engine import Engine
from tunnel.errors import TunnelError
from tunnel.reloads import ReloadEvent, ReloadHistory
from tunnel.state.plan import Plan

__all__ = ["Changes"]


class Changes:
    """Used in the control thread. The manager of `tunnel up` is one, with a file and
    confirmations; the async API has the thing itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.history = ReloadHistory()

    def apply_plan(self, plan: Plan, *, source: str) -> ReloadEvent:
        """All of it or nothing. Raises TunnelError, also recorded."""
        started = time.perf_counter()
        try:
            self.engine.apply(plan)
        except Exception as error:
            raise self.failed(error, source, started) from error
        return self.succeeded(plan, source, started)

    def succeeded(self, plan: Plan, source: str, started: float) -> ReloadEvent:
        """Records a plan that was applied; `started` is of `time.perf_counter`."""
        generation = self.engine.device.generation
        return self.history.applied(plan, source, started, generation)

    def failed(self, error: Exception, source: str, started: float) -> TunnelError:
        """Records a change that was refused; returns what to raise."""
        generation = self.engine.device.generation
        return self.history.refused(error, source, started, generation)

    def uapi_applied(self, plan: Plan, error: Exception | None) -> None:
        """For the UAPI: a `set` has been applied, or refused with `error`."""
        if error is not None:
            self.failed(error, "uapi", time.perf_counter())
        elif not plan.empty:
            self.succeeded(plan, "uapi", time.perf_counter())
