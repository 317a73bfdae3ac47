"""`tunnel-wg [-f] IFNAME`: an interface that `wg` configures, as wireguard-go does it.

Starts with the standard library only, so that an idle interface is small. Environment:
LOG_LEVEL (verbose, debug, error, silent), WG_PROCESS_FOREGROUND=1, WG_TUN_FD,
WG_UAPI_FD, TUNNEL_WORKERS (auto, or 1 to 16 threads that carry packets), and
TUNNEL_RUN_DIR for the directory of the socket.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tunnel.cli.process import calm_collector, harden
from tunnel.cli.streams import open_streams

if TYPE_CHECKING:
    import socket

    from tunnel.api.uapi_server import UapiServer
    from tunnel.engine import Engine

__all__ = ["main"]

_NAME: Final = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_READY: Final = b"ready"
_LEVELS: Final = {"verbose": 10, "debug": 10, "error": 40, "silent": 100}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    open_streams()
    options = _parse(argv)
    if options.foreground or os.environ.get("WG_PROCESS_FOREGROUND") == "1":
        return _serve(options.interface, None)
    return _daemonize(options.interface)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from tunnel import __version__

    parser = argparse.ArgumentParser(
        prog="tunnel-wg",
        description="Creates a WireGuard interface in userspace, configured by wg(8).",
    )
    parser.add_argument("-f", "--foreground", action="store_true")
    parser.add_argument("--version", action="version", version=f"tunnel {__version__}")
    parser.add_argument("interface", metavar="IFNAME", type=_interface_name)
    return parser.parse_args(argv)


def _interface_name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in {".", ".."}:
        raise argparse.ArgumentTypeError("an interface name has 1 to 15 of a-z0-9_=+.-")
    return text


def _daemonize(interface: str) -> int:
    """Returns in the parent, once the child answers `wg` or has failed.

    The fork comes before any thread exists and before anything large is loaded.
    """
    ready, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os._exit(_serve(interface, report))
    os.close(report)
    with os.fdopen(ready, "rb") as pipe:
        message = pipe.read()
    if message == _READY:
        return 0
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stderr.write(message.decode(errors="replace") or "tunnel-wg: failed to start\n")
    return status if status > 0 else 1


def _serve(interface: str, report: int | None) -> int:
    """Runs the interface to its end. `report` is told when it is ready, or why not."""
    from tunnel.errors import TunnelError

    harden()
    calm_collector()
    _log_to_stderr(interface)
    try:
        with _running(interface) as engine:
            if report is not None:
                os.write(report, _READY)
                _detach(report)
                report = None
            engine.run()
    except TunnelError as error:
        text = f"tunnel-wg: {interface}: {error}\n"
        if report is not None:
            os.write(report, text.encode())
        else:
            sys.stderr.write(text)
        return error.exit_code
    return 0


@contextlib.contextmanager
def _running(interface: str) -> Iterator[Engine]:
    """The engine and its socket, ready for `wg`; closed on the way out."""
    from tunnel.engine import Engine
    from tunnel.io.tun import tun_from_fd
    from tunnel.state.model import InterfaceState

    tun_fd = _descriptor("WG_TUN_FD")
    tun = tun_from_fd(tun_fd) if tun_fd is not None else None
    engine = Engine(InterfaceState(name=interface, workers=_workers()), tun=tun)
    with contextlib.closing(engine):
        # before the socket, by which others know that there is somebody to signal
        for signum in (signal.SIGTERM, signal.SIGINT):
            engine.loop.on_signal(signum, engine.loop.stop)
        server = _uapi(engine)
        with contextlib.closing(server):
            engine.start()
            yield engine


def _uapi(engine: Engine) -> UapiServer:
    from tunnel.api.uapi_server import UapiServer
    from tunnel.api.uapi_socket import bind_socket, socket_path

    name = engine.tun.name
    fd = _descriptor("WG_UAPI_FD")
    path = None if fd is not None else socket_path(name)
    listener = _listener(fd) if fd is not None else bind_socket(name)
    return UapiServer(
        engine.loop, engine.device, listener, path=path, on_gone=engine.loop.stop
    )


def _listener(fd: int) -> socket.socket:
    import socket

    from tunnel.errors import TunnelError

    try:
        found = socket.socket(fileno=fd)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listens = False
    if not listens:
        raise TunnelError(
            f"WG_UAPI_FD: descriptor {fd} is not a listening socket",
            hint="leave it out, and the socket is made",
        )
    return found


def _descriptor(variable: str) -> int | None:
    from tunnel.errors import TunnelError

    text = os.environ.get(variable)
    if not text:
        return None
    try:
        fd = int(text)
        os.fstat(fd)
    except (ValueError, OSError):
        raise TunnelError(f"{variable} is not an open descriptor") from None
    return fd


def _workers() -> int:
    from tunnel.errors import TunnelError
    from tunnel.workers import WORKERS_MAX, read_workers

    text = os.environ.get("TUNNEL_WORKERS", "auto")
    found = read_workers(text)
    if found is None:
        raise TunnelError(
            f"TUNNEL_WORKERS is {text[:20]!r}, which is not a number of workers",
            hint=f"set it to auto or a number of 1 to {WORKERS_MAX}",
        )
    return found


def _log_to_stderr(interface: str) -> None:
    import logging

    level = _LEVELS.get(os.environ.get("LOG_LEVEL", "").lower(), _LEVELS["error"])
    logging.basicConfig(
        level=level, format=f"%(levelname)s: ({interface}) %(asctime)s %(message)s"
    )


def _detach(report: int) -> None:
    """Lets go of the terminal; messages stay only if LOG_LEVEL asked for them."""
    os.close(report)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    chatty = os.environ.get("LOG_LEVEL", "silent").lower() != "silent"
    for fd in (0, 1) if chatty else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
