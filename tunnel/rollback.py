"""Takes an applied plan back: what it changed, and nothing that came after it."""

from __future__ import annotations

from dataclasses import replace

from tunnel.engine import Engine
from tunnel.state.model import DeviceState, prefix_owners
from tunnel.state.plan import Plan, diff
from tunnel.state.targets import StateEditor

__all__ = ["take_back"]


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
