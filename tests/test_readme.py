"""What README.md shows works: its program, its configurations, its commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("program", blocks("python"), ids=["first"])
def test_the_program_runs(program: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keepalive 0 -> 25" in done.stdout
    assert "2 packets arrived" in done.stdout


@pytest.mark.parametrize("text", blocks("json"))
def test_the_configurations_are_right(text: str, tmp_path: Path) -> None:
    from tunnel.config.desired import desired_state
    from tunnel.config.store import parse_config

    (tmp_path / "private.key").write_text(b64encode(os.urandom(32)).decode())
    (tmp_path / "private.key").chmod(0o600)
    state = desired_state(parse_config(text, base=tmp_path))
    assert state.private_key is not None
    (peer,) = state.peers.values()
    assert peer.allowed_ips


def test_the_two_ends_with_a_passphrase_know_each_other(tmp_path: Path) -> None:
    from tunnel.config.desired import desired_state
    from tunnel.config.identity import public_key
    from tunnel.config.store import parse_config

    server, laptop = (
        desired_state(parse_config(text, base=tmp_path))
        for text in blocks("json")
        if '"psk"' in text
    )
    for one, other in ((server, laptop), (laptop, server)):
        assert one.private_key is not None
        key = public_key(one.private_key.reveal())
        assert list(other.peers) == [key]


def test_the_commands_exist() -> None:
    from tunnel.cli.main import app

    known = {
        (command.name or getattr(command.callback, "__name__", "")).replace("_", "-")
        for command in app.registered_commands
    } | {group.name for group in app.registered_groups}
    shell = "\n".join(blocks("sh"))
    named = set(re.findall(r"^tunnel ([a-z]+)", shell, re.MULTILINE))
    named |= set(re.findall(r"`tunnel ([a-z]+)", README))
    assert named
    assert named <= known
