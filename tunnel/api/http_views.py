"""What runs and what would change, in the shapes of `http_models`. No secrets here."""

from __future__ import annotations

from typing import Any

from tunnel.api.http_models import Diff, Diffs, Status, StatusPeer
from tunnel.state.model import DeviceState
from tunnel.state.plan import ActionKind, Plan
from tunnel.state.render import endpoint_text, key_text, plan_json, prefix_text
from tunnel.status import DeviceStatus

__all__ = ["diffs_of", "status_of"]

_NS = 1_000_000_000


def status_of(status: DeviceStatus, wall: int) -> Status:
    """`wall` is Unix ns."""
    peers = [
        StatusPeer(
            public_key=key_text(peer.public_key),
            name=peer.name,
            preshared_key="(set)" if peer.has_preshared_key else "",
            endpoint=endpoint_text(peer.endpoint),
            allowed_ips=[prefix_text(prefix) for prefix in peer.allowed_ips],
            last_handshake=peer.last_handshake // _NS,
            rx_bytes=peer.rx_bytes,
            tx_bytes=peer.tx_bytes,
            persistent_keepalive=peer.keepalive,
            enabled=peer.enabled,
            connected=peer.connected(wall),
        )
        for peer in status.peers
    ]
    return Status(
        interface=status.name,
        up=status.up,
        waiting=status.waiting,
        public_key="" if status.public_key is None else key_text(status.public_key),
        listen_port=status.listen_port,
        fwmark=status.fwmark,
        mtu=status.mtu,
        generation=status.generation,
        current_peers=len(peers),
        peers=peers,
    )


def diffs_of(plan: Plan, observed: DeviceState) -> Diffs:
    """`observed` is what the plan starts from."""
    plain: dict[str, Any] = plan_json(plan)
    kinds = [action.kind for action in plan.actions]
    current = len(observed.peers)
    grown = kinds.count(ActionKind.ADD) - kinds.count(ActionKind.REMOVE)
    return Diffs(
        interface=observed.interface.name,
        generation=plain["generation"],
        current_peers=current,
        target_peers=current + grown,
        total_changes=plain["total_changes"],
        needs_restart=plain["needs_restart"],
        hash=plain["hash"],
        diffs=[_diff(item) for item in plain["diffs"]],
    )


def _diff(item: dict[str, Any]) -> Diff:
    """A peer that comes is described by its new state alone, one that goes by
    nothing; an update says what changes."""
    state = item.get("new_state")
    if state is not None:
        key = "" if state["preshared_key"] == "(none)" else "(set)"
        state = state | {"preshared_key": key}
    told = item["action"] not in {"add", "remove"}
    return Diff(
        action=item["action"],
        public_key=item.get("public_key", ""),
        name=item.get("name", ""),
        changes=item["changes"] if told else [],
        session=item["session"],
        new_state=state,
    )
