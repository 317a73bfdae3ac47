"""Makes configurations and edits ready to be applied: everything that takes long.

Reading, understanding, resolving names, Argon2, and all of a save but its last step.
Nothing here touches the tunnel; it may run in any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from tunnel.config.desired import desired_state
from tunnel.config.reload import Source
from tunnel.config.save import Saving
from tunnel.config.schema import Config
from tunnel.config.store import parse_config
from tunnel.edited_files import edited_texts
from tunnel.errors import ApplyError, ConfigProblem
from tunnel.own_file import own_path, unsaved
from tunnel.peer_claims import hosts_in, touched_by
from tunnel.peer_edits import PeerEdit, understand_edits
from tunnel.prepared import Confirmation, Prepared, PreparedEdits
from tunnel.state.model import DeviceState, PeerState
from tunnel.turns import EVERYTHING, WHOLE_FILE, check, claim, look_up

__all__ = [
    "prepare_confirmation",
    "prepare_edits",
    "prepare_file",
    "prepare_text",
]

Peers: TypeAlias = Mapping[bytes, PeerState]

_NO_PEERS: Final[Peers] = {}


def prepare_file(
    path: Path | None, config: Config, known: Peers = _NO_PEERS
) -> Prepared:
    """The tunnel's own file as it is now, read as a reload reads it; `config` is what
    was in it before, and `known` are the peers that run under that."""
    files = config.facts.files
    claim(WHOLE_FILE)
    source = Source(
        own_path(path), files, lambda: known, config, lambda: config, look_up
    )
    attempt = source.attempt()
    check()
    return Prepared.of(attempt)


def prepare_text(
    text: bytes,
    source: str,
    base: Path,
    *,
    create: bool = False,
    like: Config | None = None,
    known: Peers = _NO_PEERS,
) -> Prepared:
    """A configuration in a text; see `parse_config`. `known` are the peers that run
    under the configuration `like`. Without `create` it is only looked at."""
    if create:
        claim(EVERYTHING)
    config = parse_config(text, source, base=base, create=create, like=like)
    desired, kept = _desired(config, known, like)
    return Prepared(desired, config, kept=kept)


def _desired(
    config: Config, known: Peers, before: Config | None
) -> tuple[DeviceState, tuple[ConfigProblem, ...]]:
    """The state, and the names without an address whose peers keep what they have."""
    kept: list[ConfigProblem] = []
    desired = desired_state(config, look_up, known, before, kept)
    check()
    return desired, tuple(kept)


def prepare_save(
    text: bytes,
    source: str,
    path: Path,
    *,
    later: bool = False,
    like: Config | None = None,
    known: Peers = _NO_PEERS,
) -> Prepared:
    """A configuration that is to become the content of the file `path`, and so must
    be right there. With `later` it is saved when the change is confirmed."""
    claim(EVERYTHING)
    replaces = Source(path).digest() if later else None
    saving = None if later else Saving(path)
    with _discarded_on_failure(saving, path):
        config = parse_config(text, source, base=path.parent, like=like)
        desired, names = _desired(config, known, like)
        digest = Source(path, config.facts.files).digest({path: text})
        if saving is None:
            return Prepared(
                desired, config, text=text, replaces=replaces, saved=digest, kept=names
            )
        saving.prepare({path: text})
    return Prepared(desired, config, saving, digest=digest, kept=names)


def prepare_confirmation(
    waiting: object,
    text: bytes,
    path: Path,
    replaces: bytes | None,
    *,
    wait: float = 5,
) -> Confirmation:
    """`text` is to become the content of the file `path`, if that still holds what
    `replaces` names (see `Source.digest`). `wait`: how many seconds for another saver.
    """
    try:
        saving = Saving(path, wait=wait)
    except OSError as error:
        raise unsaved(path, error) from error
    with _discarded_on_failure(saving, path):
        if replaces is not None and Source(path).digest() != replaces:
            raise ApplyError(
                f"the file was changed meanwhile: {path}; nothing was saved, "
                f"and the change waits still",
                hint="end the trial with `tunnel rollback`: what the file says now is "
                "applied; then repeat the change",
            )
        saving.prepare({path: text})
    return Confirmation(waiting, saving)


@contextmanager
def _discarded_on_failure(saving: Saving | None, path: Path) -> Iterator[None]:
    """An OSError becomes a TunnelError that names the file."""
    try:
        yield
    except BaseException as error:
        if saving is not None:
            saving.discard()
        if isinstance(error, OSError):
            raise unsaved(path, error) from error
        raise


def prepare_edits(
    edits: Sequence[PeerEdit],
    state: DeviceState,
    config: Config,
    path: Path | None,
    *,
    save: bool = False,
) -> PreparedEdits:
    """Edits of the peers of `state`, the one that is in force under `config`."""
    base = path.parent if path else Path.cwd()
    claim(touched_by(edits, state.peers), hosts_in(edits))
    if not save:
        return PreparedEdits(tuple(understand_edits(edits, state, config, base)))
    path = own_path(path)
    saving = Saving(path)
    with _discarded_on_failure(saving, path):
        replaces = Source(path, config.facts.files).digest()
        raw = path.read_bytes()
        config = parse_config(raw, str(path), base=base, like=config)
        understood = understand_edits(edits, state, config, base)
        texts = edited_texts(understood, path, config, raw)
        main = texts.get(path, raw)
        config = parse_config(main, str(path), base=base, overlay=texts, like=config)
        digest = Source(path, config.facts.files).digest(texts)
        saving.prepare(texts)
    return PreparedEdits(tuple(understood), config, saving, digest, replaces)
