"""Reads the other files that hold peers: `include` and `peersFile`.

Such a file is a list of peers, or an object with the single key `peers`, or has one
peer a line (`peer_lines.py`). It includes nothing itself.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunnel.config.documents import Document, read_document
from tunnel.config.peer_lines import as_json, is_lines
from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.schema import Config, Fragment, PeersFile
from tunnel.config.secrets import Surroundings, read_small
from tunnel.config.syntax import MAX_DOCUMENT, decode

__all__ = ["fragment_paths", "read_fragments"]


def read_fragments(
    config: Config,
    found: Found,
    where: Surroundings,
    known: Sequence[Document] = (),
) -> tuple[list[Document], list[Found]]:
    """All other files in the order of the keys, and the problems of each. `known` are
    documents of an earlier reading."""
    before = {document.path: document for document in known}
    documents: list[Document] = []
    problems: list[Found] = []
    _check_directories(config, found, where)
    for at, path, create in _sources(config, where):
        raw = _read(path, at, found, where, create)
        if raw is None:
            continue
        own = Found(label=_label(path, where))
        problems.append(own)
        text = decode(raw, own)
        if text is None:
            continue
        own.text = as_json(text, own) if is_lines(text) else text
        read = read_document(Fragment, own, path, before.get(path))
        if read is not None:
            documents.append(read[1])
    return documents, problems


def fragment_paths(config: Config, base: Path) -> list[Path]:
    """The files with more peers, in the order of the keys; `peersFile` is the last."""
    return [path for _, path, _ in _sources(config, Surroundings(base, {}))]


def _sources(config: Config, where: Surroundings) -> list[tuple[JsonPath, Path, bool]]:
    """Which key names which file, and whether it may be created."""
    sources: list[tuple[JsonPath, Path, bool]] = []
    for at, pattern in _patterns(config):
        sources += [(at, path, False) for path in _matches(pattern, where)]
    if isinstance(config.peers_file, PeersFile):
        path = where.base / config.peers_file.file
        sources.append((("peersFile", "file"), path, config.peers_file.create))
    elif config.peers_file is not None:
        sources.append((("peersFile",), where.base / config.peers_file, False))
    return sources


def _patterns(config: Config) -> Iterator[tuple[JsonPath, str]]:
    if isinstance(config.include, str):
        yield ("include",), config.include
        return
    for index, pattern in enumerate(config.include):
        yield ("include", index), pattern


def _check_directories(config: Config, found: Found, where: Surroundings) -> None:
    """A pattern matches nothing in a directory that we may not read, which would take
    all of its peers away: that is a problem, one that is not there is none."""
    for at, pattern in _patterns(config):
        if not glob.has_magic(pattern) or "\0" in pattern:
            continue
        directory = Path(pattern).parent
        while glob.has_magic(str(directory)):
            directory = directory.parent
        try:
            os.scandir(where.base / directory).close()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reason = error.strerror or str(error)
            hint = "make it readable, or mend the pattern"
            found.add(at, f"cannot look into the directory: {reason}", hint)


def _matches(pattern: str, where: Surroundings) -> list[Path]:
    """The files of a pattern, sorted; a plain path stands for itself."""
    if not glob.has_magic(pattern) or "\0" in pattern:
        return [where.base / pattern]
    # not Path.glob: it takes no absolute pattern
    found = glob.glob(pattern, root_dir=where.base)  # noqa: PTH207
    where.files.update(dict.fromkeys(_directories(Path(pattern), where.base)))
    return [where.base / name for name in sorted(found)]


def _directories(pattern: Path, base: Path) -> Iterator[Path]:
    """Those in which a new entry may belong to a pattern, at any of its parts."""
    parent = pattern.parent
    if not glob.has_magic(str(parent)):
        yield base / parent
        return
    yield from _directories(parent, base)
    found = sorted(glob.glob(str(parent), root_dir=base))  # noqa: PTH207
    for name in found:
        with contextlib.suppress(PermissionError):  # nothing in it is ours to read
            if (base / name).is_dir():
                yield base / name


def _read(
    path: Path, at: JsonPath, found: Found, where: Surroundings, create: bool
) -> bytes | None:
    try:
        where.files[path] = None
        if path in where.overlay:
            return where.overlay[path]
        return read_small(path, MAX_DOCUMENT)
    except FileNotFoundError:
        if create:
            where.pending[path] = "[]"
            return b"[]"
        hint = "create it with the content [] for no peers"
        found.add(at, "there is no such file", hint)
    except OSError as error:
        found.add(at, f"cannot read the file: {error.strerror or error}")
    except ValueError:
        found.add(at, "not a path", 'write "peers.json"')
    return None


def _label(path: Path, where: Surroundings) -> str:
    """How a file is called in errors: from the configuration's directory."""
    if path.is_relative_to(where.base):
        path = path.relative_to(where.base)
    return str(path).encode("ascii", "backslashreplace").decode()
