"""`tunnel merge`: a partial set of peers into a file or a running tunnel."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunnel.cli.merge_show import Options, Result, as_json, show
from tunnel.errors import ApplyError, TunnelError
from tunnel.fleet.files import open_file
from tunnel.fleet.partial import PartialSet, read_partial, read_text, text_in
from tunnel.fleet.standins import StandIns
from tunnel.fleet.texts import FileText
from tunnel.state.merge import PartialPeer, Presence, merge, presence
from tunnel.state.model import DeviceState
from tunnel.state.plan import diff

__all__ = ["Options", "command", "inventory_of", "run"]


def inventory_of(words: Sequence[str]) -> tuple[str, ...] | None:
    """The names in `a,b`, repeated or `@FILE` with one a line; None for no words."""
    names: list[str] = []
    for word in words:
        if word.startswith("@"):
            lines = read_text(word[1:]).splitlines()
            names += [line.partition("#")[0] for line in lines]
        else:
            names += word.split(",")
    stripped = dict.fromkeys(name.strip() for name in names)
    return tuple(name for name in stripped if name) if words else None


def command(
    partial: str,
    interface: str | None,
    into: str | None,
    running: bool,
    words: Sequence[str],
    options: Options,
    as_json: bool,
) -> None:
    """The command line, checked; see `run`."""
    if running and into is not None:
        raise TunnelError("--into and --running exclude each other")
    if interface is not None and not running:
        raise TunnelError(
            f"what is {interface!r}?", hint="a file is --into FILE, a tunnel --running"
        )
    options = replace(options, inventory=inventory_of(words), as_json=as_json)
    run(partial, into, (interface or "") if running else None, options)


def run(
    partial: str, target: str | None, running: str | None, options: Options
) -> None:
    """Merges into the file `target`, or into the tunnel `running` ("" for the only
    one). Raises TunnelError with nothing changed."""
    if running is not None:
        from tunnel.cli.merge_running import merge_running

        shown = merge_running(partial, running, options)
        result, names = Result(*shown), StandIns()
    else:
        result, names = _merge_file(partial, Path(target or "config.json"), options)
    if options.as_json:
        print(json.dumps(as_json(result, names), indent=2))
    else:
        show(result, names, options)


def decide(
    base: DeviceState,
    parts: tuple[PartialPeer, ...],
    own_key: bytes | None,
    options: Options,
) -> tuple[DeviceState, Presence]:
    """The merged state and who is in it; refuses what would lose everything."""
    if options.prune and not (
        parts if options.inventory is None else options.inventory
    ):
        raise TunnelError(
            "the inventory is empty: pruning would remove every peer",
            hint="give --inventory, or a set with the peers that stay",
        )
    merged = merge(
        base, parts, prune=options.prune, inventory=options.inventory, own_key=own_key
    )
    found = presence(merged.peers.values(), expected(parts, options))
    require(found)
    return merged, found


def expected(parts: tuple[PartialPeer, ...], options: Options) -> tuple[str, ...]:
    """Who must be there afterwards: the inventory, or else the merged peers."""
    if options.inventory is not None:
        return options.inventory
    from tunnel.state.render import key_text

    return tuple(p.state.name or key_text(p.state.public_key) for p in parts)


def require(found: Presence) -> None:
    if found.missing:
        raise ApplyError(
            f"missing: {', '.join(found.missing)}",
            hint="add them to the partial set, or take them out of the inventory",
        )


def _merge_file(partial: str, path: Path, options: Options) -> tuple[Result, StandIns]:
    names = StandIns()
    status = "NEW" if text_in(path) is None else "UPDATE"
    with ExitStack() as stack:
        saving = None
        if not options.dry_run:
            saving = _saving(path)
            stack.callback(saving.discard)
        file = open_file(path, names, create=not options.dry_run)
        given = read_partial(partial, names.endpoint)
        parts = file.complete(given)
        merged, found = decide(file.state, parts, file.own_key, options)
        plan = diff(file.state, merged, generation=0)
        texts = file.texts(merged, PartialSet(parts, given.references))
        previews: list[str] = []
        if saving is None:
            previews = _previews(texts, options)
        else:
            _save(saving, texts)
            again = open_file(path, names, create=False)
            found = presence(again.state.peers.values(), expected(parts, options))
            require(found)
    result = Result(
        str(path),
        status,
        file.state,
        merged,
        plan,
        tuple(texts),
        tuple(previews),
        found,
    )
    return result, names


def _saving(path: Path) -> Any:
    from tunnel.config.save import Saving

    try:
        return Saving(path)
    except OSError as error:
        raise TunnelError(f"{path}: {error.strerror}") from error


def _save(saving: Any, texts: list[FileText]) -> None:
    try:
        saving.prepare({text.path: text.new.encode() for text in texts})
        saving.commit()
    except OSError as error:
        where = ", ".join(str(text.path) for text in texts)
        raise TunnelError(
            f"nothing was changed: cannot save {where}: {error.strerror or error}"
        ) from error
    saving.settle()


def _previews(texts: list[FileText], options: Options) -> list[str]:
    """The new texts in files that only we can read and that nobody has prepared."""
    if options.preview and len(texts) > 1:
        raise TunnelError(
            f"{len(texts)} files would change", hint="leave --preview out"
        )
    made = []
    for text in texts:
        if options.preview:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(options.preview, flags, 0o600)
            except OSError as error:
                raise TunnelError(f"{options.preview}: {error.strerror}") from error
            name = options.preview
        else:  # O_EXCL, 0600, a random name
            fd, name = tempfile.mkstemp(".preview", f"{text.path.name}.")
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            file.write(text.new if options.show_secrets else text.new_shown)
        made.append(name)
    return made
