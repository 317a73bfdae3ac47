"""Takes an applied plan back: what it changed, and nothing that came after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tunnel.device import Device
from tunnel.engine import Engine
from tunnel.errors import NotSaved, TunnelError
from tunnel.state.apply import in_force
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    PeerState,
    Prefix,
    canonical_prefixes,
)
from tunnel.state.plan import Action, ActionKind, Plan
from tunnel.state.targets import StateEditor

__all__ = ["Undo"]


@dataclass(frozen=True, slots=True)
class Undo:
    """The way back from a plan, made before it is applied. `endpoints` says where the
    plan's peers were, by what they had sent last."""

    plan: Plan
    endpoints: Mapping[bytes, Endpoint | None]

    @classmethod
    def of(cls, plan: Plan, device: Device) -> Undo:
        endpoints = {
            action.key: device.live_endpoint(action.key)
            for action in plan.actions
            if action.key is not None and action.before is not None
        }
        return cls(plan, endpoints)

    def take_back(self, engine: Engine) -> Plan:
        """Applies what is left to be undone; returns what that was. A peer is again
        where it was, if it was not heard from elsewhere since."""
        device = engine.device
        back = engine.plan(_without(self.plan, device))
        returning = {
            action.key: self._endpoint(action, device.live_endpoint(action.key))
            for action in back.actions
            if action.key is not None and action.key in self.endpoints
        }
        engine.apply(back)
        for key, endpoint in returning.items():
            device.set_live_endpoint(key, endpoint)
        return back

    def take_back_unsaved(self, engine: Engine, error: TunnelError) -> None:
        """The plan could not be saved, by `error`. NotSaved when it stays in force."""
        try:
            self.take_back(engine)
        except Exception as failure:
            raise NotSaved(
                f"not saved: {error.__cause__ or error.message}; the new configuration "
                f"is running all the same, as it could not be taken back: {failure}",
                hint=error.hint,
            ) from failure

    def _endpoint(self, back: Action, live: Endpoint | None) -> Endpoint | None:
        """Where a peer that `back` changes, and that is at `live` now, is then."""
        now, then = back.before, back.after
        if back.key is None or then is None:
            return None
        put = now.endpoint if now and now.endpoint != then.endpoint else None
        if live in (None, put):
            return self.endpoints[back.key] or then.endpoint
        return live


def _without(plan: Plan, device: Device) -> DeviceState:
    """A state with what the plan did taken back, and later changes left alone.

    A prefix that somebody else got meanwhile returns to the peer that had it.
    """
    state, owners = device.observe(), device.owners
    editor, returned = StateEditor(state), set[Prefix]()
    for action in plan.actions:
        if action.key is None:
            left = replace(action, fields=in_force(action, state))
            editor.apply(left.inverse())
            continue
        now = state.peers.get(action.key)
        then = _restored(action, now)
        editor.apply(Action(ActionKind.UPDATE, action.key, now, then))
        for prefix in then.allowed_ips if then is not None and then.enabled else ():
            if owners.get(prefix, action.key) != action.key:
                returned.add(prefix)
    result = editor.result()
    peers = dict(result.peers)
    for prefix in returned:
        loser = peers.get(owners[prefix])
        if loser is not None:
            rest = tuple(p for p in loser.allowed_ips if p != prefix)
            peers[loser.public_key] = replace(loser, allowed_ips=rest)
    return result.with_peers(peers)


def _restored(action: Action, now: PeerState | None) -> PeerState | None:
    """The action's peer without what the action did. One that went since stays away,
    one that came back since stays as it is."""
    before, after = action.before, action.after
    if before is None or now is after:
        return before
    if now is None or after is None:
        return now
    fields = {
        change.field: change.before
        for change in action.changes
        if getattr(now, change.field) == change.after
    }
    had, has = set(before.allowed_ips), set(after.allowed_ips)
    fields["allowed_ips"] = canonical_prefixes(
        (set(now.allowed_ips) - (has - had)) | (had - has)
    )
    return replace(now, **fields)  # type: ignore[arg-type]
