"""The ring between two workers, under the sanitizers: against a list, and threads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .parts import FASTPATH, compile_c

SOURCES = [Path(__file__).with_name("ring_driver.c"), FASTPATH / "ring.c"]
BUILDS = {
    "address": "-fsanitize=address,undefined",
    "thread": "-fsanitize=thread",
}


@pytest.fixture(scope="module", params=BUILDS)
def driver(
    request: pytest.FixtureRequest,
    require_program: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., str]:
    """`driver(*arguments)` runs it and returns what it printed."""
    gcc = require_program("gcc", "apt install gcc")
    program = tmp_path_factory.mktemp("ring") / request.param
    flags = ["-O1", BUILDS[request.param], "-fno-sanitize-recover=all", "-pthread"]
    compile_c(gcc, program, [*flags, *map(str, SOURCES)])
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=100,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run


def test_ring_keeps_every_record_in_order(
    driver: Callable[..., str], seed: int
) -> None:
    assert "refused" in driver("twin", seed, 20_000)


def test_ring_between_two_threads(driver: Callable[..., str], seed: int) -> None:
    assert driver("threads", seed, 8_000).startswith("8000 records")
