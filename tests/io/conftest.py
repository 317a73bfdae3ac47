"""Network namespaces for this directory's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .spaces import Space, new_space


@pytest.fixture
def space(
    require_root: None, require_program: Callable[..., str], test_prefix: str
) -> Iterator[Space]:
    require_program("ip", "apt install iproute2")
    with new_space(test_prefix + "i") as made:
        yield made
