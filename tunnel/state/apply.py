"""Applying a plan to a target: stage everything, commit once, verify, or go back.

A target is anything that holds a tunnel's configuration. It takes part through two
small Protocols, so that a dry run, a test's recording and the running device are
driven by the same few lines.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Final, Protocol

from tunnel.errors import ApplyError, NeedsRestart, PlanStale, TunnelError
from tunnel.state.model import DeviceState, PeerState
from tunnel.state.plan import Action, ActionKind, Change, Plan, diff

__all__ = ["StagedChange", "Target", "apply", "check", "in_force"]


class StagedChange(Protocol):
    """One plan on its way into a target."""

    def stage(self, action: Action) -> None:
        """Prepares one action; nothing of it may be visible to a packet yet."""

    def commit(self) -> None:
        """Makes all that was staged effective at one instant, or raises having
        changed nothing."""

    def finish(self) -> None:
        """After the commit was verified: let go of what the old state held."""

    def abort(self) -> None:
        """Instead of a commit (or after it raised): let go of what was staged."""


class Target(Protocol):
    """Something a plan can be applied to; used by one thread at a time."""

    @property
    def generation(self) -> int:
        """Grows by one with every commit."""

    def observe(self) -> DeviceState:
        """The configuration that is in force."""

    def begin(self, plan: Plan) -> StagedChange:
        """Starts a change; no other one is under way."""


_RESTARTS: Final = {"kind": "tunnel.type", "name": "tunnel.name", "workers": "workers"}


def check(plan: Plan, target: Target) -> None:
    """Raises `NeedsRestart` or `PlanStale` when the plan cannot be applied."""
    if plan.restart:
        names = [
            _RESTARTS[change.field]
            for action in plan.actions
            if action.restart
            for change in action.changes
        ]
        raise NeedsRestart(
            f"{' and '.join(names)} cannot change while the tunnel runs",
            hint="stop the tunnel and start it with the new configuration",
        )
    if plan.generation != target.generation:
        raise PlanStale(
            f"the plan is for generation {plan.generation}, the tunnel is at "
            f"{target.generation}",
            hint="make a new plan",
        )
    peers = target.observe().peers
    for action in plan.actions:
        before = action.before
        known = before if action.key is None else peers.get(action.key)
        if known is not before and not _same_peer(known, before):
            raise PlanStale(
                f"the plan was made for another state of {action.name or 'a peer'}",
                hint="make a new plan",
            )


def _same_peer(known: PeerState | None, before: PeerState | None) -> bool:
    """Wherever it is: a plan may move a peer that has roamed to its endpoint."""
    if known is None or before is None:
        return known is before
    return known == replace(before, endpoint=known.endpoint)


def apply(plan: Plan, target: Target, *, verify: bool = True) -> int:
    """Applies all of the plan or nothing of it; returns the target's generation.

    An error that is not one of this package's own comes out as `ApplyError` with its
    cause. After a failed verification the inverse plan is applied.
    """
    check(plan, target)
    if plan.empty:
        return target.generation
    change = target.begin(plan)
    try:
        for action in plan.actions:
            change.stage(action)
        change.commit()
    except BaseException as error:
        change.abort()
        if isinstance(error, TunnelError) or not isinstance(error, Exception):
            raise
        raise ApplyError(f"nothing was changed: {error}") from error
    try:
        if verify:
            _verify(plan, target)
    except BaseException:
        with contextlib.suppress(Exception):
            change.finish()
        _undo(plan, target)
        raise
    change.finish()
    return target.generation


def _verify(plan: Plan, target: Target) -> None:
    """Observes the target and compares what the plan was about."""
    observed = target.observe()
    for action in plan.actions:
        if action.key is not None:
            right = observed.peers.get(action.key) == action.after
        else:
            right = in_force(action, observed) == action.fields
        if not right:
            raise ApplyError(
                f"the tunnel did not take over: {action.kind.value} {action.name}"
            )


def in_force(action: Action, observed: DeviceState) -> tuple[Change, ...]:
    """Those of a device's action whose values are still the ones that it brought."""
    holder: object = observed
    if action.kind is ActionKind.NETWORK:
        holder = observed.interface
    elif action.kind is ActionKind.SETTINGS:
        settings = {**dict(observed.settings), "log_level": observed.log_level}
        return tuple(c for c in action.fields if settings.get(c.field) == c.after)
    return tuple(c for c in action.fields if getattr(holder, c.field) == c.after)


def _undo(plan: Plan, target: Target) -> None:
    """Back to what was before the commit, by the same way."""
    inverse = Plan(plan.inverse().actions, target.generation)
    change = target.begin(inverse)
    for action in inverse.actions:
        change.stage(action)
    change.commit()
    change.finish()


def revert(plan: Plan, target: Target) -> int:
    """Applies the inverse of a plan that was the last one applied."""
    return apply(plan.inverse(), target)


def replan(target: Target, desired: DeviceState) -> Plan:
    """What is still missing to `desired`; empty when there is no drift."""
    return diff(target.observe(), desired, generation=target.generation)
