"""The HTTP API of a running tunnel: its socket, its thread, its life.

The server runs in a daemon thread with an event loop of its own and installs no signal
handler. Nothing in the packet path or the control thread ever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import uvicorn

from tunnel.api.auth import Guard, allowed_hosts
from tunnel.api.http_accept import Acceptor
from tunnel.api.http_app import create_app
from tunnel.api.http_bridge import Bridge, Runner
from tunnel.api.http_log import log_like_us
from tunnel.api.http_protocol import Limits, ProblemProtocol
from tunnel.api.http_sockets import listen, spelled
from tunnel.api.http_token import find_token
from tunnel.api.uapi_socket import run_directory
from tunnel.api.unix_sockets import SocketFile
from tunnel.config.values import parse_host_port
from tunnel.state.model import Prefix

__all__ = ["HttpServer", "guarded", "serve", "start"]

log = logging.getLogger("tunnel.http")

_GRACE_SECONDS: Final = 1
_JOIN_SECONDS: Final = 5.0


def start(engine: Runner, manager: Any, config: Any) -> HttpServer:
    """Serves `management.bind` of `config` until the result is closed.

    `config` is a loaded `Config`; the address list follows the running configuration.
    Raises DeviceError when the address cannot be used or there is no token.
    """
    return serve(engine, manager, str(dict(config.facts.settings)["management.bind"]))


def serve(engine: Runner, manager: Any, bind: str) -> HttpServer:
    """The same for an address as in `management.bind`."""
    token = find_token(_token_files(manager, engine))
    listener = listen(bind)
    app = guarded(engine, manager, token=token, bind=bind)
    return HttpServer(app, listener)


def guarded(engine: Runner, manager: Any, *, token: str, bind: str) -> Guard:
    """The whole application as it is served at `bind`."""
    unix = bind.startswith("unix:")
    return Guard(
        create_app(Bridge(engine, manager)),
        token=token,
        acl=_AddressList(engine),
        hosts=None if unix else allowed_hosts(parse_host_port(bind)[0]),
    )


def _token_files(manager: Any, engine: Runner) -> list[Path]:
    """Next to the configuration, or with the control socket."""
    name = engine.device.state.interface.name
    places = [run_directory() / f"{name}.token"]
    path: Path | None = manager.file.path
    if path is not None:
        places.insert(0, path.absolute().parent / ".tunnel" / "management.token")
    return places


class _AddressList:
    """`management.acl` as it is now. A state is immutable and replaced as a whole, so
    another thread may look at it without asking."""

    def __init__(self, engine: Runner) -> None:
        self._device = engine.device

    def __call__(self) -> tuple[Prefix, ...]:
        settings = dict(self._device.state.settings)
        found: tuple[Prefix, ...] = settings.get("management.acl", ())
        return found


class HttpServer:
    """Running from the start; `close` from any thread but its own."""

    def __init__(
        self, app: Guard, listener: socket.socket, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        name = listener.getsockname()
        self.address = spelled(name)
        self._file = SocketFile(Path(name)) if isinstance(name, str) else None
        self._server = _Server(
            uvicorn.Config(
                app,
                http=ProblemProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=True,  # False would be said to the logger of all servers
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=limits.idle,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            ),
            app,
            limits,
        )
        self._listener = listener
        self._thread = threading.Thread(
            target=self._run, name="tunnel-http", daemon=True
        )
        self._thread.start()
        log.info("the HTTP API listens on %s", self.address)

    def _run(self) -> None:
        try:
            with log_like_us():
                asyncio.run(self._server.serve([self._listener]))
        except Exception:
            log.exception("the HTTP API ended")
        finally:
            self._remove_file()
            self._listener.close()

    def leave(self) -> None:
        """Ends it without waiting; requests under way get a second."""
        self._remove_file()
        self._server.leave()

    def stop_listening(self) -> None:
        """`leave`, and the address is free when this returns; that takes no request
        to end."""
        self.leave()
        deadline = time.monotonic() + _JOIN_SECONDS
        while self._listener.fileno() >= 0 and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """Ends it and waits for that. Idempotent."""
        self.leave()
        self._thread.join(_JOIN_SECONDS)

    def _remove_file(self) -> None:
        if self._file is not None:
            self._file.remove()


class _Server(uvicorn.Server):
    """Lets in whom `guard` does not refuse, and waits for its end instead of looking
    for it ten times a second."""

    def __init__(self, config: uvicorn.Config, guard: Guard, limits: Limits) -> None:
        super().__init__(config)
        self._guard = guard
        self._limits = limits
        self._acceptor: Acceptor | None = None
        self._leave = threading.Event()
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        await self.lifespan.startup()
        self.servers = []  # of asyncio, which we do without
        self._acceptor = Acceptor(
            sockets[0],
            make=self._protocol,
            refuses=self._guard.refuses,
            connections=self.server_state.connections,
            most=self._limits.connections,
        )
        self._acceptor.start()
        self.started = True

    def _protocol(self) -> ProblemProtocol:
        return ProblemProtocol(
            self.config, self.server_state, self.lifespan.state, limits=self._limits
        )

    async def main_loop(self) -> None:
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if not self._leave.is_set():
            await self._wake.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            self._acceptor.stop()
        for _ in range(3):  # a connection just accepted gets its transport
            await asyncio.sleep(0)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # of silent clients
            connection.transport.abort()
        await asyncio.sleep(0)

    def leave(self) -> None:
        """From another thread: makes `serve` return."""
        self._leave.set()
        self.should_exit = True
        if self._loop is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._wake.set)
