"""A running tunnel for every test that asks for `up`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import Up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    tunnel = Up(tmp_path)
    yield tunnel
    assert tunnel.stop() == 0
    assert "Traceback" not in tunnel.log.read_text()
