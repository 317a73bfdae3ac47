"""Executes lists of commands: all or none of them, or as many as work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from tunnel.netconfig.base import Argv, Command
from tunnel.netconfig.batch import Batch, batches, first_failure, outcomes
from tunnel.netconfig.complaints import (
    as_wanted,
    complaint,
    failure,
    line_of,
    said_by,
)
from tunnel.netconfig.programs import (
    Execute,
    Feed,
    Result,
    execute,
    execute_briefly,
)

__all__ = ["Runner", "Undo"]

Undo: TypeAlias = Callable[[], list[str]]
"""Takes back what was done, last first; returns what did not work, in words."""

_log = logging.getLogger("tunnel.netconfig")

_DONE: Final = Result(0)
_LEFT_OUT: Final = Result(None)


class _Failed(Exception):
    """A command that had to work and did not; never leaves this file."""

    def __init__(self, command: Command, result: Result) -> None:
        super().__init__(command.why)
        self.command = command
        self.result = result


class _Silent:
    """Programs that did not answer, of one list of commands: what is optional does not
    ask them again."""

    def __init__(self) -> None:
        self._told: dict[str, bool] = {}

    def add(self, program: str) -> None:
        self._told.setdefault(program, False)

    def leaves_out(self, command: Command) -> bool:
        program = command.argv[0]
        if not command.optional or program not in self._told:
            return False
        if not self._told[program]:
            self._told[program] = True
            _log.warning("could not %s: %s is not tried again", command.why, program)
        return True


class Runner:
    """Executes lists of commands; keeps nothing between two of them but whether this
    system's `ip` takes many commands at once.

    `feed` executes those. Without it each is a program call of its own, as it is if
    `run` is not the real one. What is optional gets less time, and none for a program
    that did not answer in the same list.
    """

    def __init__(self, run: Execute = execute, feed: Feed | None = None) -> None:
        self._run = run
        self._brief = execute_briefly if run is execute else run
        self._feed = feed or (execute if run is execute else None)

    def apply(self, commands: Iterable[Command]) -> Undo:
        """Runs them in order, all or none of them.

        If one fails, those before are undone, last first, and NetconfigError names
        the one that failed. What is returned undoes them later; it leaves alone what
        had no effect, and programs that did not answer.
        """
        done: list[Command] = []
        doubtful: list[Command] = []  # that may have had their effect
        silent = _Silent()
        try:
            for batch in self._batches(commands):
                self._do(batch.commands, done, doubtful, silent)
        except _Failed as failed:
            left = self._undo([*done, *doubtful], silent, sure=len(done))
            raise failure(failed.command, failed.result, left) from None
        except BaseException:
            self._undo([*done, *doubtful], silent, sure=0)
            raise
        return lambda: self._undo(done, silent, sure=len(done))

    def attempt(self, commands: Iterable[Command]) -> list[str]:
        """Runs them all, whatever fails, and returns what did in words."""
        return [complaint(*failure) for failure in self.tried(commands)]

    def tried(self, commands: Iterable[Command]) -> list[tuple[Command, Result]]:
        """Runs them all, whatever fails, and returns what did, and how."""
        failed = []
        for command, result in self._results(commands, _Silent()):
            try:
                self._judge(command, result, [])
            except _Failed:
                failed.append((command, result))
        return failed

    def ask(self, argv: Argv) -> str:
        """What the program prints; nothing when it fails."""
        result = self._run(argv)
        return result.stderr if result.ok else ""

    # --- all or none

    def _do(
        self,
        commands: Sequence[Command],
        done: list[Command],
        doubtful: list[Command],
        silent: _Silent,
    ) -> None:
        while commands:
            doubtful[:] = commands if self._feed else commands[:1]
            results = self._up_to_a_failure(doubtful, silent)
            if results is None:
                self._undo(doubtful, silent, sure=0)
                self._feed = None
                continue
            if results[-1].code is not None:
                doubtful.clear()
            elif len(doubtful) > 1:
                raise _Failed(doubtful[0], results[-1])
            for command, result in zip(commands, results, strict=False):
                self._judge(command, result, done)
            commands = commands[len(results) :]

    def _up_to_a_failure(
        self, commands: Sequence[Command], silent: _Silent
    ) -> list[Result] | None:
        """Of those that ran, one at least; None: nobody knows which did."""
        if self._feed is None or len(commands) == 1:
            return [self._one(commands[0], silent)]
        batch = Batch(tuple(commands))
        result = self._feed(batch.argv(go_on=False), batch.text)
        if result.ok:
            return [_DONE] * len(commands)
        if result.code is None:
            return [result]
        found = first_failure(result.stderr, len(commands))
        if found is None:
            return None
        position, words = found
        return [*[_DONE] * position, Result(result.code, words)]

    def _undo(self, done: list[Command], silent: _Silent, *, sure: int) -> list[str]:
        """Complaints about the first `sure` commands."""
        undoing = [step for c in reversed(done) for step in _undo_of(c)]
        doubtful = {step.argv for c in done[sure:] for step in _undo_of(c)}
        return [
            f"{line_of(command.argv)}: {said_by(result)}"
            for command, result in self._results(undoing, silent)
            if not command.optional
            and command.argv not in doubtful
            and not as_wanted(result, command.already)
        ]

    # --- as many as work

    def _results(
        self, commands: Iterable[Command], silent: _Silent
    ) -> Iterator[tuple[Command, Result]]:
        for batch in self._batches(commands):
            yield from zip(batch.commands, self._all_of(batch, silent), strict=True)

    def _all_of(self, batch: Batch, silent: _Silent) -> list[Result]:
        commands = batch.commands
        if self._feed is None or len(commands) == 1:
            return [self._one(command, silent) for command in commands]
        result = self._feed(batch.argv(go_on=True), batch.text)
        if result.code is None:
            return [result] * len(commands)
        said = outcomes(result.stderr, len(commands), ok=result.ok)
        if said is None:
            return [self._one(command, silent) for command in commands]
        return [Result(result.code, words) if words else _DONE for words in said]

    def _one(self, command: Command, silent: _Silent) -> Result:
        if silent.leaves_out(command):
            return _LEFT_OUT
        run = self._brief if command.optional else self._run
        result = run(command.argv)
        if result.code is None:
            silent.add(command.argv[0])
        return result

    def _batches(self, commands: Iterable[Command]) -> Iterator[Batch]:
        if self._feed is not None:
            return batches(commands)
        return (Batch((command,)) for command in commands)

    @staticmethod
    def _judge(command: Command, result: Result, done: list[Command]) -> None:
        if result is _LEFT_OUT:
            return
        if as_wanted(result, command.already):
            done.append(command)
        elif command.optional:
            _log.warning("could not %s: %s", command.why, said_by(result))
        else:
            raise _Failed(command, result)


def _undo_of(command: Command) -> list[Command]:
    if command.undo is None:
        return []
    undo = Command(
        command.undo,
        None,
        command.why,
        already=command.undone,
        optional=command.optional,
    )
    return [undo, *command.after_undo]
