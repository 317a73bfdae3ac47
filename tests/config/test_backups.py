"""Backups when the clock is not what it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunnel.config.backups import backups, find_backup
from tunnel.config.save import save

KEEP = 3


def later(path: Path, when: timedelta) -> Path:
    """A backup that was made when the clock said so much more than now."""
    stamp = (datetime.now(UTC) + when).strftime("%Y%m%dT%H%M%S.%fZ")
    found = path.with_name(f"{path.name}.{stamp}.backup")
    found.write_text(f"of {when}")
    return found


def test_the_newest_content_is_the_newest_backup_after_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.json"
    path.write_text("0")
    for hours in range(1, KEEP + 1):
        later(path, timedelta(hours=hours))
    for n in range(1, 6):
        save(path, str(n), keep=KEEP)
        assert find_backup(path).path.read_text() == str(n - 1)
    assert [b.path.read_text() for b in backups(path)] == ["4", "3", "2"]


def test_a_backup_of_the_last_moment_there_is_stays_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")
    last = path.with_name(f"{path.name}.99991231T235959.999999Z.backup")
    last.write_text("somebody's joke")
    save(path, "new")
    assert path.read_text() == "new"
    assert "old" in {backup.path.read_text() for backup in backups(path)}
