"""Plans and changes while a name has no address: the peer keeps the one that it has,
as after a save of the file. The resolver is the test's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunnel.cli.show import show_plan
from tunnel.config import desired
from tunnel.errors import TunnelError

from .rig import End, Json, make_pair, new_key
from .test_retry import Names

FAR = "far.example:5"
ADDRESS = bytes([192, 0, 2, 1])


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made, original = Names(), desired.Addresses
    monkeypatch.setattr(desired, "Addresses", lambda _: original(made))
    made.table["far.example"] = "192.0.2.1"
    return made


@pytest.fixture
def one(tmp_path: Path, names: Names) -> Iterator[End]:
    """Its peer runs, and the name of that has lost its address."""
    end = make_pair(tmp_path)[0]
    end.facts["peers"][0]["endpoint"] = FAR
    end.write(end.facts)
    with end:
        assert endpoint(end) == (ADDRESS, 5, 0)
        names.table.clear()
        yield end


def endpoint(end: End) -> Any:
    peers = end.call(lambda s: s.engine.device.observe().peers)
    return next(iter(peers.values())).endpoint


def ways(end: End, facts: Json) -> list[Json]:
    """The requests that mean this configuration, beside the tunnel's own file."""
    other = end.path.with_name("other.json")
    other.write_text(json.dumps(facts))
    return [{"file": str(other)}, {"text": json.dumps(facts)}]


WARNING = "peers[0].endpoint: cannot resolve far.example; the present endpoint is kept"


def test_the_plan_is_that_of_a_reload(
    one: End, capsys: pytest.CaptureFixture[str]
) -> None:
    for way in ({}, {"file": str(one.path)}, *ways(one, one.facts)):
        for do in ("plan", "apply"):
            answer = one.control(do, **way)
            assert answer["diffs"] == []
            assert answer["warnings"] == [WARNING]
    show_plan(answer)
    shown = capsys.readouterr()
    assert shown.err == f"warning: {WARNING}\n"
    assert "nothing to change" in shown.out
    assert one.control("reload")["changes"] == []


@pytest.mark.parametrize("save", [False, True])
def test_what_else_differs_is_applied(one: End, save: bool) -> None:
    peer = one.facts["peers"][0]
    peer["persistentKeepalive"] = 7
    for way in ways(one, one.facts):
        (change,) = one.control("plan", **way)["diffs"]
        assert [field["field"] for field in change["changes"]] == ["keepalive"]
        assert change["session"] == "kept"
    answer = one.control("apply", **ways(one, one.facts)[save], save=save)
    assert answer["event"]["success"] is True
    assert answer["warnings"] == [WARNING]
    assert endpoint(one) == (ADDRESS, 5, 0)
    assert ("persistentKeepalive" in one.path.read_text()) is save


def test_another_name_without_an_address_is_refused(one: End) -> None:
    new = {"name": "new", "publicKey": new_key(), "endpoint": "new.example:5"}
    moved = one.facts["peers"][0] | {"endpoint": "far.example:6"}
    for peers, at in (
        ([*one.facts["peers"], new], r"peers\[1\].endpoint: cannot resolve new"),
        ([moved], r"peers\[0\].endpoint: cannot resolve far"),
    ):
        for way in ways(one, one.facts | {"peers": peers}):
            for do in ("plan", "apply"):
                with pytest.raises(TunnelError, match=at):
                    one.control(do, **way)
