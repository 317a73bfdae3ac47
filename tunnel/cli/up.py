"""`tunnel up`: one tunnel in the foreground, with its control socket and its file."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunnel.cli.process import calm_collector, harden
from tunnel.cli.start import hangup_came
from tunnel.errors import TunnelError

if TYPE_CHECKING:
    from tunnel.config.schema import Config
    from tunnel.engine import Engine
    from tunnel.manager import Manager
    from tunnel.state.model import DeviceState

__all__ = ["Served", "log_to", "run", "serve"]

log = logging.getLogger("tunnel")

_LEVELS = {
    "silent": 60, "error": 40, "warning": 30, "warn": 30, "info": 20, "debug": 10,
}  # fmt: skip


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
        from tunnel.cli.log_file import LogFile

        try:
            handler = LogFile(output)
        except OSError as error:
            raise TunnelError(
                f"logging.output: cannot write {output}: {error.strerror}",
                hint='write "stderr", or a path in a directory that there is',
            ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("tunnel")
    replaced = logger.handlers[:]
    logger.handlers[:] = [handler]
    for old in replaced:  # last: other threads log meanwhile
        old.close()
    logger.propagate = False
    logger.setLevel(_LEVELS[level])


def run(config: str, *, log_level: str | None = None) -> None:
    """Until a signal or a failure ends it; raises TunnelError with the reason.

    A file is followed from then on, standard input cannot be.
    """
    from tunnel.cli.exposure import exposed
    from tunnel.config.desired import desired_state
    from tunnel.config.reload import Attempt, Source
    from tunnel.config.store import load_config
    from tunnel.turns import look_up, run_here

    path = None if config == "-" else Path(config)
    if path is None:
        loaded = load_config(config)
        desired = run_here(lambda: desired_state(loaded, look_up))
        attempt = Attempt(b"", loaded, desired)
    else:
        attempt = run_here(Source(path, resolve=look_up).attempt)
    if attempt.error is not None:
        raise attempt.error
    assert attempt.config is not None
    assert attempt.desired is not None
    desired = attempt.desired
    output = str(dict(desired.settings).get("logging.output", "stderr"))
    log_to(output, log_level or desired.log_level)
    for warning in exposed(path, attempt.config) if path is not None else ():
        log.warning("%s", warning)
    harden()
    calm_collector()
    with serve(
        desired, config=attempt.config, path=path, digest=attempt.digest
    ) as tunnel:
        _follow_logging(tunnel.manager, log_level)
        log.info("%s is up", tunnel.engine.tun.name)
        if hangup_came():
            tunnel.manager.reload_soon("sighup")
        tunnel.engine.run()
    log.info("stopped")


def _follow_logging(manager: Manager, fixed: str | None) -> None:
    """`logging` while the tunnel runs; a level from the command line stays. A reload
    opens the file anew: logrotate renames the old one."""

    def change(_: object = None) -> None:
        level = fixed or str(manager.settings.get("log_level"))
        try:
            log_to(str(manager.settings.get("logging.output")), level)
        except TunnelError as error:
            log.error("the log stays where it is: %s", error)

    manager.settings.on_change("log_level", change)
    manager.settings.on_change("logging.output", change)
    manager.settings.on_reload(change)


@dataclass(frozen=True, slots=True)
class Served:
    """A configured tunnel and what its doors ask; `engine.run` runs both."""

    engine: Engine
    manager: Manager


@contextlib.contextmanager
def serve(
    desired: DeviceState,
    *,
    config: Config,
    path: Path | None = None,
    digest: bytes | None = None,
    signals: bool = True,
) -> Iterator[Served]:
    """A configured tunnel with all its doors; everything is taken back at exit.

    `desired` follows from `config`, which was read from `path` when its content had
    this `digest`; the file is followed. With `signals`, SIGTERM and SIGINT end it and
    SIGHUP reads the file again (main thread only).
    """
    from tunnel.api.control import ControlDoor
    from tunnel.api.http_follow import Management
    from tunnel.api.uapi_server import UapiServer
    from tunnel.api.uapi_socket import bind_socket, socket_path
    from tunnel.engine import Engine
    from tunnel.manager import Manager
    from tunnel.network import SystemNetwork

    network = SystemNetwork()
    with contextlib.ExitStack() as stack:
        engine = Engine(desired.interface, network=network)
        stack.callback(engine.close)
        stack.callback(network.close)
        manager = Manager(engine, path=path, config=config, digest=digest)
        stack.callback(manager.close)
        name = engine.tun.name
        server = UapiServer(
            engine.loop,
            engine.device,
            bind_socket(name),
            path=socket_path(name),
            on_gone=engine.loop.stop,
            control=ControlDoor(manager),
            applied=manager.uapi_applied,
        )
        stack.callback(server.close)
        for signum in (signal.SIGTERM, signal.SIGINT) if signals else ():
            engine.loop.on_signal(signum, engine.loop.stop)
        if signals:
            engine.loop.on_signal(signal.SIGHUP, lambda: manager.reload_soon("sighup"))
        engine.start(desired)
        management = Management(engine, manager)
        stack.callback(management.close)
        manager.watch()
        yield Served(engine, manager)
