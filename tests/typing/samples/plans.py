"""A program that plans a change, shows it and applies it."""

from __future__ import annotations

from tunnel.errors import NeedsRestart, TunnelError
from tunnel.state.apply import Target, apply
from tunnel.state.model import DeviceState, PeerState, Prefix, Secret
from tunnel.state.plan import Plan, diff
from tunnel.state.targets import RecordingTarget

NETWORK: Prefix = (bytes([10, 0, 0, 2]), 32)


def desired(key: bytes, psk: bytes) -> DeviceState:
    peer = PeerState(key, "laptop", Secret(psk), None, (NETWORK,), keepalive=25)
    return DeviceState(peers={key: peer})


def change(target: Target, wanted: DeviceState) -> int:
    plan: Plan = diff(target.observe(), wanted, generation=target.generation)
    text: str = plan.text()
    print(text if not plan.empty else "nothing to do")
    try:
        return apply(plan, target)
    except NeedsRestart as error:
        code: int = error.exit_code
        return code
    except TunnelError as error:
        hint: str = error.hint
        raise SystemExit(hint) from error


change(RecordingTarget(DeviceState()), desired(bytes(32), bytes(32)))
