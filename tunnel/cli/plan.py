"""`tunnel plan`, `apply`, `confirm`, `rollback`, `reload` and `history`.

They ask the running tunnel through its control socket; what is printed is what it
answered.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunnel.api.client import UapiClient, interfaces
from tunnel.errors import TunnelError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["choose", "register", "show_plan"]

_STDIN_MOST = 16 << 20
_SIGNS = {"add": "+", "remove": "-", "restart": "!"}
_STYLES = {"add": "green", "remove": "red", "restart": "bold red"}

File = Annotated[
    str | None,
    typer.Argument(help="Configuration, - for stdin; without it the tunnel's own file.",
                   metavar="[FILE]"),
]  # fmt: skip
Interface = Annotated[
    str | None, typer.Option("-i", "--interface", help="Which tunnel; else the one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Prune = Annotated[
    bool, typer.Option("--prune/--no-prune", help="Remove peers not in the file.")
]
PlanHash = Annotated[
    str, typer.Option("--plan", metavar="HASH", help="Only if the plan is still this.")
]


def choose(interface: str | None, file: str | None = None) -> str:
    """Which running tunnel is meant: the one named, the file's, or the only one."""
    running = interfaces()
    if interface is not None:
        return interface
    named = _name_in(file) if file not in (None, "-") else ""
    if named in running:
        return named
    if len(running) == 1:
        return running[0]
    if not running:
        raise TunnelError("no tunnel is running", hint="start one with: tunnel up")
    raise TunnelError(
        "several tunnels are running", hint=f"choose with -i: {', '.join(running)}"
    )


def _name_in(file: str | None) -> str:
    """`tunnel.name` of a file; an empty text when it cannot be read."""
    try:
        facts = json.loads(Path(file or "").read_bytes())
        return str(facts["tunnel"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _given(file: str | None) -> dict[str, object]:
    """The part of a request that says which configuration is meant."""
    if file is None:
        return {}
    if file != "-" and Path(file).is_file():
        path = str(Path(file).absolute())
        return {"file": path, "source": path}
    raw = sys.stdin.buffer.read(_STDIN_MOST) if file == "-" else _read(file)
    text = raw.decode(errors="replace")
    return {"text": text, "base": str(Path.cwd()), "source": file}


def _read(file: str) -> bytes:
    try:
        with Path(file).open("rb") as stream:  # a pipe of the shell
            return stream.read(_STDIN_MOST)
    except OSError as error:
        raise TunnelError(f"{file}: {error.strerror}") from error


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if match is None:
        raise TunnelError(f"not a time: {text}", hint="write 60s or 5m")
    return float(match[1]) * {"m": 60, "h": 3600}.get(match[2] or "s", 1)


# --- printing


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    # lines are not broken for a file or a pipe
    return console if console.is_terminal else Console(
        highlight=False, markup=False, width=200
    )  # fmt: skip


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "(none)" if value in ("", None) else str(value)


def show_plan(plan: dict[str, Any]) -> None:
    """The table of a plan, before and after, and what becomes of the sessions."""
    from rich import box
    from rich.table import Table

    console = _console()
    if not plan["diffs"]:
        console.print(f"{plan['interface']}: nothing to change")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "action", "peer", "what", "before", "after", "session"):
        table.add_column(column, overflow="fold")
    for action in plan["diffs"]:
        _add_rows(table, action)
    console.print(table)
    for move in plan["moves"]:
        console.print(
            f"{move['prefix']} moves from {move['from'][:12]}… to {move['to'][:12]}…"
        )
    summary = plan["summary"]
    console.print(
        f"{plan['interface']}: {summary['current_peers']} peers now, "
        f"{summary['target_peers']} then ({summary['added']} added, "
        f"{summary['updated']} changed, {summary['removed']} removed)"
    )
    console.print(f"plan {plan['hash'][:16]}")
    if plan["needs_restart"]:
        console.print("This needs a restart: a running tunnel cannot change it.")


def _add_rows(table: Any, action: dict[str, Any]) -> None:
    kind = action["action"]
    key = action.get("public_key", "")
    peer = action.get("name") or (f"{key[:12]}…" if key else "")
    head = (_SIGNS.get(kind, "~"), kind, peer)
    changes = [] if kind == "remove" else action["changes"]
    session = action["session"]
    for change in changes or [{"field": "", "before": "", "after": ""}]:
        field = change["field"]
        before, after = (_cell(change[side]) for side in ("before", "after"))
        if before == after == "(set)":
            after = "(another one)"
        cells = (field, before, after) if field else ("", "", "")
        table.add_row(*head, *cells, session, style=_STYLES.get(kind))
        head, session = ("", "", ""), ""


def show_done(answer: dict[str, Any]) -> None:
    """The plan that was applied, and how it went."""
    show_plan(answer)
    event = answer["event"]
    if event is None or not event["changes"]:
        return
    line = f"applied in {event['duration_ms']:.1f} ms, generation {event['generation']}"
    if answer["saved"]:
        line += ", saved"
    print(line)
    if answer["pending_confirmation"] is not None:
        left = answer["pending_confirmation"]
        print(f"taken back in {left:.0f} s unless you run: tunnel confirm")


# --- the commands


def plan(
    file: File = None,
    interface: Interface = None,
    prune: Prune = True,
    as_json: AsJson = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="As a unified diff of the configuration.")
    ] = False,
) -> None:
    """Say what applying a configuration would do to the running tunnel.

    Exit code 0: nothing. 2: something. 1: it could not be found out.
    """
    with UapiClient(choose(interface, file)) as client:
        answer = client.control("plan", prune=prune, diff=diff, **_given(file))
    if as_json:
        print(json.dumps(answer, indent=2))
    elif diff:
        print(answer["diff"], end="")
    else:
        show_plan(answer)
    raise typer.Exit(2 if answer["diffs"] else 0)


