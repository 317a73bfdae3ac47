"""The named settings of a running tunnel, for whoever lives by one of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tunnel.device import Device

__all__ = ["Settings"]

log = logging.getLogger("tunnel.manager")


class Settings:
    """Those in force (`config.desired.SETTINGS`, `log_level`). The control thread asks
    and is called back."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._listeners: dict[str, list[Callable[[object], None]]] = {}
        self._reload_listeners: list[Callable[[], None]] = []
        device.on_settings = self._changed

    def get(self, name: str) -> object:
        """None for one that is not set."""
        state = self._device.observe()
        if name == "log_level":
            return state.log_level
        return dict(state.settings).get(name)

    def on_change(self, name: str, callback: Callable[[object], None]) -> None:
        """Calls back, after each change of the setting, with its new value."""
        self._listeners.setdefault(name, []).append(callback)

    def on_reload(self, callback: Callable[[], None]) -> None:
        """Calls back whenever somebody asks for a reload, before the file is read and
        whatever is in it then."""
        self._reload_listeners.append(callback)

    def reloading(self) -> None:
        """A reload was asked for."""
        for callback in self._reload_listeners:
            try:
                callback()
            except Exception:
                log.exception("what goes with a reload failed")

    def _changed(self, values: dict[str, object]) -> None:
        for name, value in values.items():
            for callback in self._listeners.get(name, ()):
                try:
                    callback(value)
                except Exception:
                    log.exception("taking over %s failed", name)
