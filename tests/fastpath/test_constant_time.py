"""No branch and no address depends on key, plaintext or tag (ctgrind.c says how)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tunnel._fastpath import aead

from .parts import FASTPATH, compile_c

REPORTED = 99

# name of the build: kernel's symbol, its sources, further options; valgrind runs no
# AVX-512
BUILDS = {
    "scalar": ("aead_scalar", ["kernels/scalar.c"], []),
    "scalar-narrow": ("aead_scalar", ["kernels/scalar.c"], ["-DPOLY1305_32"]),
    "avx2": ("aead_avx2", ["kernels/avx2.c"], []),
}
if "avx2" not in aead.kernels():
    del BUILDS["avx2"]


@pytest.fixture(scope="module", params=BUILDS)
def program(
    request: pytest.FixtureRequest,
    require_program: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    require_program("valgrind", "apt install valgrind")
    gcc = require_program("gcc", "apt install gcc")
    kernel, sources, options = BUILDS[request.param]
    return compile_c(
        gcc,
        tmp_path_factory.mktemp("ctgrind") / request.param,
        [
            "-DTUNNEL_CTGRIND",
            f"-DKERNEL={kernel}",
            *options,
            str(Path(__file__).with_name("ctgrind.c")),
            *(str(FASTPATH / source) for source in [*sources, "b2s.c", "noise.c"]),
        ],
    )


def memcheck(program: Path, mode: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    return subprocess.run(
        ["valgrind", f"--error-exitcode={REPORTED}", str(program), mode],
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("mode", ["aead", "blake2s", "noise"])
def test_no_branch_or_address_depends_on_a_secret(program: Path, mode: str) -> None:
    done = memcheck(program, mode)
    assert "ERROR SUMMARY: 0 errors" in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (0, "ran\n")


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        ("branch", "Conditional jump or move depends on uninitialised value"),
        ("index", "Use of uninitialised value"),
        ("output", "Conditional jump or move depends on uninitialised value"),
    ],
)
def test_a_leak_would_be_reported(program: Path, mode: str, complaint: str) -> None:
    done = memcheck(program, mode)
    assert (done.returncode, done.stdout) == (REPORTED, "ran\n")
    assert complaint in done.stderr
