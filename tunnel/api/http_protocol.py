"""One connection: what the server answers by itself, as the problem documents of
everything else, and how long it waits for its client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tunnel.api.problems import Refusal

__all__ = ["Limits", "ProblemProtocol"]

_MALFORMED: Final = Refusal(400, "bad-request", "this is not a valid HTTP request")
_INCOMPLETE: Final = (h11.IDLE, h11.SEND_BODY)
_ANSWERED: Final = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a server: how many connections, and seconds for a request to come whole (from
    the connection or its first byte on), to wait for the next one, and for an answer to
    be made and again to be fetched."""

    connections: int = 128
    request: float = 10
    idle: int = 20
    answer: float = 60


class ProblemProtocol(H11Protocol):
    """Answers a request that is none; what was in it is not repeated. Ends when its
    client takes longer than `limits`; `waiting_since` (of the loop's clock) is None
    while there is no transport and while a request is answered."""

    def __init__(self, *args: Any, limits: Limits | None = None, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.access_log = False
        self._limits = limits or Limits()
        self._deadline: asyncio.TimerHandle | None = None
        self._between = False  # two requests, of the second nothing has come
        self.waiting_since: float | None = None

    # --- waiting for the client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        self._within(self._limits.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._between:
            self._between = False
            self._within(self._limits.request)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self._between = True
        self.waiting_since = self.loop.time()
        self._within(self._limits.answer)  # to be fetched
        super().on_response_complete()  # and begins the next, if that has come
        self._look()

    def _look(self) -> None:
        """Is there a whole request now?"""
        come = self.conn.their_state not in _INCOMPLETE
        if self.waiting_since is None or not come or self.conn.our_state in _ANSWERED:
            return
        self._between = False
        self.waiting_since = None
        self._within(self._limits.answer)

    def _within(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    # --- what is no request

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
