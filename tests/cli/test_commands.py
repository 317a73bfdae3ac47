"""The commands against a real `tunnel up`, as processes, with their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunnel.config.identity import encode_key

from .rig import Up, eventually

KEY = encode_key(os.urandom(32))


def test_plan_and_apply(up: Up, tmp_path: Path) -> None:
    assert "nothing to change" in up.run("plan").stdout
    facts = up.facts | {"peers": [{"name": "new", "publicKey": KEY}], "fwmark": 0}
    (tmp_path / "next.json").write_text(json.dumps(facts))
    shown = up.run("plan", "next.json", code=2).stdout
    assert "- remove" in " ".join(shown.split())
    assert "new handshake" in shown
    assert "1 added, 0 changed, 1 removed" in shown
    diff = up.run("plan", "next.json", "--diff", code=2).stdout
    assert diff.startswith("--- running\n+++ ")
    assert f"+publicKey {KEY}\n" in diff
    told = up.json("plan", "next.json", code=2)
    assert {d["action"] for d in told["diffs"]} == {"add", "remove"}
    assert "unchanged" not in up.run("apply", "next.json", "--dry-run").stdout
    assert up.names() == ["far"]
    up.run("apply", "next.json", "--plan", "0" * 64, code=1)
    done = up.run("apply", "next.json", "--plan", told["hash"][:16], "--save").stdout
    assert ", saved\n" in done
    assert up.names() == ["new"]
    assert json.loads(up.config.read_text()) == facts
    assert up.run("plan", "-", stdin=json.dumps(facts)).returncode == 0
    assert "next.json: No such file" in up.run("plan", "no/next.json", code=1).stderr


def test_what_needs_a_restart(up: Up, tmp_path: Path) -> None:
    facts = up.facts | {"tunnel": up.facts["tunnel"] | {"type": "tun"}}
    (tmp_path / "next.json").write_text(json.dumps(facts))
    assert "needs a restart" in up.run("plan", "next.json", code=2).stdout
    up.run("apply", "next.json", "--dry-run", code=4)
    refused = up.run("apply", "next.json", code=4).stderr
    assert "tunnel.type cannot change while the tunnel runs" in refused


def test_confirmation(up: Up, tmp_path: Path) -> None:
    facts = up.facts | {"peers": []}
    (tmp_path / "next.json").write_text(json.dumps(facts))
    shown = up.run("apply", "next.json", "--confirm", "60s").stdout
    assert "taken back in 60 s unless you run: tunnel confirm" in shown
    assert up.names() == []
    up.run("rollback")
    assert up.names() == ["far"]
    up.run("apply", "next.json", "--confirm", "1m")
    up.run("confirm")
    up.run("confirm", code=1)
    assert up.names() == []


def test_peers_one_by_one_and_a_restart(up: Up, tmp_path: Path) -> None:
    psk = encode_key(os.urandom(32))
    up.run(
        "peer", "add", "new", "--public-key", KEY, "--allowed-ips",
        "10.0.0.9/32,10.0.0.8/32", "--preshared-key", "-", "--save", stdin=psk + "\n",
    )  # fmt: skip
    up.run("peer", "set", "new", "--keepalive", "25s", "--name", "newer", "--save")
    up.run("peer", "disable", KEY, "--save")
    up.run("peer", "remove", "far", "--save")
    assert "disabled" in up.run("peer", "list").stdout
    up.run("peer", "enable", "newer", "--dry-run")
    assert "did you mean newer?" in up.run("peer", "remove", "never", code=1).stderr
    entry = {
        "name": "newer",
        "publicKey": KEY,
        "allowedIPs": ["10.0.0.9/32", "10.0.0.8/32"],
        "presharedKey": psk,
        "persistentKeepalive": "25s",
        "enabled": False,
    }
    assert json.loads(up.config.read_text()) == up.facts | {"peers": [entry]}
    assert psk not in up.log.read_text()
    assert up.stop() == 0
    again = Up.__new__(Up)
    again.__dict__ |= up.__dict__
    with up.log.open("wb") as log:
        again.process = subprocess.Popen(
            [sys.executable, "-m", "tunnel", "up", str(up.config)],
            stderr=log,
            env=up.environment,
        )
    eventually(lambda: "is up" in up.log.read_text())
    assert again.names() == ["newer"]
    assert again.stop() == 0


def test_backups_and_restore(up: Up) -> None:
    before = up.config.read_bytes()
    assert "no backups" in up.run("backups").stdout
    up.run("peer", "remove", "far", "--save")
    (backup,) = up.json("backups")
    up.run("restore", "--dry-run")
    up.run("restore", backup["name"])
    assert up.config.read_bytes() == before
    eventually(lambda: up.names() == ["far"])
    assert len(up.json("backups")) == 2
    (up.config.parent / backup["name"]).write_text("{")
    up.run("restore", backup["name"], code=1)
    assert up.config.read_bytes() == before


def test_signals_history_and_the_log_level(up: Up) -> None:
    up.process.send_signal(signal.SIGHUP)
    eventually(lambda: up.json("history")["events"])
    assert up.json("history")["events"][0]["source"] == "sighup"
    assert "reload" in up.run("reload", "--help").stdout.lower()
    up.run("reload")
    up.config.write_text("{")
    eventually(lambda: up.json("history")["failed"] == 1)
    assert "refused: " in up.run("history").stdout
    assert "close every" in up.log.read_text()
    up.config.write_text(json.dumps(up.facts | {"logging": {"level": "error"}}))
    eventually(lambda: up.json("history")["by_source"].get("file") == 1)
    size = up.log.stat().st_size
    up.run("reload")  # would be logged at info
    assert up.log.stat().st_size == size
    (told,) = up.json("status").values()
    assert told["state"]["device"]["config_file"] == str(up.config)
    workers = told["state"]["device"]["workers"]
    assert workers == 1  # in memory there is one queue
    assert ", 1 worker, 0 of 1 peers" in " ".join(up.run("status").stdout.split())
    assert told["state"]["reloads"][-1]["source"] == "control"


def test_without_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path))
    for command in ("plan", "apply", "confirm", "reload", "history"):
        done = subprocess.run(
            [sys.executable, "-m", "tunnel", command], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "no tunnel is running" in done.stderr
