"""docs/rules.md names tests that exist, and every rule of this layer has one."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
TABLE = TESTS.parent / "docs" / "rules.md"
ROW = re.compile(r"^\| R(\d+) \| [^|]+ \| ([^|]+) \| ([^|]*) \|$", re.MULTILINE)


def rows() -> list[tuple[int, str, list[str]]]:
    """Number, area and tests of each rule."""
    found = ROW.findall(TABLE.read_text())
    return [(int(n), area, re.findall(r"`([^`]+)`", tests)) for n, area, tests in found]


def test_the_table_has_every_rule_once() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, 81))


def test_every_test_in_the_table_exists() -> None:
    missing = []
    for _, _, tests in rows():
        for test in tests:
            path, _, name = test.partition("::")
            file = TESTS / path
            if not file.is_file() or f"def {name}(" not in file.read_text():
                missing.append(test)
    assert missing == []


def test_every_rule_of_the_protocol_layer_has_a_test_here() -> None:
    untested = [
        number
        for number, area, tests in rows()
        if "protocol" in area and not any(t.startswith("protocol/") for t in tests)
    ]
    assert untested == []
