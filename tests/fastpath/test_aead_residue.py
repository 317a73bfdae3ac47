"""No secret is left on the stack or in vector registers (residue.c says how).

The kernels are compiled for this as for a release: without optimisation their frames
are larger than what they wipe.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .parts import FASTPATH, compile_c


@pytest.fixture(scope="module")
def program(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    gcc = require_program("gcc", "apt install gcc")
    sources = [Path(__file__).with_name("residue.c"), *FASTPATH.glob("kernels/*.c")]
    return compile_c(
        gcc,
        tmp_path_factory.mktemp("residue") / "residue",
        ["-D_GNU_SOURCE", "-pthread", *map(str, sources)],
    )


def residue(program: Path, what: str, seed: int) -> list[str]:
    """Batches that left something behind."""
    done = subprocess.run(
        [program, what, str(seed)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
    )
    assert done.returncode == 0
    *found, last = done.stdout.splitlines()
    assert last == "ran"
    return found


def test_no_secret_is_left(program: Path, kernel_name: str, seed: int) -> None:
    assert residue(program, kernel_name, seed) == []


def test_a_call_that_forgets_is_noticed(program: Path, seed: int) -> None:
    assert len(residue(program, "forget", seed)) == 2 * 6 * 10
