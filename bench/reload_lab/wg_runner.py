"""Runs `wg` commands one after the other at a steady pace: `python wg_runner.py FILE`.

Started inside a namespace, so that `wg` finds the engine's socket without help. FILE
is JSON: `commands` (each an argv), `rate` a second, `seconds`. Prints one JSON object:
how many were run and refused, how long each took, and what the first refusal said.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from shutil import which
from typing import Any


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """The commands over and over, until the time is up."""
    commands: list[list[str]] = settings["commands"]
    program = which("wg") or "wg"
    took: Counter[int] = Counter()
    done = refused = 0
    code: int | None = 0
    start = time.monotonic()
    while time.monotonic() - start < settings["seconds"]:
        wait = start + done / settings["rate"] - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        argv = commands[done % len(commands)]
        began = time.perf_counter_ns()
        code = ended(os.posix_spawn(program, argv, os.environ, file_actions=SILENT))
        took[(time.perf_counter_ns() - began) // 1000] += 1
        done += 1
        refused += code != 0
        if code is None:  # the engine no longer answers: it would go on like this
            break
    seconds = time.monotonic() - start
    return {
        "changes": done,
        "refused": refused,
        "hung": code is None,
        "seconds": seconds,
        "reload_us": dict(sorted(took.items())),
    }


def ended(child: int) -> int | None:
    """Its exit code; None if it had to be killed."""
    watch = select.poll()
    fd = os.pidfd_open(child)
    watch.register(fd, select.POLLIN)
    in_time = bool(watch.poll(PATIENCE_MS))
    os.close(fd)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status) if in_time else None


PATIENCE_MS = 3000
SILENT = [
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    subprocess.run(["wg", "--version"], check=True, stdout=subprocess.DEVNULL)
    print(json.dumps(run(settings)), flush=True)


if __name__ == "__main__":
    main()
