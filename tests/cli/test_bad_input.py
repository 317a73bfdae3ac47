"""What people hand over by mistake: an answer in a line, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tunnel.api.client import interfaces
from tunnel.cli import plan
from tunnel.cli.main import app
from tunnel.config.backups import backups
from tunnel.config.identity import encode_key, generate_private_key
from tunnel.errors import TunnelError

from .rig import Up

LONG = "a" * 300
TOO_LONG = os.strerror(errno.ENAMETOOLONG)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    return tmp_path


def refused(*words: str) -> str:
    """Why the command is refused, for the person at the terminal."""
    result: Result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, TunnelError), result.exception
    return str(result.exception)


def shell(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command with streams as a shell makes them."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- streams


@pytest.mark.parametrize("words", ["check -", "pubkey", "apply -", "merge -"])
def test_a_closed_standard_input_is_an_empty_one(words: str, directory: Path) -> None:
    closed = shell("<&-", "-m", "tunnel", *words.split())
    empty = shell("</dev/null", "-m", "tunnel", *words.split())
    assert closed.returncode == empty.returncode
    assert closed.stderr == empty.stderr
    assert "Traceback" not in closed.stderr


def test_no_file_takes_the_place_of_a_stream_that_was_closed(directory: Path) -> None:
    code = (
        "import os, sys; from tunnel.cli.streams import open_streams; open_streams();"
        "opened = os.open('/', os.O_RDONLY); print(opened, file=open('fd', 'w'));"
        "print('out'); print('err', file=sys.stderr)"
    )
    done = shell("<&- >&- 2>&-", "-c", code)
    assert done.returncode == 0
    assert int((directory / "fd").read_text()) > 2


def test_output_that_nobody_can_store_is_a_failure() -> None:
    done = shell(">/dev/full", "-m", "tunnel", "genkey")
    assert done.returncode == 1
    assert done.stderr == f"tunnel: cannot write the output: {os.strerror(28)}\n"
    reader, writer = os.pipe()
    os.close(reader)  # as of a `head` that has ended
    gone = subprocess.run(
        [sys.executable, "-m", "tunnel", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (1, "")


# --- files and names of files


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["backups", "-c", LONG], TOO_LONG),
        (["restore", "-c", LONG], TOO_LONG),
        (["merge", "p.json", "--into", LONG, "--dry-run"], TOO_LONG),
        (["merge", LONG], TOO_LONG),
        (["check", LONG], TOO_LONG),
        (["demo", LONG], TOO_LONG),
        (["demo", "missing"], "No such file"),
        (["backups", "-c", "loop"], "symbolic links"),
        (["restore", "-c", "loop"], "symbolic links"),
        (["merge", "p.json", "--into", "loop"], "symbolic links"),
        (["restore", "-c", "p.json/x"], "Not a directory"),
    ],
)
def test_a_file_that_cannot_be_is_named_with_the_reason(
    words: list[str], reason: str
) -> None:
    Path("p.json").write_text("[]")
    Path("loop").symlink_to("loop")
    told = refused(*words)
    assert reason in told
    assert any(word in told for word in words[1:])


def test_plans_of_what_is_no_configuration(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNEL_RUN_DIR", up.environment["TUNNEL_RUN_DIR"])
    for command in ("plan", "apply"):
        assert TOO_LONG in refused(command, LONG)
        assert "Is a directory\n  give the path" in refused(command, ".")
        raw = json.dumps(up.facts).encode().replace(b"far", b"f\xe4r")
        done = CliRunner().invoke(app, [command, "-"], input=raw)
        assert "is not UTF-8" in str(done.exception)
        assert "line 1" in str(done.exception)
        with monkeypatch.context() as patch:
            patch.setattr(plan, "_STDIN_MOST", len(raw) - 1)
            done = CliRunner().invoke(app, [command, "-"], input=raw)
        assert "larger than 16 MiB" in str(done.exception)
    digits = ["peer", "set", "far", "--keepalive", "9" * 5000]
    assert "persistentKeepalive: " in refused(*digits)
    key = encode_key(os.urandom(32))
    add = ["peer", "add", "new", "--public-key", key]
    assert "/dev/zero: too long" in refused(*add, "--preshared-key", "/dev/zero")
    nobody = refused(*add, "--endpoint", "nobody.invalid:5")
    assert "new#endpoint: cannot resolve nobody.invalid" in nobody
    add[2] = "a\nb"
    assert r"  a\nb#endpoint: " in refused(*add, "--endpoint", "nowhere")


def test_a_run_directory_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNNEL_RUN_DIR", "/dev/null")
    for words in (["status"], ["plan"], ["peer", "list"]):
        told = refused(*words)
        assert "/dev/null: Not a directory" in told
        assert "TUNNEL_RUN_DIR" in told
    with pytest.raises(TunnelError):
        interfaces()


def test_a_name_that_only_looks_like_a_backup(directory: Path) -> None:
    Path("config.json.20250131T120000.000000Z.backup").write_text("{}")
    Path("config.json.99999999T999999.999999Z.backup").write_text("{}")
    assert len(backups(Path("config.json"))) == 1


def test_a_directory_of_somebody_else_matches_no_include(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "theirs").mkdir()
    original = Path.is_dir

    def is_dir(path: Path, **more: bool) -> bool:
        if path.name == "theirs":
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, **more)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    facts = {
        "mode": "server",
        "privateKey": encode_key(generate_private_key()),
        "include": ["*/*.json"],
    }
    Path("config.json").write_text(json.dumps(facts))
    Path("config.json").chmod(0o600)
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0, done.exception


def test_a_directory_of_peers_that_nobody_may_read_is_not_an_empty_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "peers.d").mkdir()
    facts = {
        "mode": "server",
        "privateKey": encode_key(generate_private_key()),
        "include": ["missing/*.json", "peers.d/*/[ab].json"],
    }
    Path("config.json").write_text(json.dumps(facts))
    original = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("peers.d"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    told = refused("check")
    assert "1 problem\n" in told
    assert "include[1]: cannot look into the directory: Permission denied" in told


def test_a_demonstration_says_what_it_needs() -> None:
    facts = {
        "mode": "server",
        "psk": "quiet harbour 51 lanterns",
        "peers": [{"name": "laptop", "allowedIPs": ["10.0.0.2/32"]}],
    }
    Path("config.json").write_text(json.dumps(facts))
    assert "needs one tunnel.address" in refused("demo", "--in-process")
