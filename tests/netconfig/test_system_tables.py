"""A default route in a table of the system itself would be everybody's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunnel.config.store import parse_config
from tunnel.errors import ConfigError, NetconfigError
from tunnel.netconfig import linux
from tunnel.netconfig.base import WantedState

from .states import prefix

SYSTEM = {253: "default", 254: "main", 255: "local"}
OTHERS = [252, 256, 51820]


def wanted(route: str, **fields: int) -> WantedState:
    return WantedState("wg0", routes=(prefix(route),), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", SYSTEM)
@pytest.mark.parametrize("route", ["0.0.0.0/0", "::/0"])
def test_no_default_route_goes_into_a_table_of_the_system(
    number: int, route: str
) -> None:
    for fields in ({"fwmark": number}, {"fwmark": 7, "table": number}):
        with pytest.raises(NetconfigError, match=SYSTEM[number]) as caught:
            linux.commands(None, wanted(route, **fields))
        assert str(number) in caught.value.message
        assert "fwmark" in caught.value.hint
    linux.commands(None, wanted(route, fwmark=number, table=99))


@pytest.mark.parametrize("number", [*SYSTEM, *OTHERS])
def test_any_mark_is_fine_without_a_default_route(number: int) -> None:
    linux.commands(None, wanted("10.0.0.0/8", fwmark=number))


def configured(tmp_path: Path, fwmark: int | str, **tunnel: Any) -> None:
    facts = {
        "mode": "server",
        "fwmark": fwmark,
        "psk": "quiet harbour 51 lanterns",
        "tunnel": {"routes": ["0.0.0.0/0"]} | tunnel,
    }
    parse_config(json.dumps(facts, indent=1), "config.json", base=tmp_path)


@pytest.mark.parametrize("fwmark", [*SYSTEM, "254", "0xfe"])
@pytest.mark.parametrize("route", ["0.0.0.0/0", "::/0"])
def test_check_names_the_field_and_another_number(
    tmp_path: Path, fwmark: int | str, route: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, fwmark, routes=[route])
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("fwmark", 3)
    assert "the system's own" in problem.message
    assert '"fwmark": 51820' in problem.hint


@pytest.mark.parametrize(
    "tunnel",
    [{"routes": ["10.0.0.0/8"]}, {"autoConfigure": False}, {"type": "loopback"}],
)
def test_check_lets_a_mark_be_that_makes_no_table(
    tmp_path: Path, tunnel: dict[str, Any]
) -> None:
    configured(tmp_path, 254, **tunnel)


@pytest.mark.parametrize("fwmark", OTHERS)
def test_check_lets_other_tables_be(tmp_path: Path, fwmark: int) -> None:
    configured(tmp_path, fwmark)
