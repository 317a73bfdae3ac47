"""Editing JSON as text against editing the value: same meaning, the rest untouched."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tunnel.config.json_text import (
    Container,
    append,
    member,
    remove,
    replace,
    set_member,
)

CONFIG = """{
  "mode": "server",   "listen": 51820,
  "peers": [
    {"name": "a", "allowedIPs": ["10.0.0.2/32"]},
    {"name":"b",
     "enabled": true}
  ],
  "fwmark": 1e1
}
"""


def peers(text: str) -> Container:
    item = member(Container.at(text), "peers")
    assert item is not None
    return Container.at(text, item.value_start)


def test_an_edit_touches_only_its_place() -> None:
    text = append(CONFIG, peers(CONFIG), {"name": "c"})
    expected = CONFIG.replace("true}\n", 'true},\n    {\n      "name": "c"\n    }\n')
    assert text == expected
    text = remove(CONFIG, peers(CONFIG), peers(CONFIG).items[0])
    assert text == CONFIG.replace(
        '{"name": "a", "allowedIPs": ["10.0.0.2/32"]},\n    ', ""
    )
    first = Container.at(CONFIG, peers(CONFIG).items[0].start)
    assert set_member(CONFIG, first, "enabled", False) == CONFIG.replace(
        '/32"]}', '/32"], "enabled": false}'
    )
    second = Container.at(CONFIG, peers(CONFIG).items[1].start)
    assert set_member(CONFIG, second, "enabled", None) == CONFIG.replace(
        ',\n     "enabled": true', ""
    )
    assert set_member(CONFIG, second, "enabled", True) == CONFIG
    # 1 and true are equal in Python, not in JSON
    assert set_member(CONFIG, second, "enabled", 1) == CONFIG.replace("true", "1")


@pytest.mark.parametrize("indent", [None, 1, 2, "\t"])
def test_random_edits_mean_what_they_mean_on_the_value(
    seed: int, indent: int | str | None
) -> None:
    rng = random.Random(seed)

    def some() -> Any:
        return rng.choice(
            [1, True, None, "x\n\"'{[,", [], {}, [1, [2]], {"k": {"l": 3}}]
        )

    for _ in range(60):
        value: dict[str, Any] = {f"k{n}": some() for n in range(rng.randrange(4))}
        value["peers"] = [some() for _ in range(rng.randrange(4))]
        text = json.dumps(value, indent=indent)
        for _ in range(12):
            array, kind = value["peers"], rng.randrange(4)
            if kind == 0:
                array.append(some())
                text = append(text, peers(text), array[-1])
            elif kind == 1 and array:
                at = rng.randrange(len(array))
                del array[at]
                text = remove(text, peers(text), peers(text).items[at])
            elif kind == 2 and array:
                at = rng.randrange(len(array))
                array[at] = some()
                text = replace(text, peers(text).items[at], array[at])
            else:
                key, new = f"k{rng.randrange(5)}", some()
                text = set_member(text, Container.at(text), key, new)
                if new is None:
                    value.pop(key, None)
                else:
                    value[key] = new
            assert json.loads(text) == value
            assert list(json.loads(text)) == list(value)
