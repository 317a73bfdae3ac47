"""What the settings of a state mean for handshakes and for packets between peers."""

from __future__ import annotations

from typing import Any

from tunnel.constants import REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, SECOND
from tunnel.protocol.admission import Limits
from tunnel.protocol.prefixes import PrefixSet
from tunnel.state.model import DeviceState

__all__ = ["isolation_of", "limits_of"]


def limits_of(state: DeviceState) -> Limits:
    """A state without these settings (from `wg`, say) has no limits of its own."""
    get: dict[str, Any] = dict(state.settings)
    interval = get.get("rekeyInterval")
    return Limits(
        allow=PrefixSet.of(get.get("access.allow", ())),
        deny=PrefixSet.of(get.get("access.deny", ())),
        blocklist=PrefixSet.of(get.get("access.blocklist", ())),
        max_connections=get.get("maxConnections", 0),
        rate=get.get("connectionRate", 0),
        burst=get.get("connectionBurst", 0),
        rekey_after_time=REKEY_AFTER_TIME if interval is None else interval * SECOND,
        rekey_after_messages=get.get("rekeyBudget", REKEY_AFTER_MESSAGES),
    )


def isolation_of(state: DeviceState) -> tuple[bytes, ...] | None:
    """The host's own addresses when peers are kept apart, as a server does without
    `allowDeviceToDevice`; None when they are not."""
    settings = dict(state.settings)
    if settings.get("mode") != "server" or settings.get("allowDeviceToDevice", False):
        return None
    return tuple(address for address, _ in state.interface.addresses)
