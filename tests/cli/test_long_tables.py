"""Tables of many rows: the same columns in the same order, without the wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Self

import pytest

from tunnel.cli import peers, screen, show, status
from tunnel.cli.screen import Row, show_table
from tunnel.cli.show import show_done
from tunnel.cli.status import InterfaceView, PeerView

FEW, MANY = 3, 301
Captured = pytest.CaptureFixture[str]


def plan(count: int) -> dict[str, Any]:
    kinds = ("add", "update", "remove", "restart")
    changes = [
        {"field": "allowed_ips", "before": [], "after": ["10.0.0.1/32", "10.0.0.2/32"]},
        {"field": "keepalive", "before": 0, "after": 25},
        {"field": "preshared_key", "before": "(set)", "after": "(set)"},
    ]
    diffs = [
        {"action": kinds[n % 4], "name": f"peer {n}", "public_key": f"{n:044}",
         "session": "kept", "changes": changes}
        for n in range(count)
    ]  # fmt: skip
    counts = ("current_peers", "target_peers", "added", "updated", "removed")
    return {
        "interface": "wg0",
        "diffs": diffs,
        "moves": [],
        "summary": dict.fromkeys(counts, 0),
        "hash": "0" * 64,
        "needs_restart": False,
        "pending_confirmation": 5.0,
        "event": {"changes": ["peers"], "duration_ms": 1.0, "generation": 2},
        "saved": False,
    }


def view(count: int) -> InterfaceView:
    found = [
        PeerView(f"{n:044}", f"192.0.2.1:{n}", 0, n, n * 3, allowed_ips=["10.0.0.1/32"])
        for n in range(count)
    ]
    return InterfaceView("wg0", peers=found)


class Client:
    """Answers what `tunnel peer list` asks."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def control(self, do: str) -> list[dict[str, Any]]:
        assert do == "peers"
        return [
            {"name": f"peer {n}" if n % 2 else "", "public_key": f"{n:044}",
             "connected": True, "latest_handshake": 0, "enabled": n % 3 != 0,
             "allowed_ips": []}
            for n in range(self.count)
        ]  # fmt: skip


@pytest.fixture(params=["plan", "status", "peer list"])
def shows(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], None]:
    monkeypatch.setattr(peers, "choose", lambda _: "wg0")
    monkeypatch.setattr(status, "_told", lambda *_: None)

    def listed(count: int) -> None:
        monkeypatch.setattr(peers, "UapiClient", lambda _: Client(count))
        peers.list_()

    return {
        "plan": lambda count: show.show_plan(plan(count)),
        "status": lambda count: status._show(view(count)),
        "peer list": listed,
    }[request.param]


def cells(text: str) -> list[list[str]]:
    """The lines, without what is between the columns; of rules nothing."""
    lines = [line.strip() for line in text.splitlines()]
    split = [[c.strip() for c in line.split("  ") if c.strip()] for line in lines]
    return [line for line in split if line and not set("".join(line)) <= set("-─ ")]


def test_many_rows_say_what_few_say(
    shows: Callable[[int], None], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(MANY)
    plain = capsys.readouterr().out
    monkeypatch.setattr(screen, "_PRETTY_MOST", 10_000)
    shows(MANY)
    pretty = capsys.readouterr().out
    assert "─" in pretty
    assert "─" not in plain
    assert cells(plain) == cells(pretty)
    assert max(map(len, plain.splitlines())) < 200


def test_few_rows_are_as_pretty_as_ever(
    shows: Callable[[int], None], capsys: Captured
) -> None:
    shows(FEW)
    assert "─" in capsys.readouterr().out


def test_columns_are_aligned_whatever_is_in_them(capsys: Captured) -> None:
    rows: list[Row] = [(["日本", "x"], None), (["é" * 5, "y"], "red")]
    rows += [(["a" * 200, "long"], None), ([f"[red]{'b' * 10}", "z"], None)] * MANY
    show_table(["name", "end"], rows)
    head, rule, wide, narrow, long, markup, *_ = capsys.readouterr().out.splitlines()
    assert head.index("end") == rule.rindex("----") == narrow.index("y") == 63
    assert wide.index("x") == 61  # two signs of two cells each
    assert long == "a" * 200 + "   long"
    assert markup.startswith("[red]bb")
    assert markup.index("z") == 63


def test_a_trial_is_heard_of_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    heard = ""

    def slow(_: object) -> None:
        nonlocal heard
        heard = capsys.readouterr().out
        sys.stdout.write("the plan\n")

    monkeypatch.setattr(show, "show_plan", slow)
    show_done(plan(FEW))
    assert heard == "taken back in 5 s unless you run: tunnel confirm\n"
    assert capsys.readouterr().out.splitlines() == [
        "the plan",
        "applied in 1.0 ms, generation 2",
        "not confirmed yet; keep it with: tunnel confirm",
    ]


def test_many_rows_cost_little(
    shows: Callable[[int], None], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cost(count: int) -> float:
        before = time.process_time()
        shows(count)
        spent = time.process_time() - before
        capsys.readouterr()
        return spent

    cost(FEW)
    cost(MANY)
    plain = min(cost(600) for _ in range(3))
    monkeypatch.setattr(screen, "_PRETTY_MOST", 10_000)
    assert cost(600) > 5 * plain
