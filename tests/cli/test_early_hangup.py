"""SIGHUP that comes while `tunnel up` starts, as from logrotate at boot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunnel.config.identity import encode_key, generate_private_key

from .rig import Up, eventually

HANGUP_AT_ONCE = """
import os, signal, sys
sys.argv = ["tunnel", "up", sys.argv[1]]
import tunnel.cli.start as start
hold = start.hold_hangups
def held():
    hold()
    os.kill(os.getpid(), signal.SIGHUP)
start.hold_hangups = held
start.main()
"""


@contextmanager
def started(directory: Path, *argv: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"TUNNEL_RUN_DIR": str(directory / "run")}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=subprocess.PIPE, stderr=log, env=environment, text=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def config(directory: Path, key: object) -> Path:
    path = directory / "config.json"
    facts = {
        "mode": "server",
        "listen": 0,
        "privateKey": key,
        "tunnel": {"type": "loopback", "name": f"hup{os.getpid()}"},
    }
    path.write_text(json.dumps(facts))
    return path


def ends(process: subprocess.Popen[str]) -> int:
    process.terminate()
    return process.wait(10)


def test_right_at_the_beginning(tmp_path: Path) -> None:
    path = config(tmp_path, encode_key(generate_private_key()))
    log = tmp_path / "log"
    with started(tmp_path, "-c", HANGUP_AT_ONCE, str(path)) as process:
        eventually(lambda: "sighup: nothing to change" in log.read_text(), 30)
        assert log.read_text().index("is up") < log.read_text().index("sighup")
        assert ends(process) == 0
    assert log.read_text().count("sighup") == 1


@pytest.mark.parametrize("many", [1, 20])
def test_while_it_reads_its_files(tmp_path: Path, many: int) -> None:
    """A name server, or a disk, that takes its time: here a passphrase's derivation."""
    path = config(tmp_path, encode_key(generate_private_key()))
    facts = json.loads(path.read_text())
    peers = [{"name": f"p{n}", "psk": os.urandom(16).hex()} for n in range(8)]
    path.write_text(json.dumps(facts | {"peers": peers}))
    log = tmp_path / "log"
    with started(tmp_path, "-m", "tunnel", "up", str(path)) as process:
        status = Path(f"/proc/{process.pid}/status")
        bit = 1 << (signal.SIGHUP - 1)

        def caught() -> int:
            (line,) = [x for x in status.read_text().splitlines() if "SigCgt" in x]
            return int(line.split()[1], 16) & bit

        eventually(caught)
        assert not (tmp_path / "run").exists()
        for _ in range(many):
            process.send_signal(signal.SIGHUP)
        eventually(lambda: "sighup: nothing to change" in log.read_text(), 30)
        assert ends(process) == 0
    assert log.read_text().count("sighup") == 1


def test_a_start_without_one_reloads_nothing(up: Up) -> None:
    assert up.json("history")["events"] == []


def test_the_handler_is_there_before_the_heavy_imports() -> None:
    code = (
        "import sys, tunnel.cli.start as s\n"
        "print(sorted(m for m in ('typer', 'pydantic', 'rich', 'asyncio', 'logging')"
        " if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_other_commands_end_by_it(tmp_path: Path) -> None:
    """They have nothing to reload, and the terminal may be gone."""
    with started(tmp_path, "-m", "tunnel", "check", "-") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == -signal.SIGHUP
