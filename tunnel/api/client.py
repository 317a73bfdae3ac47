"""The other end of a UAPI socket: asks a running tunnel, ours or another engine's."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any, Self

from tunnel.api.uapi_socket import run_directory, socket_path
from tunnel.errors import NotPermitted, TunnelError, UapiError

__all__ = ["UapiClient", "interfaces"]

_TIMEOUT = 10.0
_CONTROL_TIMEOUT = 60.0  # names may have to be resolved first


def interfaces() -> list[str]:
    """Names of the interfaces whose socket somebody listens on, sorted. Sockets that we
    may not open count too; what a killed engine left behind does not."""
    directory = run_directory()
    try:
        with os.scandir(directory) as entries:
            paths = sorted(Path(e.path) for e in entries if e.name.endswith(".sock"))
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise NotPermitted(f"cannot look into {directory}", hint="use sudo") from error
    except (OSError, ValueError) as error:
        raise TunnelError(
            f"cannot look into {directory}: {getattr(error, 'strerror', error)}",
            hint="set TUNNEL_RUN_DIR to the directory with the control sockets",
        ) from error
    return [path.stem for path in paths if _listens(path)]


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(path))
    return code not in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK)


class UapiClient:
    """One connection; requests and answers are the text between the blank lines."""

    def __init__(self, interface: str) -> None:
        """Raises TunnelError when nobody answers, NotPermitted when we may not ask."""
        self.interface = interface
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT)
        try:
            self._socket.connect(str(socket_path(interface)))
        except PermissionError as error:
            self._socket.close()
            raise NotPermitted(
                f"{interface}: its control socket belongs to another user",
                hint="use sudo, or the user who started the tunnel",
            ) from error
        except OSError as error:
            self._socket.close()
            raise TunnelError(
                f"{interface}: no tunnel answers on its control socket",
                hint="is it running? start one with: tunnel up",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, text: str) -> list[tuple[str, str]]:
        """Sends one operation; returns the answer's `key=value` lines without errno.

        Raises UapiError with the errno of a refusal.
        """
        pairs = self._exchange(text.encode())
        try:
            code = abs(int(dict(pairs).get("errno", "0")))
        except ValueError as error:
            raise self._nonsense() from error
        if code:
            raise UapiError(code, f"{self.interface}: {os.strerror(code)}")
        return [pair for pair in pairs if pair[0] != "errno"]

    def control(self, do: str, **values: object) -> Any:
        """Asks a tunnel of this program (see `control.py`); returns its result.

        Raises TunnelError with the message, hint and exit code of a refusal.
        """
        self._socket.settimeout(_CONTROL_TIMEOUT)
        line = json.dumps({"do": do, **values})
        answer = dict(self._exchange(f"tunnel=1\n{line}\n\n".encode()))
        if "result" in answer:
            return json.loads(answer["result"])
        if "error" not in answer:
            raise TunnelError(
                f"{self.interface} was not started by tunnel up",
                hint="wg set and wg syncconf change it",
            )
        refusal = json.loads(answer["error"])
        refused = TunnelError(refusal["message"], hint=refusal["hint"])
        refused.exit_code = refusal["exit_code"]
        raise refused

    def _exchange(self, request: bytes) -> list[tuple[str, str]]:
        """Raises TunnelError for everything that can go wrong on the way."""
        try:
            self._socket.sendall(request)
            answer = self._receive().decode()
        except TimeoutError as error:
            raise TunnelError(
                f"{self.interface}: no answer in {self._socket.gettimeout():g} s",
                hint="a change may still happen: see tunnel history",
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise TunnelError(f"{self.interface}: the tunnel hung up: {reason}") from (
                error
            )
        except UnicodeDecodeError as error:
            raise self._nonsense() from error
        return [
            (key, value)
            for key, _, value in (line.partition("=") for line in answer.split("\n"))
            if key
        ]

    def _nonsense(self) -> TunnelError:
        return TunnelError(
            f"{self.interface}: its socket answers something else than WireGuard does"
        )

    def _receive(self) -> bytes:
        received = bytearray()
        while not received.endswith(b"\n\n"):
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise TunnelError(f"{self.interface}: the tunnel hung up")
            received += chunk
        return bytes(received)
