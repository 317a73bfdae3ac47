"""What was wrong or half done is made good: by mending the file that was wrong, and by
whoever comes second when two change the configuration at once."""

from __future__ import annotations

import json
from pathlib import Path

from .rig import End, eventually, new_key


def peer(name: str) -> dict[str, str]:
    return {"name": name, "publicKey": new_key()}


def test_a_file_of_peers_that_was_missing_is_taken_over_when_it_comes(
    one: End, tmp_path: Path
) -> None:
    one.write(one.facts | {"peersFile": "more.json"})
    eventually(lambda: one.events("file"))
    assert "there is no such file" in one.events("file")[-1].error
    (tmp_path / "more.json").write_text(json.dumps([peer("late")]))
    eventually(lambda: "late" in one.peer_names())


def test_a_file_of_peers_that_was_wrong_is_taken_over_when_it_is_right(
    one: End, tmp_path: Path
) -> None:
    one.write(one.facts | {"include": "more.d/*.json"})
    (tmp_path / "more.d").mkdir()
    eventually(lambda: one.events("file"))
    bad = tmp_path / "more.d" / "a.json"
    bad.write_text(json.dumps([peer("late") | {"publicKey": "short"}]))
    eventually(lambda: one.events("file")[-1].error)
    bad.write_text(json.dumps([peer("late")]))
    eventually(lambda: "late" in one.peer_names())


def test_a_pattern_of_directories_finds_new_files_and_new_directories(
    one: End, tmp_path: Path
) -> None:
    (tmp_path / "inc" / "old").mkdir(parents=True)
    one.write(one.facts | {"include": "inc/*/p.json"})
    eventually(lambda: one.events("file"))
    (tmp_path / "inc" / "old" / "p.json").write_text(json.dumps([peer("file")]))
    eventually(lambda: "file" in one.peer_names(), 3)
    (tmp_path / "inc" / "new").mkdir()
    (tmp_path / "inc" / "new" / "p.json").write_text(json.dumps([peer("directory")]))
    eventually(lambda: "directory" in one.peer_names(), 3)
    (tmp_path / "inc" / "old" / "p.json").unlink()
    eventually(lambda: one.peer_names() == ["far", "directory"], 3)


def test_a_directory_is_called_one(one: End) -> None:
    one.path.unlink()
    one.path.mkdir()
    eventually(lambda: one.events("file"))
    assert "cannot read it: Is a directory" in one.events("file")[-1].error
    one.path.rmdir()
    one.write(one.with_peers(peer("back")))
    eventually(lambda: "back" in one.peer_names())


def test_an_edit_that_is_saved_does_not_hide_what_was_just_saved(one: End) -> None:
    for number in range(5):  # the edit comes before the file is looked at
        names = one.peer_names()
        one.facts = one.with_peers(peer(f"file{number}"))
        one.write(one.facts)
        edit = {"action": "add", "peer": f"edit{number}",
                "fields": {"publicKey": new_key()}}  # fmt: skip
        one.control("edit", edits=[edit], save=True)
        wanted = {*names, f"file{number}", f"edit{number}"}
        eventually(lambda wanted=wanted: set(one.peer_names()) == wanted)
        one.facts = json.loads(one.path.read_text())
        assert {p["name"] for p in one.facts["peers"]} == wanted
        assert one.control("plan")["diffs"] == []


def test_nothing_to_change_waits_for_nobody(one: End) -> None:
    assert one.control("apply", confirm=60)["pending_confirmation"] is None
    edit = {"action": "disable", "peer": "far"}
    assert one.control("edit", edits=[edit])["event"]["success"]


def test_the_history_names_peers_by_their_whole_key(one: End) -> None:
    one.control("edit", edits=[{"action": "disable", "peer": "far"}])
    (touched,) = one.events()[-1].peers
    assert touched["public_key"] == one.facts["peers"][0]["publicKey"]
