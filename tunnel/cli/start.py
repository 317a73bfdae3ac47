"""The entry point of `tunnel`: what does not wait for all that a command imports."""

from __future__ import annotations

import signal
import sys

__all__ = ["hangup_came", "hold_hangups", "main"]

_came = False


def hold_hangups() -> None:
    """From now on SIGHUP ends nothing: `systemctl reload` and logrotate may send one
    before there is anything to reload. Main thread only."""
    signal.signal(signal.SIGHUP, _note)


def _note(*_: object) -> None:
    global _came
    _came = True


def hangup_came() -> bool:
    """Whether there was one meanwhile; asked once somebody else handles the next."""
    return _came


def main() -> None:
    """`tunnel` with its arguments."""
    if sys.argv[1:2] == ["up"]:
        hold_hangups()
    from tunnel.cli.main import main as command

    command()
