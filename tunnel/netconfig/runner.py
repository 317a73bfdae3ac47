"""Executes commands: without a shell, all or none, in a predictable language."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from tunnel.errors import NetconfigError
from tunnel.netconfig.base import Argv, Command
from tunnel.netconfig.batch import Batch, batches, outcomes

__all__ = ["Execute", "Feed", "Result", "Runner", "complaint", "execute"]

_log = logging.getLogger("tunnel.netconfig")

TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended; `code` is None when it did not start or did not end. What
    said nothing on standard error is heard on standard output."""

    code: int | None
    stderr: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0


class Execute(Protocol):
    """Runs one program to its end. `execute` is the real one."""

    def __call__(self, argv: Argv) -> Result: ...


# Runs one program with that on its standard input.
Feed = Callable[[Argv, str], Result]


def execute(argv: Argv, text: str = "") -> Result:
    """Runs it with the input `text` and at most TIMEOUT_S seconds; raises nothing."""
    try:
        done = subprocess.run(
            argv,
            input=text.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return Result(None, f"no answer within {TIMEOUT_S:g} s")
    except OSError as error:
        return Result(None, error.strerror or str(error))
    # netsh reports its errors on standard output
    said = done.stderr.strip() or done.stdout.strip()
    return Result(done.returncode, said.decode(errors="replace"))


class _Failed(Exception):
    """A command that had to work and did not; never leaves this file."""

    def __init__(self, command: Command, result: Result) -> None:
        super().__init__(command.why)
        self.command = command
        self.result = result


class Runner:
    """Executes lists of commands; keeps nothing between two of them.

    `feed` executes many commands of `ip` at once where all are to be tried. Without it
    each is a program call of its own, as it is if `run` is not the real one.
    """

    def __init__(self, run: Execute = execute, feed: Feed | None = None) -> None:
        self._run = run
        self._feed = feed or (execute if run is execute else None)

    def apply(self, commands: Iterable[Command]) -> None:
        """Runs them in order, all or none of them.

        If one fails, those before are undone, last first, and NetconfigError names
        the one that failed.
        """
        done: list[Command] = []
        try:
            for command in commands:
                self._do(command, done)
        except _Failed as failed:
            # what did not end in time may have had its effect
            tried = [failed.command] if failed.result.code is None else []
            left = self._undo([*done, *tried], sure=len(done))
            raise _failure(failed.command, failed.result, left) from None
        except BaseException:
            self._undo(done, sure=0)
            raise

    def attempt(self, commands: Iterable[Command]) -> list[str]:
        """Runs them all, whatever fails, and returns what did in words."""
        return [complaint(*failure) for failure in self.tried(commands)]

    def tried(self, commands: Iterable[Command]) -> list[tuple[Command, Result]]:
        """Runs them all, whatever fails, and returns what did, and how."""
        failed = []
        for command, result in self._results(commands):
            try:
                self._judge(command, result, [])
            except _Failed:
                failed.append((command, result))
        return failed

    def ask(self, argv: Argv) -> str:
        """What the program prints; nothing when it fails."""
        result = self._run(argv)
        return result.stderr if result.ok else ""

    def _results(self, commands: Iterable[Command]) -> Iterator[tuple[Command, Result]]:
        if self._feed is None:
            yield from ((command, self._run(command.argv)) for command in commands)
            return
        for batch in batches(commands):
            results = self._fed(self._feed, batch) if len(batch.commands) > 1 else None
            if results is None:
                results = [self._run(command.argv) for command in batch.commands]
            yield from zip(batch.commands, results, strict=True)

    @staticmethod
    def _fed(feed: Feed, batch: Batch) -> list[Result] | None:
        """Of each of its commands; None: they are to be tried one by one."""
        result = feed(batch.argv, batch.text)
        if result.code is None:
            return [result] * len(batch.commands)
        said = outcomes(result.stderr, len(batch.commands), ok=result.ok)
        if said is None:
            return None
        return [Result(result.code if words else 0, words or "") for words in said]

    def _do(self, command: Command, done: list[Command]) -> None:
        self._judge(command, self._run(command.argv), done)

    def _judge(self, command: Command, result: Result, done: list[Command]) -> None:
        if _as_wanted(result, command.already):
            done.append(command)
        elif command.optional:
            _log.warning("could not %s: %s", command.why, _said(result))
        else:
            raise _Failed(command, result)

    def _undo(self, done: list[Command], *, sure: int) -> list[str]:
        """Complaints about the first `sure` commands."""
        left = []
        for position, command in reversed(list(enumerate(done))):
            if command.undo is None:
                continue
            result = self._run(command.undo)
            mine = position < sure and not command.optional
            if mine and not _as_wanted(result, command.undone):
                left.append(f"{_line(command.undo)}: {_said(result)}")
        return left


def complaint(command: Command, result: Result) -> str:
    """The command that failed, what it said, and what to do about it."""
    hint = _hint(command.argv, result)
    told = f"{_line(command.argv)}: {_said(result)}"
    return f"{told} ({hint})" if hint else told


def _failure(command: Command, result: Result, left: list[str]) -> NetconfigError:
    message = f"cannot {command.why}: `{_line(command.argv)}`: {_said(result)}"
    if left:
        message += f"; these could not be undone: {'; '.join(left)}"
    return NetconfigError(message, hint=_hint(command.argv, result))


def _as_wanted(result: Result, said: tuple[str, ...]) -> bool:
    heard = result.stderr.lower()
    return result.ok or any(words.lower() in heard for words in said)


def _said(result: Result) -> str:
    return " ".join(result.stderr.split()) or f"it ended with code {result.code}"


def _line(argv: Argv) -> str:
    return " ".join(word or '""' for word in argv)


_GET: Final = {
    "ip": "install iproute2 (apt install iproute2)",
    "netsh": "netsh belongs to Windows: check PATH",
}
_HINTS: Final = (
    ("Operation not permitted", "run as root, or with CAP_NET_ADMIN"),
    ("requires elevation", "run it as administrator"),
    ("Cannot find device", "the interface is gone"),
    ("Device or resource busy", "another program is configuring the interface"),
)


_NO_IPV6: Final = ("IPv6 is disabled", "Permission denied", "not supported")


def _hint(argv: Argv, result: Result) -> str:
    if result.code is None and "No such file" in result.stderr:
        return _GET.get(argv[0], f"install {argv[0]}")
    if "-6" in argv and any(said in result.stderr for said in _NO_IPV6):
        return "IPv6 is switched off here (net.ipv6.conf.*.disable_ipv6)"
    if "route" in argv and "File exists" in result.stderr:
        return "another interface has this route already: remove it from one of them"
    return next((hint for said, hint in _HINTS if said in result.stderr), "")
