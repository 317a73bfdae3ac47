"""The routing table's C code under the sanitizers, against a linear twin in C."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .parts import AIP, compile_c

SOURCES = [Path(__file__).with_name("aip_driver.c"), *AIP]
BUILDS = {
    "address": "-fsanitize=address,undefined",
    "thread": "-fsanitize=thread",
}


@pytest.fixture(scope="module")
def driver(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """`driver(sanitizer, *arguments)` runs it and returns what it printed."""
    gcc = require_program("gcc", "apt install gcc")
    directory = tmp_path_factory.mktemp("aip")
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}

    def build(sanitizer: str) -> Path:
        program = directory / sanitizer
        if not program.exists():
            flags = ["-O1", BUILDS[sanitizer], "-fno-sanitize-recover=all", "-pthread"]
            compile_c(gcc, program, [*flags, *map(str, SOURCES)])
        return program

    def run(sanitizer: str, *arguments: object) -> str:
        done = subprocess.run(
            [build(sanitizer), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=100,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run


def test_random_transactions_match_the_twin(
    driver: Callable[..., str], seed: int
) -> None:
    driver("address", "random", seed, 1000)


def test_every_failing_allocation_changes_and_leaks_nothing(
    driver: Callable[..., str], seed: int
) -> None:
    assert int(driver("address", "memory", seed, 100)) > 100


def test_many_prefixes_in_and_out_again(driver: Callable[..., str]) -> None:
    driver("address", "bulk", 100_000)


@pytest.mark.parametrize("sanitizer", list(BUILDS))
def test_readers_never_touch_freed_nodes(
    driver: Callable[..., str], seed: int, sanitizer: str
) -> None:
    driver(sanitizer, "threads", seed, 500)
