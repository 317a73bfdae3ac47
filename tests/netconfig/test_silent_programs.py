"""Programs that do not answer, and that a tunnel can do without."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from tunnel.errors import NetconfigError
from tunnel.netconfig import linux, programs
from tunnel.netconfig.base import Argv, Command, WantedState
from tunnel.netconfig.programs import Result, execute, execute_briefly
from tunnel.netconfig.runner import Runner

from .states import packed

NO_ANSWER = Result(None, "no answer within 2 s")
BARE = WantedState("wg0")
NAMED = WantedState("wg0", dns=(packed("10.0.0.53"),))


class Recorder:
    """Notes each call; the programs in `silent` do not answer."""

    def __init__(self, *silent: str, broken: str = "") -> None:
        self.silent = silent
        self.broken = broken
        self.calls: list[str] = []

    def __call__(self, argv: Argv) -> Result:
        self.calls.append(" ".join(argv))
        if argv[0] in self.silent:
            return NO_ANSWER
        return Result(1, "no") if argv[0] == self.broken else Result(0)


def optional(program: str, word: str = "x", undo: Argv | None = None) -> Command:
    return Command((program, word), undo, f"{program} {word}", optional=True)


MUST = Command(("ip", "link"), ("ip", "back"), "set it up")


def test_a_program_that_does_not_answer_is_asked_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder("resolvectl")
    runner = Runner(recorder)
    with caplog.at_level(logging.WARNING, "tunnel.netconfig"):
        runner.apply(
            [optional("resolvectl", word) for word in "abcd"]
            + [optional("sysctl"), MUST]
        )
    assert recorder.calls == ["resolvectl a", "sysctl x", "ip link"]
    assert caplog.messages == [
        "could not resolvectl a: no answer within 2 s",
        "could not resolvectl b: resolvectl is not tried again",
    ]
    runner.apply([optional("resolvectl")])  # another list: it may answer again
    assert recorder.calls[-1] == "resolvectl x"


def test_undoing_does_not_ask_it_again_either() -> None:
    recorder = Recorder("resolvectl", broken="ip")
    commands = [
        optional("sysctl", undo=("resolvectl", "undo")),
        optional("resolvectl", undo=("resolvectl", "undo too")),
        MUST,
    ]
    with pytest.raises(NetconfigError) as caught:
        Runner(recorder).apply(commands)
    assert recorder.calls == ["sysctl x", "resolvectl x", "ip link"]
    assert "could not be undone" not in caught.value.message


def test_what_has_to_work_is_tried_whatever_was_silent() -> None:
    recorder = Recorder("ip")
    commands = [optional("ip"), optional("ip", "y"), MUST]
    with pytest.raises(NetconfigError, match="no answer within 2 s"):
        Runner(recorder).apply(commands)
    assert recorder.calls == ["ip x", "ip link", "ip back"]


def test_so_it_is_when_everything_is_taken_back() -> None:
    recorder = Recorder("resolvectl")
    complaints = Runner(recorder).attempt(linux.commands(NAMED, BARE))
    assert len([call for call in recorder.calls if "resolvectl" in call]) == 1
    assert complaints == []


def test_optional_ones_get_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.BRIEF_S <= 2 < programs.TIMEOUT_S
    monkeypatch.setattr(programs, "BRIEF_S", 0.2)
    argv = ("sleep", "2")
    assert execute_briefly(argv) == Result(None, "no answer within 0.2 s")
    assert execute(argv) == Result(0)


def test_a_resolvectl_that_hangs_costs_its_time_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real programs: two commands at a change, two at the end."""
    asked = tmp_path / "asked"
    program = tmp_path / "resolvectl"
    program.write_text(f"#!/bin/sh\necho $1 >> {asked}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(programs, "BRIEF_S", 0.5)
    runner = Runner()
    began = time.monotonic()
    runner.apply(linux.commands(BARE, NAMED))
    runner.attempt(linux.commands(NAMED, BARE))
    assert time.monotonic() - began < 10  # each command had 15 s
    assert asked.read_text().split() == ["dns", "dns"]
