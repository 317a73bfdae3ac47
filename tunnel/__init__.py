"""A userspace WireGuard engine whose configuration changes under load.

    from tunnel import Tunnel, load_config

    async with Tunnel(load_config("config.json")) as tunnel:
        print(await tunnel.status())

Names load what they need when they are first used, so that importing the package (as
`tunnel-wg` does) costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunnel.config.schema import Config
    from tunnel.config.store import load_config
    from tunnel.errors import TunnelError
    from tunnel.tunnel import Tunnel, apply, plan

__all__ = [
    "Config",
    "Tunnel",
    "TunnelError",
    "__version__",
    "apply",
    "load_config",
    "plan",
]

__version__ = "0.1.0"

_HOMES = {
    "Config": "tunnel.config.schema",
    "Tunnel": "tunnel.tunnel",
    "TunnelError": "tunnel.errors",
    "apply": "tunnel.tunnel",
    "load_config": "tunnel.config.store",
    "plan": "tunnel.tunnel",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
