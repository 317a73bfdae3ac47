"""How plans, changes and the history look on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tunnel.cli.screen import Row, show_table

__all__ = ["show_done", "show_event", "show_plan", "show_warnings"]

_SIGNS = {"add": "+", "remove": "-", "restart": "!"}
_STYLES = {"add": "green", "remove": "red", "restart": "bold red"}


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "(none)" if value in ("", None) else str(value)


def show_plan(plan: dict[str, Any]) -> None:
    """The table of a plan, before and after, and what becomes of the sessions."""
    show_warnings(plan)
    if not plan["diffs"]:
        print(f"{plan['interface']}: nothing to change")
        return
    columns = ("", "action", "peer", "what", "before", "after", "session")
    show_table(columns, [row for action in plan["diffs"] for row in _rows(action)])
    names = {action.get("public_key"): _who(action) for action in plan["diffs"]}
    for move in plan["moves"]:
        old, new = (names.get(move[end], move[end]) for end in ("from", "to"))
        print(f"{move['prefix']} moves from {old} to {new}")
    summary = plan["summary"]
    print(
        f"{plan['interface']}: {summary['current_peers']} peers now, "
        f"{summary['target_peers']} then ({summary['added']} added, "
        f"{summary['updated']} changed, {summary['removed']} removed)"
    )
    print(f"plan {plan['hash'][:16]}")
    if plan["needs_restart"]:
        print("This needs a restart: a running tunnel cannot change it.")


def show_warnings(plan: dict[str, Any]) -> None:
    """On standard error; older versions have none."""
    for warning in plan.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)


def _who(action: dict[str, Any]) -> str:
    """The peer's name, else how its key begins; empty for what is no peer."""
    key: str = action.get("public_key", "")
    return action.get("name") or (f"{key[:12]}…" if key else "")


def _rows(action: dict[str, Any]) -> Iterator[Row]:
    kind = action["action"]
    head = (_SIGNS.get(kind, "~"), kind, _who(action))
    changes = [] if kind == "remove" else action["changes"]
    session = action["session"]
    for change in changes or [{"field": "", "before": "", "after": ""}]:
        field = change["field"]
        before, after = (_cell(change[side]) for side in ("before", "after"))
        if before == after == "(set)":
            after = "(another one)"
        cells = (field, before, after) if field else ("", "", "")
        yield (*head, *cells, session), _STYLES.get(kind)
        head, session = ("", "", ""), ""


def show_done(answer: dict[str, Any]) -> None:
    """The plan that was applied, and how it went; first what is urgent, and again
    where it is seen after a long table."""
    left = answer["pending_confirmation"]
    if left is not None:
        notice = f"taken back in {left:.0f} s unless you run: tunnel confirm"
        print(notice, flush=True)
    show_plan(answer)
    event = answer["event"]
    if event is not None and event["changes"]:
        line = f"applied in {event['duration_ms']:.1f} ms, "
        line += f"generation {event['generation']}"
        print(f"{line}, saved" if answer["saved"] else line)
    elif answer["saved"]:
        print(f"saved in {answer['file']}")
    if left is not None:
        print("not confirmed yet; keep it with: tunnel confirm")


def show_event(event: dict[str, Any]) -> None:
    when = datetime.fromtimestamp(event["timestamp"]).astimezone()
    if event["success"]:
        what = ", ".join(event["changes"]) or "nothing to change"
        counts = [f"{n} {kind}" for kind, n in event["counts"].items() if n]
        what += f" ({', '.join(counts)})" if counts else ""
    else:
        what = f"refused: {event['error']}"
    print(f"{when:%Y-%m-%d %H:%M:%S} {event['source']}: {what}")
