"""Files: restored as what they are, never half saved, and not for everybody to read."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tunnel.cli.main import app
from tunnel.config.backups import backups
from tunnel.config.identity import encode_key, generate_private_key
from tunnel.config.save import save
from tunnel.errors import ConfigError, TunnelError

from .rig import Up, eventually

PEER = {"name": "far", "publicKey": encode_key(os.urandom(32))}
TEXTS = {
    "config.json": json.dumps({"mode": "server", "privateKey": {"file": "key"}}),
    "peers.json": json.dumps([PEER]),
    "more.json": json.dumps({"peers": [PEER]}),
    "empty.json": "[]",
    "wg0.conf": f"# mine\n[Interface]\n[Peer]\nPublicKey = {PEER['publicKey']}\n",
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(encode_key(generate_private_key()))
    (tmp_path / "key").chmod(0o600)
    return tmp_path


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_file_is_restored(name: str) -> None:
    path = Path(name)
    path.write_text(TEXTS[name])
    save(path, "{")
    done = invoke("restore", "-c", name)
    assert done.exit_code == 0, done.exception
    assert path.read_text() == TEXTS[name]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("config.json", "[]x"),
        ("config.json", '{"mode": "server"}'),
        ("peers.json", '[{"name": 5}]'),
        ("wg0.conf", "[Peer]\nPublicKey = no\n"),
    ],
)
def test_a_backup_that_is_wrong_is_refused(name: str, bad: str) -> None:
    path = Path(name)
    path.write_text(bad)
    save(path, TEXTS[name])
    done = invoke("restore", "-c", name)
    assert isinstance(done.exception, ConfigError)
    assert backups(path)[0].name in str(done.exception)
    assert path.read_text() == TEXTS[name]


def test_what_cannot_be_read_or_saved_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("config.json")
    path.write_text(TEXTS["config.json"])
    save(path, "{")
    (backup,) = backups(path)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", ".config.json.xyz.tmp")

    with monkeypatch.context() as patch:
        patch.setattr("tunnel.config.save._Replacement", denied)
        error = invoke("restore").exception
        assert isinstance(error, TunnelError)
        assert "cannot save config.json: Permission denied" in str(error)
        Path("part.json").write_text(TEXTS["peers.json"])
        error = invoke("merge", "part.json", "--into", "new.json").exception
        assert isinstance(error, TunnelError)
        assert "new.json: Permission denied" in str(error)
        assert ".tmp" not in str(error)
    backup.path.unlink()
    backup.path.mkdir()
    error = invoke("restore", backup.name).exception
    assert isinstance(error, TunnelError)
    assert "tunnel backups -c config.json" in error.hint
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("value", "file_mode", "key_mode", "warned"),
    [
        ("inline", 0o644, 0o600, ["config.json"]),
        ("inline", 0o600, 0o600, []),
        ("file", 0o644, 0o600, []),
        ("file", 0o644, 0o644, ["key"]),
        ("file", 0o640, 0o640, []),
        ("peer", 0o644, 0o600, ["config.json"]),
        ("more", 0o600, 0o600, ["peers.json"]),
    ],
)
def test_open_secrets_are_warned_of(
    value: str, file_mode: int, key_mode: int, warned: list[str]
) -> None:
    secret = Path("key").read_text()
    shared = {**PEER, "presharedKey": encode_key(os.urandom(32))}
    facts = {
        "mode": "server",
        "privateKey": secret if value == "inline" else {"file": "key"},
        "access": {"blocklist": "block"},
        "peers": [shared if value == "peer" else PEER] if value != "more" else [],
    }
    Path("block").write_text("203.0.113.0/24\n")
    if value == "more":
        facts["peersFile"] = "peers.json"
        Path("peers.json").write_text(json.dumps([shared]))
        Path("peers.json").chmod(0o644)
    Path("config.json").write_text(json.dumps(facts))
    Path("config.json").chmod(file_mode)
    Path("key").chmod(key_mode)
    done = invoke("check")
    assert done.exit_code == 0
    assert done.stdout == "config.json: good, 1 peer\n"
    lines = done.stderr.splitlines()
    assert [Path(line.split()[1]).name for line in lines] == warned
    assert secret not in done.stderr


def test_peers_are_saved_in_a_file_of_lines_as_lines(up: Up) -> None:
    lines = up.directory / "clients"
    lines.write_text(f"# mine\n{PEER['publicKey']} 10.0.0.2 old\n")
    facts = {k: v for k, v in up.facts.items() if k != "peers"}
    up.config.write_text(json.dumps(facts | {"peersFile": "clients"}))
    eventually(lambda: up.names() == ["old"])
    key = encode_key(os.urandom(32))
    add = ["peer", "add", "new", "--public-key", key, "--allowed-ips"]
    up.run(*add, "10.0.0.3/32,fd00::3/128", "--save")
    up.run("peer", "set", "old", "--name", "older", "--save")
    assert lines.read_text() == (
        f"# mine\n{PEER['publicKey']} 10.0.0.2 older\n"
        f"{key} 10.0.0.3/32,fd00::3/128 new\n"
    )
    refused = up.run("peer", "set", "new", "--keepalive", "5", "--save", code=1).stderr
    assert "cannot say persistentKeepalive" in refused
    assert up.names() == ["older", "new"]
    up.run("peer", "remove", "older", "--save")
    assert lines.read_text() == f"# mine\n{key} 10.0.0.3/32,fd00::3/128 new\n"
    lines.write_text(f"{key} 10.0.0.4 newer\n")
    eventually(lambda: up.names() == ["newer"])


def test_a_log_that_cannot_be_written_is_left_where_it_is(up: Up) -> None:
    before = up.json("history")["succeeded"]
    logging = {"output": str(up.directory / "none" / "log"), "level": "debug"}
    up.config.write_text(json.dumps(up.facts | {"logging": logging}))
    eventually(lambda: up.json("history")["succeeded"] > before)
    assert "the log stays where it is: logging.output" in up.log.read_text()
    logging = {"output": str(up.directory / "log.txt"), "level": "debug"}
    up.config.write_text(json.dumps(up.facts | {"logging": logging}))
    eventually((up.directory / "log.txt").exists)
    assert (up.directory / "log.txt").stat().st_mode & 0o777 == 0o600


def test_a_log_that_was_renamed_is_opened_anew_by_every_reload(up: Up) -> None:
    log, rotated = up.directory / "log.txt", up.directory / "log.txt.1"

    def logged() -> str:
        return log.read_text() if log.exists() else ""

    up.config.write_text(json.dumps(up.facts | {"logging": {"output": str(log)}}))
    eventually(log.exists)
    up.run("reload")  # of the same content
    log.rename(rotated)
    up.process.send_signal(signal.SIGHUP)
    eventually(lambda: "sighup: nothing to change" in logged())
    assert log.stat().st_mode & 0o777 == 0o600
    assert "control: nothing to change" in rotated.read_text()
    log.rename(rotated)
    up.run("reload")
    assert "control: nothing to change" in logged()
    assert "control" not in rotated.read_text()
    log.rename(rotated)
    up.config.write_text("{")  # a file that is wrong keeps no log from being rotated
    up.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the running configuration is kept" in logged())


def test_a_save_keeps_the_line_ends_of_every_file(up: Up) -> None:
    def lines(path: Path, value: object) -> None:
        text = json.dumps(value, indent=1).replace("\n", "\r\n")
        path.write_bytes(text.encode() + b"\r\n")

    more, other = up.directory / "more.json", encode_key(os.urandom(32))
    lines(more, [{"name": "other", "publicKey": other}])
    lines(up.config, up.facts | {"peersFile": "more.json"})
    eventually(lambda: up.names() == ["far", "other"])
    up.run("peer", "set", "far", "--keepalive", "5", "--save")
    up.run("peer", "set", "other", "--allowed-ips", "10.9.0.1/32", "--save")
    key = encode_key(os.urandom(32))
    up.run("peer", "add", "new", "--public-key", key, "--save")
    for path, written in (up.config, b"persistentKeepalive"), (more, key.encode()):
        raw = path.read_bytes()
        assert written in raw
        assert raw.endswith(b"\r\n")
        assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n") > 5
