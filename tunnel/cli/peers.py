"""`tunnel peer`: the peers of the running tunnel, one by one.

Secrets come from a file or standard input, never from the command line.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tunnel.api.client import UapiClient
from tunnel.cli.plan import AsJson, Interface, PlanHash, choose
from tunnel.cli.screen import Row, show_table
from tunnel.cli.show import show_done, show_plan
from tunnel.errors import TunnelError

__all__ = ["app"]

_SECRET_MOST = 4096  # characters; a key has 44

app = typer.Typer(
    help="Show and change single peers of the running tunnel.", no_args_is_help=True
)

Who = Annotated[str, typer.Argument(help="Name or public key.", metavar="PEER")]
Save = Annotated[
    bool, typer.Option("--save", help="Write it into the configuration file, too.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")]
Ips = Annotated[
    list[str] | None,
    typer.Option("--allowed-ips", metavar="PREFIX,…", help="Replaces all of them."),
]
Endpoint = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help='"" takes it away.')
]
Keepalive = Annotated[
    str | None, typer.Option(metavar="TIME", help='Seconds or 25s; "off".')
]
KeyFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The secret is in this file, - for stdin."),
]


def _secret(file: str) -> str:
    try:
        if file == "-":
            text = sys.stdin.readline(_SECRET_MOST + 1)
        else:
            with Path(file).open(encoding="utf-8") as stream:  # or a pipe of the shell
                text = stream.read(_SECRET_MOST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise TunnelError(f"{file}: {reason}", hint="give a file, or -") from error
    if len(text) > _SECRET_MOST:
        raise TunnelError(f"{file}: too long for a key", hint="give a file, or -")
    return text.strip()


def _fields(
    allowed_ips: list[str] | None,
    endpoint: str | None,
    keepalive: str | None,
    preshared_key: str | None,
) -> dict[str, Any]:
    """The members of the peer's entry that the command line speaks about."""
    fields: dict[str, Any] = {}
    if allowed_ips is not None:
        parts = [part.strip() for text in allowed_ips for part in text.split(",")]
        fields["allowedIPs"] = [part for part in parts if part]
    if endpoint is not None:
        fields["endpoint"] = endpoint or None
    if keepalive is not None:
        number = re.fullmatch(r"[0-9]{1,20}", keepalive) is not None
        fields["persistentKeepalive"] = int(keepalive) if number else keepalive
    if preshared_key is not None:
        fields["presharedKey"] = _secret(preshared_key)
    return fields


def _edit(
    action: str,
    peer: str,
    fields: dict[str, Any],
    interface: str | None,
    save: bool,
    dry_run: bool,
    as_json: bool,
    expect: str = "",
) -> None:
    edit = {"action": action, "peer": peer, "fields": fields}
    with UapiClient(choose(interface)) as client:
        answer = client.control(
            "edit", edits=[edit], save=save, dry_run=dry_run, expect=expect
        )
    if as_json:
        print(json.dumps(answer, indent=2))
    elif dry_run:
        show_plan(answer)
    else:
        show_done(answer)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A new name.")],
    public_key: Annotated[
        str | None, typer.Option(help="Its public key; else from psk and name.")
    ] = None,
    allowed_ips: Ips = None,
    endpoint: Endpoint = None,
    keepalive: Keepalive = None,
    preshared_key: KeyFile = None,
    psk: KeyFile = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Not yet.")] = False,
    save: Save = False,
    dry_run: DryRun = False,
    interface: Interface = None,
    plan_hash: PlanHash = "",
    as_json: AsJson = False,
) -> None:
    """Add a peer; nobody else is disturbed."""
    fields = _fields(allowed_ips, endpoint, keepalive, preshared_key)
    if public_key is not None:
        fields = {"publicKey": public_key} | fields
    if psk is not None:
        fields["psk"] = _secret(psk)
    if disabled:
        fields["enabled"] = False
    _edit("add", name, fields, interface, save, dry_run, as_json, plan_hash)


@app.command("set")
def set_(
    peer: Who,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    allowed_ips: Ips = None,
    endpoint: Endpoint = None,
    keepalive: Keepalive = None,
    preshared_key: KeyFile = None,
    no_preshared_key: Annotated[
        bool, typer.Option("--no-preshared-key", help="Take the preshared key away.")
    ] = False,
    save: Save = False,
    dry_run: DryRun = False,
    interface: Interface = None,
    plan_hash: PlanHash = "",
    as_json: AsJson = False,
) -> None:
    """Change a peer; its session goes on."""
    fields = _fields(allowed_ips, endpoint, keepalive, preshared_key)
    if name is not None:
        fields["name"] = name
    if no_preshared_key:
        fields["presharedKey"] = None
    if not fields:
        raise TunnelError("nothing to set", hint="see: tunnel peer set --help")
    _edit("set", peer, fields, interface, save, dry_run, as_json, plan_hash)


@app.command()
def remove(
    peer: Who,
    save: Save = False,
    dry_run: DryRun = False,
    interface: Interface = None,
    plan_hash: PlanHash = "",
    as_json: AsJson = False,
) -> None:
    """Remove a peer; only its own session ends."""
    _edit("remove", peer, {}, interface, save, dry_run, as_json, plan_hash)


@app.command()
def enable(
    peer: Who,
    save: Save = False,
    dry_run: DryRun = False,
    interface: Interface = None,
    as_json: AsJson = False,
) -> None:
    """Let a peer take part again."""
    _edit("enable", peer, {}, interface, save, dry_run, as_json)


@app.command()
def disable(
    peer: Who,
    save: Save = False,
    dry_run: DryRun = False,
    interface: Interface = None,
    as_json: AsJson = False,
) -> None:
    """End a peer's session and keep its place in the configuration."""
    _edit("disable", peer, {}, interface, save, dry_run, as_json)


@app.command("list")
def list_(interface: Interface = None, as_json: AsJson = False) -> None:
    """List the peers, those that are disabled too."""
    with UapiClient(choose(interface)) as client:
        peers = client.control("peers")
    if as_json:
        print(json.dumps(peers, indent=2))
        return
    rows: list[Row] = []
    for peer in peers:
        state = "connected" if peer["connected"] else "idle"
        last = peer["latest_handshake"]
        cells = (
            peer["name"] or "-",
            peer["public_key"],
            state if peer["enabled"] else "disabled",
            f"{max(0, time.time() - last):.0f} s ago" if last else "never",
            " ".join(peer["allowed_ips"]) or "-",
        )
        rows.append((cells, None))
    show_table(("name", "public key", "state", "handshake", "allowed IPs"), rows)
