"""Loading, creating secret files, reading other files, writing atomically."""

from __future__ import annotations

import gc
import io
import json
import os
import stat
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunnel.config import secrets, store
from tunnel.config.schema import Config
from tunnel.config.store import load_config, parse_config, write_atomically
from tunnel.errors import ConfigError

KEYED = {"mode": "server", "privateKey": {"file": "keys/own", "create": True}}
PUBLIC = "aPbWm1pFZ0vKjZrjkOaVq2F5U6rJ0J3yX8nqkEJ0Z3g="


@pytest.fixture
def masked() -> Iterator[None]:
    old = os.umask(0o777)
    yield
    os.umask(old)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


# --- loading


def test_load_from_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").write_text(json.dumps(KEYED))
    monkeypatch.chdir(tmp_path)
    for path in ("sub/config.json", Path("sub/config.json")):
        config = load_config(path)
        assert config.facts.files == (tmp_path / "sub/keys/own",)
    assert names(tmp_path) == ["sub"]
    assert stat.S_IMODE((tmp_path / "sub/keys").stat().st_mode) == 0o700


def test_load_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO(json.dumps(KEYED).encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=raw))
    monkeypatch.chdir(tmp_path)
    assert load_config("-").mode == "server"
    assert names(tmp_path / "keys") == ["own"]


@pytest.mark.parametrize("name", ["gone.json", ".", "a\0b", "x" * 5000])
def test_unreadable(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / name)
    assert "cannot read it" in caught.value.problems[0].message


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_DOCUMENT", 100)
    (tmp_path / "config.json").write_text(" " * 101)
    with pytest.raises(ConfigError, match="larger than"):
        load_config(tmp_path / "config.json")


def test_the_collector_keeps_running(parse: Callable[..., Config]) -> None:
    parse(KEYED)
    assert gc.isenabled()
    with pytest.raises(ConfigError):
        parse("{}")
    assert gc.isenabled()


def test_default_config_is_loadable(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "config.json").read_text()
    config = parse_config(text, base=tmp_path)
    assert config.mode == "server"
    assert names(tmp_path) == [".tunnel"]
    assert parse_config(text, base=tmp_path).facts == config.facts


# --- secret files


def test_created_secrets(tmp_path: Path, parse: Callable[..., Config]) -> None:
    first = parse(KEYED)
    path = tmp_path / "keys/own"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = b64decode(path.read_text().strip())
    assert first.facts.private_key is not None
    assert first.facts.private_key.reveal() == key
    assert parse(KEYED).facts == first.facts
    assert names(tmp_path / "keys") == ["own"]


def test_nothing_is_created_when_asked_not_to(
    tmp_path: Path, parse: Callable[..., Config]
) -> None:
    fresh = {parse(KEYED, create=False).facts.private_key for _ in range(2)}
    assert len(fresh) == 2
    assert names(tmp_path) == []


def test_one_file_for_two_keys(parse: Callable[..., Config]) -> None:
    psk = {"file": "psk", "create": True}
    config = parse({"mode": "server", "psk": psk, "peers": [{"name": "a", "psk": psk}]})
    assert config.facts.peers[0].psk == config.facts.psk


def test_another_process_was_faster(
    tmp_path: Path, parse: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = secrets.create_pending

    def slower(where: secrets.Surroundings) -> bool:
        for path in where.pending:
            path.parent.mkdir(exist_ok=True)
            path.write_text(PUBLIC)
        return real(where)

    monkeypatch.setattr(store, "create_pending", slower)
    config = parse(KEYED)
    assert (tmp_path / "keys/own").read_text() == PUBLIC
    assert config.facts.private_key is not None
    assert config.facts.private_key.reveal()[1:31] == b64decode(PUBLIC)[1:31]
    assert names(tmp_path / "keys") == ["own"]


def test_directory_that_cannot_be_made(
    tmp_path: Path, refuse: Callable[..., Any]
) -> None:
    (tmp_path / "keys").write_text("in the way")
    (problem,) = refuse(KEYED)
    assert problem.path == "privateKey.file"
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    (problem,) = refuse({"mode": "server", "psk": {"file": "dangling", "create": True}})
    assert "cannot create" in problem.message
    assert names(tmp_path) == ["dangling", "keys"]


def test_secrets_from_the_environment(
    parse: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNEL_TEST_KEY", f" {PUBLIC}\n")
    config = parse({"mode": "server", "privateKey": {"env": "TUNNEL_TEST_KEY"}})
    assert config.facts.private_key is not None


def test_a_pipe_in_place_of_a_secret_does_not_block(
    tmp_path: Path, refuse: Callable[..., Any]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (problem,) = refuse({"mode": "server", "psk": {"file": "pipe"}})
    assert "not a regular file" in problem.message


# --- more peers from other files


def test_include_and_peers_file(tmp_path: Path, parse: Callable[..., Config]) -> None:
    (tmp_path / "peers.d").mkdir()
    for name in ("b", "a"):
        (tmp_path / f"peers.d/{name}.json").write_text(f'[{{"name": "{name}"}}]')
    (tmp_path / "extra.json").write_text('{"peers": [{"name": "x"}]}')
    config = parse(
        {
            "mode": "server",
            "psk": {"file": "psk", "create": True},
            "peers": [{"name": "main"}],
            "include": [
                "peers.d/*.json",
                "none.d/*.json",
                str(tmp_path / "extra.json"),
            ],
            "peersFile": {"file": "dynamic.json", "create": True},
        }
    )
    assert [peer.name for peer in config.facts.peers] == ["main", "a", "b", "x"]
    assert (tmp_path / "dynamic.json").read_text() == "[]\n"
    assert {"peers.d", "extra.json", "a.json", "b.json"} <= {
        path.name for path in config.facts.files
    }
    (tmp_path / "dynamic.json").write_text('[{"name": "later"}]')
    again = parse({**KEYED, "psk": {"file": "psk"}, "peersFile": "dynamic.json"})
    assert [peer.name for peer in again.facts.peers] == ["later"]


# --- writing


@pytest.mark.usefixtures("masked")
def test_mode_is_exact(tmp_path: Path) -> None:
    for mode in (0o600, 0o644):
        write_atomically(tmp_path / "x", "text", mode)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert (tmp_path / "x").read_bytes() == b"text"


def test_r80_replaces_by_rename(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with path.open() as reader:
        write_atomically(path, b"new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("step", ["fchmod", "fsync"])
def test_r80_failure_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "x").write_text("old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x", "new")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_r80_data_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(fd: int) -> None:
        steps.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real_fsync(fd)

    def rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    write_atomically(tmp_path / "x", "new")
    assert steps == ["file", "rename", "dir"]


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").write_text("old")
    (tmp_path / "x").symlink_to("real/x")
    write_atomically(tmp_path / "x", "new")
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "real/x").read_text() == "new"


@pytest.mark.parametrize("links", [True, False])
def test_exclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def no_links(*arguments: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
    write_atomically(tmp_path / "x", "one", exclusive=True)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "x", "two", exclusive=True)
    assert (tmp_path / "x").read_text() == "one"
    assert names(tmp_path) == ["x"]
