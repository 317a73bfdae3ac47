"""Files with one peer a line: read, followed, edited, merged into, and their errors."""

from __future__ import annotations

import json
import os
import random
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tunnel.cli.main import app
from tunnel.config.identity import encode_key
from tunnel.config.peer_lines import (
    add_line,
    as_json,
    edit_line,
    entries_of,
    has_lines,
    is_lines,
    with_entries,
)
from tunnel.config.problems import Found
from tunnel.config.store import load_config
from tunnel.errors import ConfigError, TunnelError


def key(n: int) -> str:
    return b64encode(bytes([n]) * 32).decode()


def row(n: int, name: str = "") -> str:
    return f"{key(n)} 10.0.0.{n} {name}".rstrip()


def entry(n: int, name: str = "") -> dict[str, Any]:
    named = {"name": name} if name else {}
    return {"publicKey": key(n), "allowedIPs": [f"10.0.0.{n}"]} | named


TEXT = (
    f"# clients\n\n{row(1, 'laptop')}\n# of the office\n{row(2, 'tél 日本')}\n# end\n"
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    main = {"mode": "server", "privateKey": encode_key(os.urandom(32)),
            "peersFile": "clients"}  # fmt: skip
    Path("config.json").write_text(json.dumps(main))
    Path("clients").write_text(TEXT)
    return tmp_path


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_lines_are_peers() -> None:
    text = TEXT + f"{key(3)}\t10.0.0.3/32,fd00::3   # phone\r\n"
    Path("clients").write_text(text)
    peers = load_config("config.json").facts.peers
    assert [peer.name for peer in peers] == ["laptop", "tél 日本", "phone"]
    assert [len(peer.allowed_ips) for peer in peers] == [1, 1, 2]
    assert peers[0].allowed_ips == ((bytes([10, 0, 0, 1]), 32),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT + "short 10.0.0.3\n", "line 7: clients#[2].publicKey: not a 32-byte key"),
        (TEXT + row(3).replace("10.0.0.3", "x") + "\n", "line 7: clients#[2].allowed"),
        (TEXT + key(3) + "\n", "line 7: clients#$: a peer has no address"),
        (TEXT + row(3), "line 7: clients#$: the last line has no end"),
        (TEXT + row(1) + "\n", "line 7: clients#[2].publicKey: "),
        (TEXT + row(3, "laptop") + "\n", "line 7: clients#[2].name: "),
        (TEXT + f"{key(3)} 10.0.0.2\n", "line 7: clients#[2].allowedIPs[0]: "),
        (TEXT + row(3, "x" * 65) + "\n", "line 7: clients#[2].name: "),
        ("hello\n", "line 1: clients#"),
        ("", "line 1: clients#$: is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_line(text: str, said: str) -> None:
    Path("clients").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config("config.json")
    assert said in str(refused.value)


def test_a_file_cut_off_inside_a_line_is_refused() -> None:
    """One that ends where a line ends is a shorter list, and cannot be told apart."""
    raw = TEXT.encode()
    for end in range(1, len(raw)):
        Path("clients").write_bytes(raw[:end])
        if raw[end - 1 : end] == b"\n":
            load_config("config.json")
        else:
            with pytest.raises(ConfigError):
                load_config("config.json")


def test_which_kind_a_text_is() -> None:
    for text in ("[]", ' {"peers": []}', "", "\n"):
        assert not is_lines(text)
    for text in (TEXT, "# nobody\n", "nonsense"):
        assert is_lines(text)
    assert has_lines(TEXT)
    for text in ("[Interface]\n", "# nobody\n", "PrivateKey = x\n", "[]", ""):
        assert not has_lines(text)


def test_edits_leave_everything_else_as_it_is() -> None:
    more = add_line(TEXT, entry(3, "phone"))
    assert more.splitlines() == [
        *TEXT.splitlines()[:5], row(3, "phone"), "# end"
    ]  # fmt: skip
    assert edit_line(more, key(3), None) == TEXT
    renamed = edit_line(TEXT, key(1), {"name": "desk", "allowedIPs": ["10.0.0.9/32"]})
    assert renamed == TEXT.replace(row(1, "laptop"), f"{key(1)} 10.0.0.9/32 desk")
    assert edit_line(TEXT, key(1), {"name": None}) == TEXT.replace(" laptop", "")
    assert edit_line(TEXT, key(9), None) is None
    without = edit_line(TEXT, key(2), None)
    assert without is not None
    assert entries_of(without) == [entry(1, "laptop")]
    assert set(TEXT.splitlines()) - set(without.splitlines()) == {row(2, "tél 日本")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"presharedKey": key(7)}, "cannot say presharedKey"),
        ({"enabled": False}, "cannot say enabled"),
        ({"allowedIPs": []}, "needs allowedIPs"),
    ],
)
def test_what_a_line_cannot_say_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TunnelError, match=said) as refused:
        edit_line(TEXT, key(1), change)
    assert key(7) not in str(refused.value)
    assert "JSON" in refused.value.hint


def test_random_files_say_what_they_are_told(seed: int) -> None:
    rng = random.Random(seed)
    text = "# all\n"
    twin: list[dict[str, Any]] = []
    for _ in range(200):
        rng.shuffle(twin)
        if twin and rng.random() < 0.4:
            del twin[rng.randrange(len(twin))]
        else:
            n = rng.choice([n for n in range(250) if key(n) not in
                            {e["publicKey"] for e in twin}])  # fmt: skip
            twin.append(entry(n, rng.choice(["", f"n{n}", f"# {n}", f"日 {n}"])))
        text = with_entries(text, twin)
        found = Found(text)
        assert entries_of(text) == twin
        assert json.loads(as_json(text, found)) == twin
        assert not found.problems()
    assert text.count("# all\n") == 1


def test_merging_keeps_the_kind_of_file() -> None:
    part = json.dumps([entry(3, "phone"), entry(2, "zoe")])
    Path("part.json").write_text(part)
    for into in ("clients", "config.json"):
        Path("clients").write_text(TEXT)
        done = invoke("merge", "part.json", "--into", into)
        assert done.exit_code == 0, (done.output, done.exception)
        text = Path("clients").read_text()
        assert entries_of(text) == [
            entry(1, "laptop"), {**entry(3, "phone"), "allowedIPs": ["10.0.0.3/32"]},
            entry(2, "zoe"),
        ]  # fmt: skip
        assert "# of the office\n" + row(2, "zoe") in text
        again = invoke("merge", "part.json", "--into", into)
        assert "nothing to change" in again.output
    assert invoke("restore", "-c", "clients").exit_code == 0
    assert Path("clients").read_text() == TEXT


def test_lines_are_a_partial_set() -> None:
    Path("config.json").write_text(json.dumps([entry(1, "old")]))
    assert invoke("merge", "clients").exit_code == 0
    merged = json.loads(Path("config.json").read_text())
    assert [peer["name"] for peer in merged] == ["laptop", "tél 日本"]
    Path("clients").write_text(f"{key(1)}\n")
    refused = invoke("merge", "clients").exception
    assert isinstance(refused, ConfigError)
    assert "line 1" in str(refused)
