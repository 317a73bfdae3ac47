"""A program that is never run."""

from __future__ import annotations

from tunnel.netconfig.base import Argv
from tunnel.netconfig.programs import Result


class Recorder:
    """Notes each call and answers as told, by the words of the command."""

    def __init__(self, **answers: Result) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def __call__(self, argv: Argv) -> Result:
        self.calls.append(" ".join(argv))
        return self.answers.get("_".join(argv), Result(0))
