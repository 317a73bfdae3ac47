"""One interface under our hand: from what it was, to what is wanted, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tunnel.netconfig import diff, system
from tunnel.netconfig.base import Command, WantedState
from tunnel.netconfig.complaints import complaint
from tunnel.netconfig.linux import listed, listing
from tunnel.netconfig.runner import Runner, Undo

__all__ = ["Interface", "Planner"]

# what adding says of something that is there, in the words of each system
_THERE: Final = ("exists", "already assigned")

# (observed, wanted) -> the commands between them
Planner = Callable[[WantedState | None, WantedState], list[Command]]


class Interface:
    """Remembers what it applied, so that a change is only the difference.

    Nobody else is expected to change the same things meanwhile. Not for several
    threads at once; every call that executes something blocks until it has ended.
    """

    def __init__(
        self,
        observed: WantedState,
        *,
        runner: Runner | None = None,
        planner: Planner = system.commands,
    ) -> None:
        """`observed` is the interface as found: `WantedState(name, up=False)` for a
        fresh one. `mtu` 0 means that the MTU is not put back at the end."""
        self._start = observed
        self._state = observed
        self._runner = runner or Runner()
        self._planner = planner

    @property
    def state(self) -> WantedState:
        """As applied; addresses in the order in which the system has them."""
        return self._state

    def plan(self, wanted: WantedState) -> list[Command]:
        """What `apply` would run; empty if nothing differs."""
        return self._planner(self._state, wanted)

    def apply(self, wanted: WantedState) -> Undo:
        """All of it or nothing (NetconfigError). What it returns takes it back, if
        nothing was applied since."""
        before = self._state
        undo = self._runner.apply(self.plan(wanted))
        self._state = replace(wanted, addresses=diff.settled(before, wanted))

        def back() -> list[str]:
            self._state = before
            return undo()

        return back

    def restore(self) -> list[str]:
        """Adds addresses and routes that the interface lost meanwhile, as it does by
        going down; what is there stays. Returns what did not work, in words, as it is
        when another interface has taken a route."""
        bare = replace(self._state, addresses=(), routes=())
        missing = self._planner(bare, self._state)
        failed = self._runner.tried(
            # that a route exists does not mean that it leads here
            command if listing(command) else replace(command, already=_THERE)
            for command in missing
        )
        asked = dict.fromkeys(listing(command) for command, _ in failed)
        ours = {argv: listed(self._runner.ask(argv)) for argv in asked if argv}

        def is_there(command: Command) -> bool:
            argv = listing(command)
            return argv is not None and command.argv[4] in ours[argv]

        return [complaint(c, result) for c, result in failed if not is_there(c)]

    def undo_all(self) -> list[str]:
        """Makes the interface what it was at the start, as far as that goes; once.

        Returns what did not work, in words. When the interface is gone already that
        is most of it, and no harm.
        """
        before, self._state = self._state, self._start
        return self._runner.attempt(self._planner(before, self._start))
