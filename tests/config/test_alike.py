"""A text that is read with the help of an earlier reading means what it means alone.

Random edits of whole configurations, right ones and wrong ones: reading with `like`
gives the same configuration, state and problems as reading from the start, and what
stays in the text stays the same object.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunnel.config.desired import desired_state
from tunnel.config.documents import layout_of
from tunnel.config.schema import Config
from tunnel.errors import ConfigError

Parse = Callable[..., Config]
Json = dict[str, Any]

NAMES = [f"device{n}" for n in range(12)] + ["Grüße", "server"]
ANOTHER = b64encode(bytes([0xEE]) * 32).decode()


def key(rng: random.Random) -> str:
    return b64encode(rng.randbytes(32)).decode()


def peer(rng: random.Random) -> Json:
    entry: Json = {"name": f"{rng.choice(NAMES)} {rng.randrange(40)}"}
    if rng.random() < 0.9:
        entry["publicKey"] = key(rng)
    if rng.random() < 0.8:
        entry["allowedIPs"] = [f"10.{rng.randrange(250)}.{rng.randrange(250)}.1/32"]
    optional: Json = {
        "presharedKey": rng.choice([key(rng)] * 9 + [{"file": "secret"}]),
        "endpoint": f"192.0.2.{rng.randrange(1, 9)}:51820",
        "persistentKeepalive": rng.choice([25, "25s", True, 1, 1.0]),
        "enabled": rng.choice([True, False, 1]),
    }
    for name, value in optional.items():
        if rng.random() < 0.15:
            entry[name] = value
    return entry


def server(rng: random.Random, count: int) -> Json:
    peers = [peer(rng) for _ in range(count)]
    whole: Json = {"mode": "server", "privateKey": key(rng), "psk": "a" + key(rng)}
    whole |= {"keepalive": 5, "peers": peers, "logging": {"level": "info"}}
    if rng.random() < 0.5:
        whole["peersFile"] = "more.json"
    if rng.random() < 0.2:
        del whole["psk"]
    return whole


def edited(rng: random.Random, whole: Json) -> Json:
    """One to three changes, of a peer, of their order, or of something else."""
    whole = json.loads(json.dumps(whole))
    peers = whole.get("peers")
    for _ in range(rng.randint(1, 3)):
        what = rng.randrange(9)
        if what == 0:
            whole["keepalive"] = rng.randrange(9)
        elif what == 1:
            whole["logging"] = {"level": rng.choice(["debug", "info", "loud"])}
        elif what == 2:
            whole["name"] = rng.choice(NAMES)
        elif not isinstance(peers, list) or not peers:
            peers = whole["peers"] = [peer(rng)]
        elif what == 3:
            peers.insert(rng.randrange(len(peers) + 1), peer(rng))
        elif what == 4:
            del peers[rng.randrange(len(peers))]
        elif what == 5:
            rng.shuffle(peers)
        elif what == 6:  # it shares something with another one
            one, two = rng.choice(peers), rng.choice(peers)
            field = rng.choice(["name", "publicKey", "allowedIPs"])
            if field in two:
                one[field] = two[field]
        else:
            peers[rng.randrange(len(peers))] |= peer(rng)
    return whole


def style(rng: random.Random) -> Json:
    """How `json.dumps` spells."""
    return {"indent": rng.choice([None, 1, 2]), "ensure_ascii": rng.random() < 0.5}


def damaged(rng: random.Random, text: str) -> str:
    """The text with something cut out, doubled or put in: mostly no JSON any more."""
    at = rng.randrange(len(text))
    end = min(len(text), at + rng.choice([0, 1, 1, 40, 400]))
    what = rng.choice(["", text[at:end] * 2, ",", "}", "]", "[", '"', " ", '"a":1,'])
    return text[:at] + what + text[end:]


def outcome(read: Callable[[], Config]) -> tuple[Config | None, object]:
    """The configuration and all that follows from it, or what is wrong with it."""
    try:
        config = read()
        facts = config.facts
        state = desired_state(config)
        whole = config, facts, state, list(state.peers), facts.files
        places = [facts.place(n) for n in range(len(facts.peers))]
        return config, (*whole, places, config.model_fields_set)
    except ConfigError as error:
        return None, error.problems


def test_random_edits_mean_the_same(seed: int, tmp_path: Path, parse: Parse) -> None:
    rng = random.Random(seed)
    (tmp_path / "secret").write_text(key(rng))
    more = tmp_path / "more.json"
    right = wrong = kept = 0
    for _ in range(60):
        more.write_text(json.dumps({"peers": [peer(rng) for _ in range(3)]}))
        whole, like, spelling = server(rng, rng.randrange(9)), None, style(rng)
        for _ in range(12):
            if rng.random() < 0.1:
                spelling = style(rng)
            text = json.dumps(whole, **spelling)
            if rng.random() < 0.2:
                text = damaged(rng, text)
            if rng.random() < 0.1:
                more.write_text(json.dumps([peer(rng)]))
            alone, expected = outcome(lambda text=text: parse(text))
            config, found = outcome(lambda text=text, like=like: parse(text, like=like))
            assert found == expected, text
            if config is not None and like is not None:
                kept += sum(same_objects(like, config))
            like = config or like
            right, wrong = right + (config is not None), wrong + (alone is None)
            whole = edited(rng, whole)
            if config is not None and rng.random() < 0.1:
                (tmp_path / "secret").write_text(key(rng))
    assert min(right, wrong) > 50
    assert kept > 20, "the test compares what was never taken over"


def test_every_place_of_a_small_text(parse: Parse) -> None:
    """One character taken out, put in or replaced, at each position."""
    keys = [b64encode(bytes([n]) * 32).decode() for n in range(1, 4)]
    entries = ", ".join(f'{{"publicKey": "{key}"}}' for key in keys[1:])
    text = f'{{"mode": "server", "peers": [{entries}], "privateKey": "{keys[0]}"}}'
    like = parse(text)
    wrong = 0
    for at in range(len(text)):
        for new in ("", *',;]}[{" x\\'):
            for end in (at, at + 1):
                other = text[:at] + new + text[end:]
                alone, expected = outcome(lambda other=other: parse(other))
                _, found = outcome(lambda other=other: parse(other, like=like))
                assert found == expected, other
                wrong += alone is None
    assert wrong > len(text)


def texts(*peers: Json, **more: Any) -> str:
    own = b64encode(bytes(range(8, 40))).decode()
    return json.dumps(
        {"mode": "server", "privateKey": own, "peers": list(peers), **more}
    )


def same_objects(one: Config, two: Config) -> list[bool]:
    """Which peers of `two` were taken over from `one`, with what they mean."""
    old = {id(facts) for facts in one.facts.peers}
    return [id(facts) in old for facts in two.facts.peers]


@pytest.fixture
def six(seed: int) -> list[Json]:
    rng = random.Random(seed)
    return [
        {"name": f"p{n}", "publicKey": key(rng), "allowedIPs": [f"10.0.0.{n}/32"]}
        for n in range(6)
    ]


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        (lambda p: p, [True] * 6),
        (lambda p: [*p, {"name": "new", "publicKey": ANOTHER}],
            [True] * 6 + [False]),
        (lambda p: [p[0] | {"enabled": False}, *p[1:]], [False] + [True] * 5),
        (lambda p: [*p[:2], p[2] | {"persistentKeepalive": 9}, *p[3:]],
            [True] * 2 + [False] + [True] * 3),
        # the one in front ends where the gap ends, so it is looked at once more
        (lambda p: p[2:], [False] + [True] * 3),
        (lambda p: p[:3], [True] * 3),
        (lambda p: [], []),
    ],
)  # fmt: skip
def test_what_stays_is_not_understood_again(
    edit: Callable[[list[Json]], list[Json]],
    kept: list[bool],
    six: list[Json],
    parse: Parse,
) -> None:
    before = parse(texts(*six))
    after = parse(texts(*edit(six)), like=before)
    assert same_objects(before, after) == kept
    states = desired_state(before).peers
    same = [states.get(k) is peer for k, peer in desired_state(after).peers.items()]
    assert same == kept
    again = parse(texts(*edit(six)), like=after)
    assert all(same_objects(after, again))


def test_a_change_beside_the_peers_keeps_them(six: list[Json], parse: Parse) -> None:
    before = parse(texts(*six))
    behind = parse(texts(*six, logging={"level": "debug"}), like=before)
    assert behind.facts.log_level == "debug"
    assert all(same_objects(before, behind))
    ahead = parse(texts(*six).replace("{", '{"fwmark": 7, ', 1), like=before)
    assert ahead.facts.fwmark == 7
    assert all(same_objects(before, ahead))


def test_what_all_peers_inherit_is_looked_at_again(
    six: list[Json], parse: Parse
) -> None:
    before = parse(texts(*six))
    after = parse(texts(*six, keepalive=25), like=before)
    assert [peer.keepalive for peer in after.facts.peers] == [25] * 6
    assert all(one is two for one, two in zip(before.peers, after.peers, strict=True))


def test_a_secret_in_a_file_is_read_again(
    six: list[Json], tmp_path: Path, parse: Parse
) -> None:
    rng = random.Random(1)
    (tmp_path / "secret").write_text(key(rng))
    six[4]["presharedKey"] = {"file": "secret"}
    before = parse(texts(*six))
    (tmp_path / "secret").write_text(key(rng))
    six[0]["enabled"] = False
    after = parse(texts(*six), like=before)
    shared = after.facts.peers[4].preshared_key
    assert shared is not None
    assert shared != before.facts.peers[4].preshared_key
    assert after.facts == parse(texts(*six)).facts


def test_peers_of_other_files_are_kept_too(
    six: list[Json], tmp_path: Path, parse: Parse
) -> None:
    (tmp_path / "more.json").write_text(json.dumps(six[3:]))
    before = parse(texts(*six[:3], peersFile="more.json"))
    (tmp_path / "more.json").write_text(json.dumps([*six[3:5], six[5] | {"name": "x"}]))
    after = parse(texts(*six[:3], peersFile="more.json"), like=before)
    assert after.facts.peers[5].name == "x"
    kept = [a is b for a, b in zip(before.facts.peers, after.facts.peers, strict=True)]
    assert kept == [True] * 5 + [False]


def test_a_key_that_is_called_peers_elsewhere_is_not_the_list(parse: Parse) -> None:
    text = '{"logging": {"peers": []}, "mode": "server", "privateKey": "x"}'
    assert layout_of(text) is None
    layout = layout_of('{"a": {"peers": [1, 2]}, "peers" : [ {"b":[1]} , {} ] }')
    assert layout is not None
    assert len(layout.ends) == 2


def test_the_layout_is_where_the_elements_end(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        whole = server(rng, rng.randrange(5))
        for value in (whole, whole["peers"]):
            text = json.dumps(value, **style(rng))
            layout = layout_of(text)
            assert layout is not None
            assert text[layout.start - 1] == "["
            assert text[layout.end] == "]"
            start, found = layout.start, []
            for end in layout.ends:
                found.append(json.loads(text[start:end].lstrip(" ,\n")))
                start = end
            assert found == whole["peers"]
