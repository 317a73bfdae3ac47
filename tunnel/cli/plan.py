"""`tunnel plan`, `apply`, `confirm`, `rollback`, `reload` and `history`.

They ask the running tunnel through its control socket; what is printed is what it
answered.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunnel.api.client import UapiClient, interfaces
from tunnel.cli.show import show_done, show_event, show_plan, show_warnings
from tunnel.errors import TunnelError

__all__ = ["choose", "register"]

_STDIN_MOST = 16 << 20
_CONFIRM_MOST = 86400  # seconds, as over HTTP

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
    if file != "-" and _is_file(Path(file)):
        path = str(Path(file).absolute())
        return {"file": path, "source": path}
    # what is not UTF-8 is for the tunnel to say, by line
    text = _read(file).decode(errors="surrogateescape")
    return {"text": text, "base": str(Path.cwd()), "source": file}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # opening it says why
        return False


def _read(file: str) -> bytes:
    """Standard input, or a pipe of the shell."""
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(_STDIN_MOST + 1)
        else:
            with Path(file).open("rb") as stream:
                raw = stream.read(_STDIN_MOST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "give the path of a config.json"
        raise TunnelError(f"{file}: {reason}", hint=hint) from error
    if len(raw) > _STDIN_MOST:
        hint = "save it and give its path"
        raise TunnelError(f"{file}: larger than 16 MiB", hint=hint)
    return raw


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if match is None:
        raise TunnelError(f"--confirm: not a time: {text}", hint="write 60s or 5m")
    seconds = float(match[1]) * {"m": 60, "h": 3600}.get(match[2] or "s", 1)
    if not 0 < seconds <= _CONFIRM_MOST:
        raise TunnelError(
            f"--confirm: {text} is no time to confirm in",
            hint="give more than 0 and at most 24h",
        )
    return seconds


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
        show_warnings(answer)
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
        show_event(client.control("rollback"))


def reload(interface: Interface = None) -> None:
    """Make the running tunnel read its file again, as SIGHUP does."""
    with UapiClient(choose(interface)) as client:
        show_event(client.control("reload"))


def history(interface: Interface = None, as_json: AsJson = False) -> None:
    """Show the last changes of the running tunnel and how they went."""
    with UapiClient(choose(interface)) as client:
        answer = client.control("history")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    for event in answer["events"]:
        show_event(event)
    print(f"{answer['succeeded']} succeeded, {answer['failed']} failed")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    for command in (plan, apply, confirm, rollback, reload, history):
        app.command()(command)
