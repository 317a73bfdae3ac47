"""A process that saves without end is killed at random instants, again and again.

After each kill the file and every backup must be one whole version, and what the dead
process left beside them must go with the next start.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tunnel.config.backups import backups
from tunnel.config.save import clean

__all__ = ["Kills", "kill_saves"]

SIZE = 200_000  # bytes of a version
LONGEST_S = 0.02  # until the kill: some versions later

SAVER = """
import sys
from pathlib import Path
from tunnel.config.save import save
path, size = Path(sys.argv[1]), int(sys.argv[2])
number = int(path.read_text().split()[0])
print("ready", flush=True)
while True:
    number += 1
    save(path, f"{number} " + str(number % 10) * size, keep=3)
"""


@dataclass(slots=True)
class Kills:
    """What was found after so many kills. `in_the_middle` of them hit a save that was
    under way, `torn` are files that were no whole version, `left` files too many."""

    kills: int = 0
    versions: int = 0
    in_the_middle: int = 0
    torn: int = 0
    left: int = 0
    seconds: float = 0.0


def kill_saves(directory: Path, kills: int, seed: int) -> Kills:
    """In a directory with nothing else in it."""
    path, rng, found = directory / "config.json", random.Random(seed), Kills()
    start = time.monotonic()
    path.write_text("0 " + "0" * SIZE)
    for _ in range(kills):
        _kill_one(path, rng.uniform(0, LONGEST_S))
        files = [path, *(backup.path for backup in backups(path))]
        found.torn += sum(not _whole(file.read_text()) for file in files)
        found.in_the_middle += bool(clean(path))
        kept = {path.name, *(backup.name for backup in backups(path))}
        found.left += len({each.name for each in directory.iterdir()} - kept)
        found.kills += 1
    found.versions = int(path.read_text().split()[0])
    found.seconds = time.monotonic() - start
    return found


def _kill_one(path: Path, after: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(path), str(SIZE)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def _whole(text: str) -> bool:
    number, _, rest = text.partition(" ")
    return number.isdigit() and rest == str(int(number) % 10) * SIZE