def apply(
    file: File = None,
    interface: Interface = None,
    prune: Prune = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the plan.")
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Take it back unless confirmed: 60s, 5m."),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Make FILE the tunnel's own file, too.")
    ] = False,
    plan_hash: PlanHash = "",
    as_json: AsJson = False,
) -> None:
    """Make the running tunnel what a configuration says: all of it or nothing."""
    given = _given(file)
    if save and not given:
        raise TunnelError("the tunnel's own file is saved already", hint="give a FILE")
    with UapiClient(choose(interface, file)) as client:
        if dry_run:
            answer = client.control("plan", prune=prune, **given)
        else:
            seconds = None if confirm is None else _seconds(confirm)
            answer = client.control(
                "apply",
                prune=prune, confirm=seconds, save=save, expect=plan_hash, **given,
            )  # fmt: skip
    if as_json:
        print(json.dumps(answer, indent=2))
    elif dry_run:
        show_plan(answer)
    else:
        show_done(answer)
    if dry_run and answer["needs_restart"]:
        raise typer.Exit(4)


def confirm(interface: Interface = None) -> None:
    """Keep the change that was applied with --confirm."""
    with UapiClient(choose(interface)) as client:
        client.control("confirm")
    print("confirmed")


def rollback(interface: Interface = None) -> None:
    """Take the change that was applied with --confirm back now."""
    with UapiClient(choose(interface)) as client:
        _show_event(client.control("rollback"))


def reload(interface: Interface = None) -> None:
    """Make the running tunnel read its file again, as SIGHUP does."""
    with UapiClient(choose(interface)) as client:
        _show_event(client.control("reload"))


def history(interface: Interface = None, as_json: AsJson = False) -> None:
    """Show the last changes of the running tunnel and how they went."""
    with UapiClient(choose(interface)) as client:
        answer = client.control("history")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    for event in answer["events"]:
        _show_event(event)
    print(f"{answer['succeeded']} succeeded, {answer['failed']} failed")


def _show_event(event: dict[str, Any]) -> None:
    when = datetime.fromtimestamp(event["timestamp"]).astimezone()
    if event["success"]:
        what = ", ".join(event["changes"]) or "nothing to change"
        counts = [f"{n} {kind}" for kind, n in event["counts"].items() if n]
        what += f" ({', '.join(counts)})" if counts else ""
    else:
        what = f"refused: {event['error']}"
    print(f"{when:%Y-%m-%d %H:%M:%S} {event['source']}: {what}")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    for command in (plan, apply, confirm, rollback, reload, history):
        app.command()(command)
