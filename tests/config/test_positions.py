"""The line of every value, against a recursive parser that is too slow to ship."""

from __future__ import annotations

import json
import random
import string
from typing import Any

from tunnel.config.positions import MAX_DEPTH, JsonPath, scan

KEYS = ["a", "b", 'q"', "back\\slash", "new\nline", "ü", "", "[", "x:y,{}"]


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(4 if depth < 5 else 2)
    if kind == 0:
        return rng.choice([None, True, False, 0, -1.5, 1e9])
    if kind == 1:
        return "".join(rng.choices(string.printable + '"\\{}[]:,é', k=rng.randrange(9)))
    if kind == 2:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = rng.sample(KEYS, rng.randrange(4))
    return {key: random_value(rng, depth + 1) for key in keys}


class Writer:
    """Writes a value with random line breaks and notes the line of each part."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.text = ""
        self.lines: dict[JsonPath, int] = {}

    def space(self) -> None:
        self.text += self.rng.choice(["", "", " ", "\n", "\t\n ", "\n\n"])

    def note(self, path: JsonPath) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def write(self, value: Any, path: JsonPath = ()) -> None:
        self.space()
        self.note(path)
        if isinstance(value, dict):
            self.members("{", "}", list(value.items()), path)
        elif isinstance(value, list):
            self.members("[", "]", list(enumerate(value)), path)
        else:
            self.text += json.dumps(value, ensure_ascii=self.rng.random() < 0.5)
        self.space()

    def members(
        self, start: str, end: str, items: list[tuple[Any, Any]], path: JsonPath
    ) -> None:
        self.text += start
        self.space()
        for number, (key, value) in enumerate(items):
            self.text += "," if number else ""
            if isinstance(key, str):
                self.space()
                self.note((*path, key))
                self.text += json.dumps(key)
                self.space()
                self.text += ":"
            self.write(value, (*path, key))
        self.text += end


def test_lines_of_random_texts(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        writer = Writer(rng)
        value = random_value(rng, 0)
        writer.write(value)
        assert json.loads(writer.text) == value
        found = scan(writer.text)
        assert found.lines == writer.lines, writer.text
        assert found.duplicates == []


def test_duplicates_have_both_lines() -> None:
    found = scan('{"a": 1,\n"b": {"a": 1},\n"a": {"x": 1,\n"x": 2},\n"a": {"x": 3}}')
    assert [(d.path, d.first_line, d.second_line) for d in found.duplicates] == [
        (("a",), 1, 3),
        (("a", "x"), 3, 4),
        (("a",), 1, 5),
    ]


def test_missing_paths_fall_back_to_their_parents() -> None:
    found = scan('{\n"a": [\n1,\n{"b": 2}\n]}')
    assert found.line(("a", 1, "b")) == 4
    assert found.line(("a", 1, "gone", 7)) == 4
    assert found.line(("a", 9)) == 2
    assert found.line(("gone",)) == 1


def test_depth_is_bounded() -> None:
    depth = 50_000
    found = scan("[" * depth + "\n" + "]" * depth)
    assert len(found.lines) == MAX_DEPTH + 1
    assert found.line((0,) * depth) == 1
