"""A file that is no longer where it was is noticed, through inotify(7)."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.held import open_descriptors

from tunnel.io.presence_linux import Presence


def readable(presence: Presence) -> bool:
    return bool(select.select([presence.fileno()], [], [], 20)[0])


def quiet(presence: Presence) -> bool:
    return not select.select([presence.fileno()], [], [], 0)[0]


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    """A socket's file; its inode stays while the socket is open, as a server's does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "it.sock"))
        yield tmp_path / "it.sock"


@pytest.mark.parametrize("how", ["unlink", "move", "replace"])
def test_it_tells_when_the_file_goes(how: str, bound: Path, tmp_path: Path) -> None:
    presence = Presence.watch(bound)
    assert presence is not None
    (tmp_path / "neighbour").write_text("no concern of ours")
    assert quiet(presence)
    if how == "unlink":
        bound.unlink()
    elif how == "move":
        bound.rename(tmp_path / "away")
    else:
        (tmp_path / "neighbour").rename(bound)
    assert readable(presence)
    presence.read()
    assert quiet(presence)
    presence.close()
    presence.close()


def test_what_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    before = open_descriptors()
    assert Presence.watch(tmp_path / "nothing") is None
    assert open_descriptors() == before
