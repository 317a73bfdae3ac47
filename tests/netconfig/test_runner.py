"""The runner: order, rollback, messages; and the program that it starts."""

from __future__ import annotations

import logging
import sys
import time

import pytest

from tunnel.errors import NetconfigError
from tunnel.netconfig import programs
from tunnel.netconfig.base import Argv, Command
from tunnel.netconfig.programs import Result, execute
from tunnel.netconfig.runner import Runner

from .recorder import Recorder


def command(letter: str, **fields: object) -> Command:
    argv, undo = ("do", letter), ("undo", letter)
    return Command(argv, undo, f"do {letter}", **fields)  # type: ignore[arg-type]


A, B, C = (command(letter) for letter in "abc")


def test_all_in_order() -> None:
    recorder = Recorder()
    Runner(recorder).apply([A, B, C])
    assert recorder.calls == ["do a", "do b", "do c"]


def test_a_failure_undoes_what_came_before_last_first() -> None:
    recorder = Recorder(do_c=Result(2, "RTNETLINK answers: Operation not permitted\n"))
    with pytest.raises(NetconfigError) as caught:
        Runner(recorder).apply([A, B, C])
    assert recorder.calls == ["do a", "do b", "do c", "undo b", "undo a"]
    assert caught.value.message == (
        "cannot do c: `do c`: RTNETLINK answers: Operation not permitted"
    )
    assert caught.value.hint == "run as root, or with CAP_NET_ADMIN"


def test_an_undo_that_fails_is_told_and_the_others_are_undone() -> None:
    recorder = Recorder(do_c=Result(1), undo_b=Result(3, "no\n way"))
    with pytest.raises(NetconfigError) as caught:
        Runner(recorder).apply([A, B, C])
    assert recorder.calls[-2:] == ["undo b", "undo a"]
    assert caught.value.message == (
        "cannot do c: `do c`: it ended with code 1; "
        "these could not be undone: undo b: no way"
    )


def test_what_did_not_end_is_undone_too() -> None:
    recorder = Recorder(do_b=Result(None, "no answer"), undo_b=Result(1, "not there"))
    with pytest.raises(NetconfigError, match=r"do b`: no answer$"):
        Runner(recorder).apply([A, B, C])
    assert recorder.calls == ["do a", "do b", "undo b", "undo a"]


def test_an_interrupt_undoes_as_well() -> None:
    recorder = Recorder()

    def interrupted(argv: Argv) -> Result:
        if argv == ("do", "b"):
            raise KeyboardInterrupt
        return recorder(argv)

    with pytest.raises(KeyboardInterrupt):
        Runner(interrupted).apply([A, B, C])
    assert recorder.calls == ["do a", "undo b", "undo a"]  # b: nobody knows


def test_things_that_are_already_as_wanted() -> None:
    exists = Result(2, "RTNETLINK answers: File exists")
    recorder = Recorder(do_a=exists, do_b=Result(1), undo_a=Result(2, "gone already"))
    known = command("a", already=("no", "file EXISTS"), undone=("gone",))
    with pytest.raises(NetconfigError) as caught:
        Runner(recorder).apply([known, B])
    assert "undone" not in caught.value.message
    with pytest.raises(NetconfigError, match="File exists"):
        Runner(recorder).apply([A])


def test_optional_commands_are_told_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(do_a=Result(None, "No such file or directory"), do_c=Result(1))
    with (
        caplog.at_level(logging.WARNING, "tunnel.netconfig"),
        pytest.raises(NetconfigError),
    ):
        Runner(recorder).apply([command("a", optional=True), B, C])
    assert caplog.messages == ["could not do a: No such file or directory"]
    assert recorder.calls == ["do a", "do b", "do c", "undo b"]


def test_commands_without_an_undo_are_skipped_on_the_way_back() -> None:
    recorder = Recorder(do_b=Result(1))
    with pytest.raises(NetconfigError):
        Runner(recorder).apply([Command(("do", "a"), None, "do a"), B])
    assert recorder.calls == ["do a", "do b"]


def test_attempt_goes_on_and_undoes_nothing() -> None:
    recorder = Recorder(do_a=Result(1, "no"), do_c=Result(2))
    failed = Runner(recorder).attempt([A, B, C])
    assert failed == ["do a: no", "do c: it ended with code 2"]
    assert recorder.calls == ["do a", "do b", "do c"]


@pytest.mark.parametrize(
    ("argv", "result", "hint"),
    [
        ("ip link", Result(None, "No such file or directory"), "apt install iproute2"),
        ("frob x", Result(None, "No such file or directory"), "install frob"),
        ("ip -6 address", Result(2, "Permission denied"), "IPv6 is switched off"),
        ("ip -6 address", Result(2, "IPv6 is disabled on"), "IPv6 is switched off"),
        ("ip -4 route", Result(2, "File exists"), "has this route already"),
        ("netsh x", Result(1, "The requested operation requires elevation."), "admin"),
        ("ip link", Result(1, 'Cannot find device "wg0"'), "interface is gone"),
        ("ip link", Result(1, "strange"), ""),
    ],
)
def test_hints(argv: str, result: Result, hint: str) -> None:
    words = tuple(argv.split())
    with pytest.raises(NetconfigError) as caught:
        Runner(lambda _: result).apply([Command(words, None, "try")])
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)


def test_execute_reports_code_message_and_language() -> None:
    def python(code: str) -> Result:
        return execute((sys.executable, "-c", code))

    assert python("pass") == Result(0)
    assert python("import sys; sys.exit('told you')") == Result(1, "told you")
    assert python("print('on stdout'); raise SystemExit(3)") == Result(3, "on stdout")
    assert python("import os; print(os.environ['LC_ALL'])").stderr == "C"
    assert python("import sys; print(repr(sys.stdin.read()))").stderr == "''"
    missing = execute(("no-such-program-here",))
    assert missing == Result(None, "No such file or directory")


def test_execute_uses_no_shell() -> None:
    word = "$(touch x); a b"
    shown = execute((sys.executable, "-c", "import sys; print(sys.argv[1])", word))
    assert shown.stderr == word


def test_execute_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "TIMEOUT_S", 0.2)
    start = time.monotonic()
    result = execute((sys.executable, "-c", "import time; time.sleep(60)"))
    assert result.code is None
    assert "0.2 s" in result.stderr
    assert time.monotonic() - start < 30
