"""Runs a program to its end: without a shell, in a predictable language."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tunnel.netconfig.base import Argv

__all__ = ["Execute", "Feed", "Result", "execute", "execute_briefly"]

TIMEOUT_S: Final = 15.0
BRIEF_S: Final = 2.0  # for what is not worth a longer wait of the control thread


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended; `code` is None when it did not start or did not end. What
    said nothing on standard error is heard on standard output."""

    code: int | None
    stderr: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0


class Execute(Protocol):
    """Runs one program to its end. `execute` is the real one."""

    def __call__(self, argv: Argv) -> Result: ...


# Runs one program with that on its standard input.
Feed = Callable[[Argv, str], Result]


def execute(argv: Argv, text: str = "") -> Result:
    """Runs it with the input `text` and at most TIMEOUT_S seconds; raises nothing."""
    return _execute(argv, text, TIMEOUT_S)


def execute_briefly(argv: Argv) -> Result:
    """The same with at most BRIEF_S seconds."""
    return _execute(argv, "", BRIEF_S)


def _execute(argv: Argv, text: str, seconds: float) -> Result:
    try:
        done = subprocess.run(
            argv,
            input=text.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return Result(None, f"no answer within {seconds:g} s")
    except OSError as error:
        return Result(None, error.strerror or str(error))
    # netsh reports its errors on standard output
    said = done.stderr.strip() or done.stdout.strip()
    return Result(done.returncode, said.decode(errors="replace"))
