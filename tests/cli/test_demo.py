"""`tunnel demo`: loses nothing, and leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.process import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """The repository's own; what demos leave in their temporary directory is seen."""
    copy = tmp_path / "config.json"
    copy.write_text((ROOT / "config.json").read_text())
    (tmp_path / "left").mkdir()
    yield copy
    assert not list((tmp_path / "left").iterdir())


def demo(config: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tunnel", "demo", str(config), *options],
        env={**os.environ, "NO_COLOR": "1", "TMPDIR": str(config.parent / "left")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own
    )


def spaces_of(process: subprocess.Popen[str]) -> list[str]:
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    mine = f"tnl-demo-{process.pid}-"
    return [line for line in listed.stdout.splitlines() if line.startswith(mine)]


def processes_in(spaces: list[str]) -> list[str]:
    """Their pids."""
    listed = [subprocess.check_output(["ip", "netns", "pids", s]) for s in spaces]
    return b"".join(listed).decode().split()


@pytest.fixture(params=["in-process", "namespaces"])
def place(request: pytest.FixtureRequest) -> list[str]:
    """Options that choose where the two ends are."""
    if request.param == "in-process":
        return ["--in-process"]
    request.getfixturevalue("require_tun")
    return []


def test_nothing_is_lost(config: Path, place: list[str]) -> None:
    process = demo(config, *place, "--seconds", "3")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    assert "PASS" in output
    assert ("namespaces" in output) == (place == [])


@pytest.mark.usefixtures("require_tun")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("running", [0, 4], ids=["at-its-start", "with-traffic"])
def test_a_signal_ends_it_and_all_that_it_made(
    config: Path, signum: int, running: int
) -> None:
    process = demo(config, "--seconds", "600")

    def begun() -> bool:
        spaces = spaces_of(process)
        return len(spaces) == 2 and len(processes_in(spaces)) >= running

    try:
        wait_until("the namespaces and processes", begun, timeout=30)
        process.send_signal(signum)
        output, errors = process.communicate(timeout=30)
    finally:
        left = spaces_of(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for space in left:
            subprocess.run(["ip", "netns", "del", space], check=True)
    assert process.returncode not in (0, 1, -signum)
    assert "Traceback" not in output + errors
    assert not left


def test_a_configuration_that_is_refused(config: Path, place: list[str]) -> None:
    config.write_text("{}")
    process = demo(config, *place)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "Traceback" not in errors
