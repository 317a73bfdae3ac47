"""The system's side of a change: addresses, routes, MTU and DNS of the interface.

Joins `netconfig` (which knows the commands) to the device (which knows when).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from tunnel.netconfig.base import WantedState
from tunnel.netconfig.interface import Interface
from tunnel.netconfig.runner import Runner
from tunnel.state.model import DeviceState

__all__ = ["SystemNetwork", "wanted_state"]

log = logging.getLogger("tunnel.network")


def wanted_state(state: DeviceState) -> WantedState | None:
    """What the interface should look like; None: `autoConfigure` is off, hands off
    everything but the MTU."""
    interface = state.interface
    if interface.kind != "tun" or not interface.auto_configure:
        return None
    return WantedState(
        name=interface.name,
        mtu=interface.mtu,
        addresses=interface.addresses,
        routes=interface.routes,
        dns=interface.dns,
        fwmark=state.fwmark,
    )


class SystemNetwork:
    """Configures the interface by plans and takes everything back at the end.

    Control thread only: the programs (`ip`) block it for some milliseconds each, while
    packets go on. All addresses and routes take few of them (netconfig/batch.py).
    """

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self._interface: Interface | None = None
        self._automatic = False

    def change(self, before: DeviceState, after: DeviceState) -> Callable[[], None]:
        """Makes the interface so, or leaves it as it was and raises NetconfigError;
        returns what takes it back."""
        if after.interface.kind != "tun":
            return lambda: None
        wanted = wanted_state(after)
        if self._interface is None:
            name, mtu = after.interface.name, before.interface.mtu
            bare = WantedState(name, mtu=mtu, up=False)
            self._interface = Interface(bare, runner=self._runner)
        interface, old = self._interface, self._interface.state
        # what was configured stays until the tunnel ends: it is the user's now
        undo = interface.apply(wanted or replace(old, mtu=after.interface.mtu))
        automatic, self._automatic = self._automatic, wanted is not None
        if self._automatic and not automatic and old.up:
            self.restore()  # nobody did while it was off

        def back() -> None:
            self._automatic = automatic
            for complaint in undo():
                log.error("could not restore the interface: %s", complaint)

        return back

    def restore(self) -> None:
        """Puts back what the interface lost by going down, or by an MTU that is too
        small for IPv6: addresses and routes. What cannot be is logged."""
        if self._interface is None or not self._automatic:
            return
        for complaint in self._interface.restore():
            log.warning("not restored: %s", complaint)

    def close(self) -> None:
        """Takes everything back, while the interface still exists; idempotent."""
        interface, self._interface = self._interface, None
        if interface is None:
            return
        for complaint in interface.undo_all():
            log.debug("left behind: %s", complaint)
