"""Programs of their own that run with shim.c preloaded: errors and counts on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def build(source: str, gcc: str, directory: Path) -> Path:
    """The shared library of a file in this directory."""
    made = directory / f"{source}.so"
    argv = [gcc, "-shared", "-fPIC", "-O2", "-o", made, HERE / source, "-ldl"]
    subprocess.run(argv, check=True)
    return made


def run_preloaded(shim: Path, program: str, *argv: str, **settings: int) -> Any:
    """The JSON that `program` prints; its argv is the directory of the tests, then
    `argv`; `settings` are the shim's, in lower case."""
    environment = {name.upper(): str(value) for name, value in settings.items()}
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(shim)]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(HERE.parent), *argv],
        env={**os.environ, **environment, "LD_PRELOAD": preload},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
