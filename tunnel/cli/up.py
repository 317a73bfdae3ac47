"""`tunnel up`: one tunnel in the foreground, with its control socket."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunnel.errors import TunnelError

if TYPE_CHECKING:
    from tunnel.engine import Engine
    from tunnel.state.model import DeviceState

__all__ = ["log_to", "run", "serve"]

log = logging.getLogger("tunnel")

_LEVELS = {"error": 40, "warning": 30, "warn": 30, "info": 20, "debug": 10}


def log_to(output: str, level: str) -> None:
    """Sends the log to stderr, stdout or a file that only we can read."""
    if level not in _LEVELS:
        raise TunnelError(
            f"unknown log level {level!r}", hint="use error, warning, info or debug"
        )
    handler: logging.Handler
    if output in {"stderr", "stdout"}:
        handler = logging.StreamHandler(getattr(sys, output))
    else:
        old_umask = os.umask(0o077)
        try:
            handler = logging.FileHandler(output)
        except OSError as error:
            raise TunnelError(
                f"logging.output: cannot write {output}: {error.strerror}"
            ) from error
        finally:
            os.umask(old_umask)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("tunnel")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(_LEVELS[level])


def run(config: str, *, log_level: str | None = None) -> None:
    """Until a signal or a failure ends it; raises TunnelError with the reason."""
    from tunnel.config.desired import desired_state
    from tunnel.config.store import load_config

    desired = desired_state(load_config(config))
    output = str(dict(desired.settings).get("logging.output", "stderr"))
    log_to(output, log_level or desired.log_level)
    with serve(desired) as engine:
        log.info("%s is up", engine.tun.name)
        engine.run()
    log.info("stopped")


@contextlib.contextmanager
def serve(desired: DeviceState, *, signals: bool = True) -> Iterator[Engine]:
    """A configured tunnel with its control socket; everything is taken back at exit.

    With `signals`, SIGTERM and SIGINT end it (main thread only).
    """
    from tunnel.api.uapi_server import UapiServer, bind_socket, socket_path
    from tunnel.engine import Engine
    from tunnel.network import SystemNetwork

    network = SystemNetwork()
    with contextlib.ExitStack() as stack:
        engine = Engine(desired.interface, network=network)
        stack.callback(engine.close)
        stack.callback(network.close)
        name = engine.tun.name
        server = UapiServer(
            engine.loop,
            engine.device,
            bind_socket(name),
            path=socket_path(name),
            on_gone=engine.loop.stop,
        )
        stack.callback(server.close)
        for signum in (signal.SIGTERM, signal.SIGINT) if signals else ():
            engine.loop.on_signal(signum, engine.loop.stop)
        engine.start(desired)
        yield engine
