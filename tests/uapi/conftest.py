"""Namespaces for the tests that run `tunnel-wg`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .daemon import RUN, Namespace


@pytest.fixture
def namespaces(
    require_tun: None, require_program: Callable[..., str], test_prefix: str
) -> Iterator[Callable[[], Namespace]]:
    """Makes network namespaces that are gone after the test."""
    require_program("ip", "apt install iproute2")
    require_program("wg", "apt install wireguard-tools")
    made: list[Namespace] = []

    def make() -> Namespace:
        made.append(Namespace(f"{test_prefix}u{len(made)}"))
        return made[-1]

    yield make
    for namespace in made:
        namespace.close()
    for path in RUN.glob(f"{test_prefix}*.sock"):
        path.unlink()


@pytest.fixture
def namespace(namespaces: Callable[[], Namespace]) -> Namespace:
    return namespaces()
