"""`tunnel merge`: a partial set of peers into a file or a running tunnel."""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunnel.errors import ApplyError, TunnelError
from tunnel.fleet.files import FileText, open_file
from tunnel.fleet.partial import PartialSet, read_partial, read_text
from tunnel.fleet.standins import StandIns
from tunnel.state.merge import PartialPeer, Presence, merge, presence, who
from tunnel.state.model import DeviceState
from tunnel.state.plan import ActionKind, Plan, diff

__all__ = ["Options", "command", "inventory_of", "run"]


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
class _Result:
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
        result, names = _Result(*shown), StandIns()
    else:
        result, names = _merge_file(partial, Path(target or "config.json"), options)
    if options.as_json:
        print(json.dumps(_as_json(result, names), indent=2))
    else:
        _show(result, names, options)


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


def _merge_file(partial: str, path: Path, options: Options) -> tuple[_Result, StandIns]:
    names = StandIns()
    status = "UPDATE" if path.exists() else "NEW"
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
    result = _Result(
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
        where = error.filename or texts[0].path
        raise TunnelError(f"cannot write {where}: {error.strerror}") from error
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
        with os.fdopen(fd, "w") as file:
            file.write(text.new if options.show_secrets else text.new_shown)
        made.append(name)
    return made


# --- showing


def _change(result: _Result) -> str:
    count = len(result.after.peers) - len(result.before.peers)
    kinds = [action.kind.value for action in result.plan.actions]
    if result.told is not None:
        kinds = [action["action"] for action in result.told["diffs"]]
    changed = kinds.count(ActionKind.UPDATE.value)
    text = f"{count:+d} peer(s)" if count else "+0 peer(s)"
    return f"{text}, {changed} updated" if changed else text


def _summary(result: _Result, options: Options) -> list[str]:
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


def _show(result: _Result, names: StandIns, options: Options) -> None:
    if options.dry_run:
        for text in result.texts:
            print(_diff(text, options), end="\n\n")
    told = result.told
    print(names.restore(result.plan.text() if told is None else str(told["text"])))
    print("\n".join(_summary(result, options)))


def _as_json(result: _Result, names: StandIns) -> dict[str, Any]:
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
