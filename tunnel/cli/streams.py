"""Standard streams for every command, whatever it was started with."""

from __future__ import annotations

import os
import sys

__all__ = ["drop_output", "open_streams"]


def open_streams() -> None:
    """Those that were closed lead nowhere. Otherwise the next file that is opened would
    have their number, and get what is meant for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: PTH123, SIM115 - it stays open
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def drop_output() -> None:
    """Nobody takes what is left of standard output: the interpreter's last attempt, as
    it ends, is to fail no more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
