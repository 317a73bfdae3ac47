"""A pair of tunnels whose control sockets and files are in the test's directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import End, make_pair


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[End, End]]:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    one, two = make_pair(tmp_path)
    with one, two:
        yield one, two


@pytest.fixture
def one(pair: tuple[End, End]) -> End:
    return pair[0]
