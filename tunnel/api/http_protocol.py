"""What the server answers by itself, as the problem documents of everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tunnel.api.auth import App, Receive, Scope, Send, answer
from tunnel.api.problems import Refusal

__all__ = ["ConnectionLimit", "ProblemProtocol"]

_MALFORMED: Final = Refusal(400, "bad-request", "this is not a valid HTTP request")
_BUSY: Final = Refusal(
    503, "busy", "too many connections", headers={"connection": "close"}
)


class ProblemProtocol(H11Protocol):
    """Answers a request that is none; what was in it is not repeated."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says it
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is under way already
            return
        body = _MALFORMED.body()
        headers = _MALFORMED.all_headers() | {
            "content-length": str(len(body)),
            "connection": "close",
        }
        for event in (
            h11.Response(status_code=_MALFORMED.status, headers=list(headers.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class ConnectionLimit:
    """Lets nobody through to `app` who comes when there are `most` connections.

    `connections` counts those there are, the one that asks among them.
    """

    def __init__(self, app: App, most: int, connections: Callable[[], int]) -> None:
        self._app = app
        self._most = most
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._connections() > self._most:
            await answer(send, _BUSY)
        else:
            await self._app(scope, receive, send)
