"""What `tunnel merge` was asked for, what came of it, and how that is shown."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from typing import Any

from tunnel.fleet.standins import StandIns
from tunnel.fleet.texts import FileText
from tunnel.state.merge import Presence, who
from tunnel.state.model import DeviceState
from tunnel.state.plan import ActionKind, Plan

__all__ = ["Options", "Result", "as_json", "show"]


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. `preview` is where a dry run writes the new text (a file of
    its own in the temporary directory when empty)."""

    prune: bool = False
    dry_run: bool = False
    inventory: tuple[str, ...] | None = None
    preview: str = ""
    show_secrets: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One merge, decided and perhaps made."""

    target: str
    status: str
    before: DeviceState
    after: DeviceState
    plan: Plan
    texts: tuple[FileText, ...] = ()
    previews: tuple[str, ...] = ()
    presence: Presence = field(default_factory=lambda: Presence((), ()))
    told: dict[str, Any] | None = None  # what the tunnel itself says it does


def _change(result: Result) -> str:
    count = len(result.after.peers) - len(result.before.peers)
    kinds = [action.kind.value for action in result.plan.actions]
    if result.told is not None:
        kinds = [action["action"] for action in result.told["diffs"]]
    text = f"{count:+d} peer(s)"
    words = {ActionKind.ADD: "added", ActionKind.REMOVE: "removed"}
    if all(kind.value in kinds for kind in words):  # the sum says neither
        counts = [f"{kinds.count(kind.value)} {word}" for kind, word in words.items()]
        text += f" ({', '.join(counts)})"
    changed = kinds.count(ActionKind.UPDATE.value)
    return f"{text}, {changed} updated" if changed else text


def _summary(result: Result, options: Options) -> list[str]:
    after = "Preview peers" if options.dry_run else "Merged peers"
    rows = [("File" if result.status != "RUNNING" else "Tunnel", result.target)]
    rows += [("Status", result.status)]
    rows += [("Current peers", str(len(result.before.peers)))]
    rows += [(after, str(len(result.after.peers)))]
    rows += [("Change", _change(result))]
    rows += [("Preview file", name) for name in result.previews]
    if result.presence.extra:
        extra = ", ".join(map(who, result.presence.extra))
        rows.append(("Extra peers", f"{extra} (not expected, kept)"))
    return [f"{f'{name}:':15}{value}" for name, value in rows]


def _diff(text: FileText, options: Options) -> str:
    old, new = text.old_shown, text.new_shown
    if options.show_secrets:
        old, new = text.old or "", text.new
    lines = difflib.unified_diff(
        old.splitlines(),
        new.splitlines(),
        f"{text.path} (current)",
        f"{text.path} (preview)",
        lineterm="",
    )
    return "\n".join(lines)


def show(result: Result, names: StandIns, options: Options) -> None:
    if options.dry_run:
        for text in result.texts:
            print(_diff(text, options), end="\n\n")
    told = result.told
    print(names.restore(result.plan.text() if told is None else str(told["text"])))
    print("\n".join(_summary(result, options)))


def as_json(result: Result, names: StandIns) -> dict[str, Any]:
    plan = result.plan.json()
    if result.told is not None:
        plan = {key: result.told[key] for key in plan}
    plan = json.loads(names.restore(json.dumps(plan)))
    return {
        "target": result.target,
        "status": result.status,
        "changed": bool(plan["total_changes"] or result.texts),
        "current_peers": len(result.before.peers),
        "preview_peers": len(result.after.peers),
        "change": _change(result),
        "previews": list(result.previews),
        "extra": [who(peer) for peer in result.presence.extra],
        "plan": plan,
    }
