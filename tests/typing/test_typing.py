"""The installed package's types, as a user's type checker sees them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"
CORRECT = sorted(p for p in SAMPLES.glob("*.py") if p.stem != "mistakes")


def mypy(sample: Path, cache: Path) -> str:
    """mypy's complaints; run elsewhere, so that it finds the package as users do."""
    options = ["--strict", "--no-pretty", "--no-error-summary", "--config-file="]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={cache}", str(sample)],
        cwd=cache,
        env=os.environ | {"MYPYPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("sample", CORRECT, ids=lambda path: path.stem)
def test_correct_programs_pass(sample: Path, cache: Path) -> None:
    assert mypy(sample, cache) == ""


def test_mistakes_are_reported(cache: Path) -> None:
    sample = SAMPLES / "mistakes.py"
    wanted = {
        (number, code[1])
        for number, line in enumerate(sample.read_text().splitlines(), 1)
        if (code := re.search(r"# wrong: ([\w-]+)", line))
    }
    found = re.findall(r":(\d+): error: .*\[([\w-]+)\]", mypy(sample, cache))
    assert {(int(number), code) for number, code in found} == wanted
