"""`tunnel backups` and `tunnel restore`: earlier contents of a configuration file.

They work on files. A tunnel that follows the file takes a restored one over by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tunnel.cli.plan import AsJson
from tunnel.errors import TunnelError

__all__ = ["register"]

ConfigOption = Annotated[
    str, typer.Option("-c", "--config", metavar="FILE", help="Whose backups.")
]


def backups(config: ConfigOption = "config.json", as_json: AsJson = False) -> None:
    """List the backups of a configuration or wg-quick file, newest first."""
    from tunnel.config.backups import backups as find

    try:
        found = find(Path(config))
    except OSError as error:
        raise TunnelError(f"{config}: {error.strerror or error}") from error
    if as_json:
        listed = [
            {"name": b.name, "time": b.when.isoformat(), "bytes": b.size} for b in found
        ]
        print(json.dumps(listed, indent=2))
        return
    for backup in found:
        when = backup.when.astimezone()
        print(f"{backup.name}  {when:%Y-%m-%d %H:%M:%S}  {backup.size} bytes")
    if not found:
        print(f"{config}: no backups")


def restore(
    name: Annotated[
        str, typer.Argument(help="A backup, or how its time starts; else the newest.")
    ] = "",
    config: ConfigOption = "config.json",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the backup.")
    ] = False,
) -> None:
    """Put an earlier content back in place; the present one becomes a backup."""
    from tunnel.config.backups import find_backup
    from tunnel.config.save import save
    from tunnel.fleet.files import check_text
    from tunnel.fleet.partial import read_text

    path = Path(config)
    backup = find_backup(path, name)
    text = read_text(str(backup.path))
    check_text(path, text, backup.name)
    if dry_run:
        print(f"{backup.name}: good")
        return
    try:
        save(path, text)
    except OSError as error:
        raise TunnelError(
            f"nothing was changed: cannot save {path}: {error.strerror or error}"
        ) from error
    print(f"{config} is {backup.name} again")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    for command in (backups, restore):
        app.command()(command)
