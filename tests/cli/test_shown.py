"""What the commands print: names as they are, what was saved, what still waits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tunnel.cli import status
from tunnel.cli.show import show_plan
from tunnel.cli.status import InterfaceView, PeerView, _show
from tunnel.config.identity import encode_key

from .rig import Up

KEY = encode_key(os.urandom(32))
NAME = "[red]x[/red] tél \\[日本]"


def test_a_name_is_never_markup(up: Up) -> None:
    up.run("peer", "add", NAME, "--public-key", KEY, "--save")
    for command in (["peer", "list"], ["status"], ["plan", "-"]):
        code, stdin = (2, json.dumps(up.facts)) if command[0] == "plan" else (0, "")
        assert NAME in up.run(*command, code=code, stdin=stdin).stdout, command
    assert NAME in json.dumps(json.loads(up.config.read_text()), ensure_ascii=False
        ).replace("\\\\", "\\")  # fmt: skip


def test_an_endpoint_of_ipv6_is_shown(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path))
    _show(InterfaceView("wg0", peers=[PeerView(KEY, endpoint="[fd00::1]:51820")]))
    shown = capsys.readouterr().out
    assert "[fd00::1]:51820" in shown
    assert "0 of 1 peers connected" in shown


def test_a_prefix_that_moves_names_both_peers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    diffs = [
        {"action": "update", "name": name, "public_key": name * 3, "changes": [],
         "session": "kept"}
        for name in ("old", "new")
    ]  # fmt: skip
    show_plan(
        {
            "interface": "wg0",
            "diffs": diffs,
            "moves": [{"prefix": "10.0.0.2/32", "from": "old" * 3, "to": "new" * 3}],
            "summary": {"current_peers": 2, "target_peers": 2, "added": 0, "updated": 2,
                        "removed": 0},
            "hash": "0" * 64,
            "needs_restart": False,
        }
    )  # fmt: skip
    assert "10.0.0.2/32 moves from old to new\n" in capsys.readouterr().out


def test_a_save_is_told_even_if_the_tunnel_stays(up: Up) -> None:
    up.run("peer", "disable", "far")
    assert "enabled" not in up.config.read_text()
    shown = up.run("peer", "disable", "far", "--save").stdout
    assert f"saved in {up.config}" in shown
    assert json.loads(up.config.read_text())["peers"][0]["enabled"] is False


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ({"up": True, "waiting": None}, ""),
        ({"up": False, "waiting": None}, "wg7 is down: ip link set wg7 up"),
        (
            {"up": False, "waiting": "cannot [UDP]\n  choose"},
            "wg7 waits, and tries again every second:\n  cannot [UDP]\n  choose",
        ),
        (
            {"up": True, "not_taken_back": "port [4]\n  choose"},
            (
                "wg7 runs a change that was not confirmed in time.\n"
                "Taking it back failed, and is tried again every second:\n"
                "  port [4]\n  choose"
            ),
        ),
        ({}, ""),  # an older version, or another engine
    ],
)
def test_status_says_why_a_tunnel_carries_nothing(
    device: dict[str, Any],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(status, "interfaces", lambda: ["wg7"])
    monkeypatch.setattr(status, "ask", status.InterfaceView)
    monkeypatch.setattr(status, "_told", lambda *_: {"device": device})
    status.status(None, as_json=False)
    head, _, _table = capsys.readouterr().out.partition(" peer ")
    title, *more = [line.rstrip() for line in head.splitlines()]
    assert title == "wg7: no private key, port 0, 0 of 0 peers connected"
    assert "\n".join(more).rstrip() == told


@pytest.mark.parametrize("text", ["0", "0s", "25h", "1e9", "-1", "soon"])
def test_a_time_to_confirm_in_is_a_time(up: Up, text: str) -> None:
    refused = up.run("apply", "--confirm", text, code=1).stderr
    assert "--confirm: " in refused
    assert up.json("history")["events"] == []
