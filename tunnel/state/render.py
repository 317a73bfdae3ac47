"""Plans in words and as JSON. Secrets come out as `(set)` or `(none)`, never more."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Final

from tunnel.state.model import PeerState, Secret
from tunnel.state.plan import Action, ActionKind, Change, Plan
from tunnel.workers import workers_text

__all__ = ["plan_json", "plan_summary", "plan_text", "value_text"]

_SECRETS = frozenset({"private_key", "preshared_key"})
_SHOWN: Final = 50  # of many values of one field


def address_text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


def prefix_text(prefix: tuple[bytes, int]) -> str:
    return f"{address_text(prefix[0])}/{prefix[1]}"


def endpoint_text(endpoint: tuple[bytes, int, int] | None) -> str:
    """`192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%3]:51820`; empty for None."""
    if endpoint is None:
        return ""
    address, port, scope = endpoint
    text = address_text(address)
    if len(address) == 4:
        return f"{text}:{port}"
    return f"[{text}%{scope}]:{port}" if scope else f"[{text}]:{port}"


def key_text(key: bytes) -> str:
    return b64encode(key).decode()


def _secret_text(value: object) -> str:
    return "(none)" if value is None else "(set)"


def _some(values: Sequence[object], text: Callable[..., str]) -> list[str]:
    """The first of them, because a blocklist may have a million."""
    shown = [text(value) for value in values[:_SHOWN]]
    more = len(values) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


def _access_texts(value: Sequence[tuple[bytes, int]] | None) -> list[str]:
    return _some(value or (), prefix_text)


_FORMATS: dict[str, Callable[..., object]] = {
    "access.allow": _access_texts,
    "access.blocklist": _access_texts,
    "access.deny": _access_texts,
    "management.acl": _access_texts,
    "endpoint": endpoint_text,
    "allowed_ips": lambda value: [prefix_text(prefix) for prefix in value],
    "addresses": lambda value: [prefix_text(prefix) for prefix in value],
    "routes": lambda value: [prefix_text(prefix) for prefix in value],
    "workers": workers_text,
    "dns": lambda value: [address_text(address) for address in value],
}


def _value_json(field: str, value: object) -> object:
    if field in _SECRETS or isinstance(value, Secret):
        return _secret_text(value)
    if field in _FORMATS:
        return _FORMATS[field](value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def value_text(field: str, value: object) -> str:
    """One value of a state as text; `field` says how to read it."""
    plain = _value_json(field, value)
    if isinstance(plain, list):
        return ", ".join(plain) or "(none)"
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    return "(none)" if plain in ("", None) else str(plain)


def _change_json(change: Change) -> dict[str, object]:
    return {
        "field": change.field,
        "before": _value_json(change.field, change.before),
        "after": _value_json(change.field, change.after),
    }


def _peer_json(peer: PeerState) -> dict[str, object]:
    return {
        "name": peer.name,
        "allowed_ips": _value_json("allowed_ips", peer.allowed_ips),
        "preshared_key": _secret_text(peer.preshared_key),
        "persistent_keepalive": peer.keepalive,
        "endpoint": endpoint_text(peer.endpoint),
        "enabled": peer.enabled,
    }


def _action_json(action: Action) -> dict[str, object]:
    spelled: dict[str, object] = {"action": action.kind.value}
    if action.key is not None:
        spelled |= {"name": action.name, "public_key": key_text(action.key)}
    spelled |= {
        "changes": [_change_json(change) for change in action.changes],
        "session": action.session.value,
        "restart": action.restart,
    }
    if action.key is not None:
        after = action.after
        spelled["new_state"] = None if after is None else _peer_json(after)
    return spelled


def plan_json(plan: Plan) -> dict[str, object]:
    """`diffs` has one entry per action: action, public_key, changes, new_state."""
    return {
        "generation": plan.generation,
        "hash": plan.hash,
        "total_changes": len(plan.actions),
        "needs_restart": plan.restart,
        "diffs": [_action_json(action) for action in plan.actions],
        "moves": [
            {
                "prefix": prefix_text(move.prefix),
                "from": key_text(move.source),
                "to": key_text(move.target),
            }
            for move in plan.moves
        ],
    }


_SIGNS = {ActionKind.ADD: "+", ActionKind.REMOVE: "-", ActionKind.RESTART: "!"}


def _changes_text(action: Action) -> str:
    if action.kind is ActionKind.REMOVE:
        return ""
    if action.kind is ActionKind.ADD:
        return "; ".join(
            f"{c.field} {value_text(c.field, c.after)}" for c in action.changes
        )
    return "; ".join(_update_text(change) for change in action.changes)


def _update_text(change: Change) -> str:
    field, before, after = change
    if field in _SECRETS and before is not None and after is not None:
        return f"{field} (changed)"
    if isinstance(before, tuple) and isinstance(after, tuple) and field != "endpoint":
        were, are = set(before), set(after)
        gone = [item for item in before if item not in are]
        new = [item for item in after if item not in were]
        parts = _some(gone, lambda item: f"-{value_text(field, (item,))}")
        parts += _some(new, lambda item: f"+{value_text(field, (item,))}")
        return f"{field} {' '.join(parts)}"
    return f"{field} {value_text(field, before)} -> {value_text(field, after)}"


def _subject(action: Action) -> str:
    if action.key is None:
        return ""
    short = key_text(action.key)[:12] + "…"
    return f"{action.name} ({short})" if action.name else short


def plan_text(plan: Plan) -> str:
    """A table: sign and action, peer, session, changes; then the moved prefixes."""
    if plan.empty:
        return "nothing to change\n"
    rows = [("", "action", "peer", "session", "changes")]
    rows += [
        (
            _SIGNS.get(action.kind, "~"),
            action.kind.value,
            _subject(action),
            action.session.value,
            _changes_text(action),
        )
        for action in plan.actions
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    names = {a.key: _subject(a) for a in plan.actions}
    lines += [
        f"   {prefix_text(m.prefix)} moves from {names[m.source]} to {names[m.target]}"
        for m in plan.moves
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def plan_summary(plan: Plan, before: int) -> dict[str, object]:
    """Counts of peers: `before` of them run now, this many afterwards."""
    kinds = [action.kind for action in plan.actions if action.key is not None]
    added, removed = kinds.count(ActionKind.ADD), kinds.count(ActionKind.REMOVE)
    change = added - removed
    return {
        "status": "UNCHANGED" if plan.empty else "UPDATE" if before else "NEW",
        "current_peers": before,
        "target_peers": before + change,
        "added": added,
        "updated": kinds.count(ActionKind.UPDATE),
        "removed": removed,
        "change": f"{change:+d} peer(s)" if change else "no change in number",
    }
