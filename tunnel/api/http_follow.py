"""Keeps the HTTP API where `management.bind` says, while that changes.

Small on purpose: without a `management.bind` nothing of the HTTP stack is loaded.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tunnel.errors import TunnelError

if TYPE_CHECKING:
    from tunnel.api.http import HttpServer
    from tunnel.engine import Engine
    from tunnel.manager import Manager

__all__ = ["Management"]

log = logging.getLogger("tunnel.http")


class Management:
    """The HTTP API of one tunnel, or none; used in the control thread."""

    def __init__(self, engine: Engine, manager: Manager) -> None:
        """Starts what the running configuration says; DeviceError when it cannot."""
        self._engine = engine
        self._manager = manager
        self._bind = ""
        self._server: HttpServer | None = None
        self._move(self._wanted())
        manager.settings.on_change("management.bind", lambda _: self._follow())
        # what was in the way of the last move may be gone
        manager.settings.on_reload(self._follow)

    @property
    def address(self) -> str:
        """Where it listens; empty when it does not."""
        return "" if self._server is None else self._server.address

    def _wanted(self) -> str:
        return str(self._manager.settings.get("management.bind") or "")

    def _follow(self) -> None:
        try:
            self._move(self._wanted())
        except TunnelError as error:
            log.error("the HTTP API stays where it is: %s", error)

    def _move(self, bind: str) -> None:
        """To the new address first; the old server answers what it has begun, such as
        the request that moved it, so nobody waits for its end."""
        if bind == self._bind:
            return
        old = self._server
        new = self._serve(bind) if bind else None
        self._bind, self._server = bind, new
        if old is not None:
            old.leave()

    def _serve(self, bind: str) -> HttpServer:
        """Both addresses may be the same port: then the old one has to go first."""
        from tunnel.api.http import serve

        try:
            return serve(self._engine, self._manager, bind)
        except TunnelError:
            if self._server is None:
                raise
            self._server.stop_listening()
        try:
            return serve(self._engine, self._manager, bind)
        except TunnelError:
            self._server = serve(self._engine, self._manager, self._bind)
            raise

    def close(self) -> None:
        """Ends the server, if there is one. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._bind = ""
