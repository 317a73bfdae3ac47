"""Saving: after whatever happens in the middle the file is the old one or the new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reload_lab.kills
from reload_lab.kills import kill_saves

from tunnel.config.backups import backups, find_backup
from tunnel.config.save import Saving, clean, save
from tunnel.errors import TunnelError

FAILER = """
import errno, os, sys
from pathlib import Path
from tunnel.config.save import save
path, what, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
module, name = (Path, "rename") if what == "rename" else (os, what)
real, calls = getattr(module, name), 0
def failing(*arguments, **options):
    global calls
    calls += 1
    if calls == at:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(*arguments, **options)
setattr(module, name, failing)
try:
    save(path, "new")
except OSError as error:
    sys.exit(3 if error.errno == errno.ENOSPC else 1)
"""


def several_saves(directory: Path) -> float:
    """Seconds in which there are some, on whatever disk this is."""
    path, text, times = directory / "measured.json", "0 " * 100_000, []
    for number in range(20):
        start = time.perf_counter()
        save(path, f"{number} {text}", keep=3)
        times.append(time.perf_counter() - start)
    for each in directory.iterdir():
        each.unlink()
    return max(reload_lab.kills.LONGEST_S, 4 * sorted(times)[len(times) // 2])


@pytest.mark.slow
@pytest.mark.timeout(600)  # it waits for the disk, and hundreds of times for Python
def test_killed_at_any_moment(
    tmp_path: Path,
    seed: int,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 kills (1000 with --long): never half a file, nothing left behind."""
    kills = 1000 if pytestconfig.getoption("--long") else 200
    monkeypatch.setattr(reload_lab.kills, "LONGEST_S", several_saves(tmp_path))
    found = kill_saves(tmp_path, kills, seed)
    assert (found.kills, found.torn, found.left) == (kills, 0, 0)
    assert found.in_the_middle > 0  # some kills did hit the middle
    assert found.versions > kills // 2


@pytest.mark.parametrize(
    ("what", "at"), [("fsync", 1), ("fsync", 2), ("rename", 1), ("rename", 2),
                     ("fchmod", 1), ("open", 2), ("open", 3)]
)  # fmt: skip
def test_a_disk_that_fails_leaves_the_old_file(
    tmp_path: Path, what: str, at: int
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    done = subprocess.run([sys.executable, "-c", FAILER, str(path), what, str(at)])
    assert done.returncode == 3
    assert path.read_bytes() == b"old"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_file_system(tmp_path: Path, require_root: None) -> None:
    """A real one of 64 KiB, in a mount namespace of its own."""
    script = (
        'mount -t tmpfs -o size=64k none "$1" && cd "$1" && printf old >config.json\n'
        "head -c 50000 /dev/zero >filler\n"
        'exec "$2" -c "$3" config.json'
    )
    code = (
        "import sys\nfrom pathlib import Path\nfrom tunnel.config.save import save\n"
        "path = Path(sys.argv[1])\n"
        "try:\n    save(path, 'x' * 100_000)\n"
        "except OSError as error:\n    print(error.errno)\n"
        "print(path.read_text(), *sorted(p.name for p in Path.cwd().iterdir()))\n"
    )
    arguments = ["--", str(tmp_path), sys.executable, code]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script, *arguments],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["28", "old", "config.json", "filler"], done.stderr


def test_backups_are_kept_and_thinned_out(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for number in range(8):
        save(path, f"version {number}", keep=3)
    save(path, "version 7", keep=3)  # no change, no backup
    found = backups(path)
    assert [b.path.read_text() for b in found] == [f"version {n}" for n in (6, 5, 4)]
    assert all(b.path.stat().st_mode & 0o777 == 0o600 for b in found)
    assert find_backup(path) == found[0]
    stamp = found[1].name.removeprefix("config.json.")[:22]
    assert find_backup(path, stamp) == found[1]
    for name in ("2", "1999"):
        with pytest.raises(TunnelError, match="backup"):
            find_backup(path, name)


def test_a_link_keeps_pointing_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "config.json").write_text("old")
    link = tmp_path / "config.json"
    link.symlink_to("real/config.json")
    save(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "config.json").read_text() == "new"
    assert len(backups(link)) == 1


def test_several_files_are_replaced_together(tmp_path: Path) -> None:
    one, two = tmp_path / "a.json", tmp_path / "b.json"
    one.write_text("old a")
    saving = Saving(one)
    saving.prepare({one: b"new a", two: b"new b"})
    os.mkdir(two)  # noqa: PTH102 - now its rename must fail
    with pytest.raises(OSError, match="directory"):
        saving.commit()
    assert one.read_text() == "old a"
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", "b.json"}


def test_one_saver_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")
    first = Saving(path)
    with pytest.raises(TunnelError, match="being saved"):
        Saving(path, wait=0.05)
    stale = tmp_path / f".config.json.{'0' * 16}.tmp"
    stale.write_text("")
    other = tmp_path / ".other.json.tmp"
    other.write_text(json.dumps({}))
    assert clean(path) == []  # it could be the first one's
    first.discard()
    assert clean(path) == [stale]
    assert other.exists()
