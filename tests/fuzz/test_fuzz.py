"""Each fuzz target for a moment; `make fuzz` goes on for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent / "run.py"


@pytest.mark.parametrize("target", ["config", "uapi", "datagram", "tun"])
def test_a_second_of_nonsense(target: str, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, RUN, "--seconds=1", f"--target={target}", f"--seed={seed}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
