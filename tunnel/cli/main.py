"""The `tunnel` command. One function a command; the work is in the module it names.

Exit codes: 0 done; 1 refused or failed, with the reason on standard error and nothing
changed; 2 the command line is wrong; 3 a right or a capability of the system is
missing; 4 the change needs a restart.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from tunnel.cli import backups, peers, plan
from tunnel.cli.streams import drop_output, open_streams
from tunnel.errors import TunnelError

__all__ = ["app", "main"]

_EPILOG = (
    "Exit codes: 0 done, 1 refused or failed and nothing changed, 2 wrong command "
    "line, 3 missing right or capability, 4 needs a restart."
)

app = typer.Typer(
    name="tunnel",
    help="A WireGuard tunnel from one config.json, in userspace. `wg` works on it too.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[
    str, typer.Argument(help="Configuration; - reads standard input.", metavar="FILE")
]


def _version(wanted: bool) -> None:
    if wanted:
        from tunnel import __version__

        print(f"tunnel {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version  # its callback has done the work


@app.command()
def up(
    config: ConfigFile = "config.json",
    log_level: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(help="error, warning, info or debug; else as configured."),
    ] = None,
) -> None:
    """Run the tunnel in the foreground until SIGTERM or Ctrl-C.

    Makes the interface with its addresses and routes, answers `wg` and
    `tunnel status`, and takes everything back when it ends.
    """
    from tunnel.cli.up import run

    run(config, log_level=log_level)


@app.command()
def check(config: ConfigFile = "config.json") -> None:
    """Say whether a configuration is right, with every problem in it."""
    from tunnel.cli.exposure import exposed
    from tunnel.config.store import load_config

    loaded = load_config(config, create=False)
    count = len(loaded.facts.peers)
    print(f"{config}: good, {count} peer{'' if count == 1 else 's'}")
    for warning in exposed(Path(config), loaded) if config != "-" else ():
        print(f"warning: {warning}", file=sys.stderr)


@app.command()
def demo(
    config: ConfigFile = "config.json",
    seconds: Annotated[float, typer.Option(min=2, help="How long.")] = 15,
    in_process: Annotated[
        bool, typer.Option(help="Both ends in this process, without root.")
    ] = False,
) -> None:
    """Run a server and a client, send traffic, change peers meanwhile, count losses.

    Exit code 0 only if not one packet was lost.
    """
    from tunnel.cli.demo import run

    run(Path(config), seconds=seconds, in_process=in_process)


@app.command()
def status(
    interface: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="One interface; without it all that run."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As wg-json prints it.")] = False,
) -> None:
    """Show running tunnels: peers, handshakes, traffic."""
    from tunnel.cli.status import status as show

    show(interface, as_json=json)


@app.command()
def merge(
    partial: Annotated[
        str, typer.Argument(help="Peers as JSON or wg-quick file; - is stdin.")
    ],
    interface: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[IFNAME]", help="With --running: which one."),
    ] = None,
    into: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="File to merge into: config.json, wg0.conf."),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Into the running tunnel instead.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove peers not in the inventory.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change.")
    ] = False,
    inventory: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAMES", help="Peers there must be: a,b,c or @FILE."),
    ] = None,
    preview: Annotated[
        str, typer.Option(metavar="FILE", help="Where a dry run writes the new text.")
    ] = "",
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Keys in the preview and diff.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Merge a partial set of peers: new ones added, known updated, others kept."""
    from tunnel.cli.merge import Options, command

    options = Options(prune, dry_run, preview=preview, show_secrets=show_secrets)
    command(partial, interface, into, running, inventory or [], options, json)


@app.command()
def genkey() -> None:
    """Print a new private key."""
    from tunnel.cli.keys import genkey as command

    command()


@app.command()
def pubkey() -> None:
    """Read a private key from standard input, print its public key."""
    from tunnel.cli.keys import pubkey as command

    command()


@app.command()
def genpsk() -> None:
    """Print a new preshared key."""
    from tunnel.cli.keys import genpsk as command

    command()


plan.register(app)
app.add_typer(peers.app, name="peer")
backups.register(app)


def main() -> None:
    """Runs the command: a TunnelError becomes a message and its exit code."""
    open_streams()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except TunnelError as error:
        print(f"tunnel: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        drop_output()
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename:
            raise
        drop_output()
        print(f"tunnel: cannot write the output: {error.strerror}", file=sys.stderr)
        sys.exit(1)
