"""Connections: who gets one, how long it may be silent, and what happens when all are
taken, or all descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
import uvicorn

from tunnel.api import http_accept, http_bridge
from tunnel.api.http import HttpServer, guarded
from tunnel.api.http_accept import Acceptor
from tunnel.api.http_log import Forward, log_like_us
from tunnel.api.http_protocol import Limits, ProblemProtocol
from tunnel.api.http_sockets import listen

from .rig import TOKEN, Tunnel, document, free_port

LONG = 900.0
PATIENT = Limits(request=LONG, idle=900, answer=LONG)
ASK = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BODY = (
    b"POST /api/confirm HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
)


class Served:
    """A tunnel and its API with other limits, on all addresses of 127.0.0.0/8 but only
    for the first."""

    def __init__(self, directory: Path) -> None:
        management = {"bind": "127.0.0.1:1", "acl": ["127.0.0.1/32"]}
        self.tunnel = Tunnel(directory, document() | {"management": management})
        self.server: HttpServer | None = None

    def start(self, limits: Limits) -> HttpServer:
        engine, manager = self.tunnel.engine, self.tunnel.manager
        listener = listen(f"0.0.0.0:{free_port()}")
        self.port = listener.getsockname()[1]
        app = guarded(engine, manager, token=TOKEN, bind="0.0.0.0:1")
        self.server = HttpServer(app, listener, limits)
        return self.server

    def connect(self, source: str = "127.0.0.1", send: bytes = b"") -> socket.socket:
        client = socket.create_connection(
            ("127.0.0.1", self.port), 10, source_address=(source, 0)
        )
        client.sendall(send)
        return client

    def get(self, path: str = "/healthz") -> int:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, timeout=20).status_code

    def has_room(self) -> bool:
        try:
            return self.get() == 200
        except httpx.TransportError:  # turned away before all of it was sent
            return False

    @property
    def connections(self) -> set[Any]:
        assert self.server is not None
        return set(self.server._server.server_state.connections)

    @property
    def answering(self) -> list[Any]:
        return [c for c in self.connections if c.cycle and c.waiting_since is None]

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        self.tunnel.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.close()


def everything(client: socket.socket) -> bytes:
    """What comes until its end, which a reset is too."""
    found = b""
    with client, contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 16):
            found += data
    return found


def refusal(answer: bytes) -> tuple[int, str]:
    """Status and code of a whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert f"content-length: {len(body)}".encode() in head
    return int(head.split()[1]), json.loads(body)["code"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- who gets one


def test_silent_connections_do_not_keep_others_out(served: Served) -> None:
    """What waits longest for its client makes room."""
    served.start(PATIENT)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(served.connect()) for _ in range(140)]
        assert served.get() == 200
        assert len(served.connections) <= 128
        assert everything(silent[0]) == b""
        silent[-1].sendall(ASK)
        assert silent[-1].recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_foreign_addresses_hold_no_connection(served: Served) -> None:
    served.start(PATIENT)
    with contextlib.ExitStack() as stack:
        foreign = [stack.enter_context(served.connect("127.0.0.2")) for _ in range(140)]
        assert served.get() == 200
        assert {one.client[0] for one in served.connections} <= {"127.0.0.1"}
        for one in foreign:
            assert refusal(everything(one)) == (403, "address-not-allowed")


def test_nobody_whose_request_is_answered_makes_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bridge, "_TIMEOUT", LONG)
    served.start(Limits(connections=2, request=LONG, answer=LONG))
    go_on = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.callback(go_on.set)
        served.tunnel.engine.submit(go_on.wait)
        ask = ASK.replace(b"readyz", b"state")
        asked = [stack.enter_context(served.connect(send=ask)) for _ in range(2)]
        wait_for(lambda: len(served.answering) == 2)
        assert refusal(everything(served.connect())) == (503, "busy")
        go_on.set()
        for client in asked:
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    wait_for(served.has_room)


# --- how long it may be silent


@pytest.mark.parametrize(
    "begun", [b"", ASK[:-2], BODY + b"x"], ids=["silent", "head", "body"]
)
def test_a_request_has_to_come(served: Served, begun: bytes) -> None:
    served.start(Limits(request=0.05, idle=900, answer=LONG))
    assert everything(served.connect(send=begun)) == b""


def test_answers_have_to_be_fetched(served: Served) -> None:
    served.start(Limits(request=LONG, idle=900, answer=0.2))
    ask = ASK.replace(b"readyz", b"openapi.json")
    with served.connect() as greedy:
        greedy.setblocking(False)
        with contextlib.suppress(OSError):  # until nothing fits any more
            while True:
                greedy.send(ask)
        wait_for(lambda: not served.connections)


class Clockwork:
    """The loop of a protocol: what it is to call, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delays: list[float] = []

    def time(self) -> float:
        self.now += 1
        return self.now

    def call_later(self, delay: float, _: Any) -> Any:
        self.delays.append(delay)
        return asyncio.TimerHandle(0, lambda: None, (), self)  # type: ignore[arg-type]

    def create_task(self, coroutine: Any) -> Any:
        coroutine.close()
        return self

    def add_done_callback(self, _: Any) -> None: ...

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _: Any) -> None: ...


class Wire(asyncio.Transport):
    """A transport that leads nowhere."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def silence(_: Any, __: Any, ___: Any) -> None:
    """An application."""


def answered(protocol: ProblemProtocol) -> None:
    headers = [("content-length", "0")]
    protocol.conn.send(h11.Response(status_code=200, headers=headers))
    protocol.conn.send(h11.EndOfMessage())
    protocol.cycle.response_complete = True
    protocol.on_response_complete()


def test_the_time_for_a_request_is_not_prolonged_by_drops() -> None:
    loop, limits = Clockwork(), Limits(request=1, idle=2, answer=3)
    config = uvicorn.Config(silence, timeout_keep_alive=2, log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    protocol = ProblemProtocol(config, state, {}, loop, limits=limits)
    protocol.connection_made(Wire())
    for byte in ASK[:-1]:
        protocol.data_received(bytes([byte]))
    assert loop.delays == [1]
    assert protocol.waiting_since == 1
    protocol.data_received(ASK[-1:])
    assert loop.delays == [1, 3]
    assert protocol.waiting_since is None
    answered(protocol)
    assert loop.delays == [1, 3, 3, 2]  # to be fetched; kept for another one
    assert protocol.waiting_since == 2
    for byte in ASK:
        protocol.data_received(bytes([byte]))
    assert loop.delays == [1, 3, 3, 2, 1, 3]
    protocol.data_received(ASK)  # too early, so it waits
    answered(protocol)
    assert protocol.waiting_since is None
    assert loop.delays == [1, 3, 3, 2, 1, 3, 3, 2, 3]


# --- descriptors, and what is said


class Exhausted:
    """A listener that finds no descriptor at first; counts how often it is asked."""

    def __init__(self, listener: socket.socket, refused: int) -> None:
        self._listener = listener
        self.asked = 0
        self._refused = refused

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.asked <= self._refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._listener.accept()


async def has_asked(listener: Exhausted, times: int) -> None:
    for _ in range(100_000):
        if listener.asked >= times:
            return
        await asyncio.sleep(0)


@pytest.mark.parametrize("rest", [0.001, LONG])
def test_without_descriptors_it_rests(
    rest: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks once and then not until the rest is over, however often that is."""
    monkeypatch.setattr(http_accept, "_REST_SECONDS", rest)
    caplog.set_level(logging.INFO, "tunnel.http")

    async def run() -> None:
        done = asyncio.Event()

        def refuses(_: Any) -> Any:
            done.set()
            return http_accept._BUSY

        with listen(f"127.0.0.1:{free_port()}") as real:
            listener: Any = Exhausted(real, 5)
            make: Any = None  # nobody is let in
            acceptor = Acceptor(
                listener, make=make, refuses=refuses, connections=set(), most=1
            )
            acceptor.start()
            with socket.create_connection(real.getsockname()[:2]):
                if rest == LONG:
                    for asked in range(1, 6):
                        await has_asked(listener, asked)
                        for _ in range(20):
                            await asyncio.sleep(0)
                        assert listener.asked == asked
                        acceptor.start()
                await asyncio.wait_for(done.wait(), 20)
            acceptor.stop()
            assert listener.asked == 7  # with the connection, and for a second one

    asyncio.run(run())
    assert [one.getMessage() for one in caplog.records] == [
        "the HTTP API cannot accept connections: Too many open files"
    ]


def test_the_words_of_others_are_few(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    forward = Forward(logging.WARNING, lambda: now[0])
    caplog.set_level(logging.INFO, "tunnel.http")
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "oh %d", (1,), None)
    for _ in range(1000):
        forward.handle(record)
    assert [one.getMessage() for one in caplog.records] == ["oh 1"] * 10
    caplog.clear()
    now[0] = 60.0
    forward.handle(record)
    assert [one.getMessage() for one in caplog.records] == [
        "990 messages of the HTTP server left out",
        "oh 1",
    ]


@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error"])
def test_our_event_loop_speaks_through_us(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with log_like_us():
        logging.getLogger(name).error("oh")
        logging.getLogger(name).info("hm")
    assert [(one.name, one.getMessage()) for one in caplog.records] == [
        ("tunnel.http", "oh")
    ]


@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error", "uvicorn.access"])
def test_the_loggers_of_the_process_are_left_alone(
    name: str, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """A program may have an event loop and a server of its own."""
    logger, handler = logging.getLogger(name), logging.NullHandler()
    logger.addHandler(handler)
    try:
        before = logger.handlers[:], logger.propagate, logger.level, logger.filters[:]
        server = served.start(PATIENT)
        wait_for(lambda: server._server.started)
        assert served.get() == 200
        assert (logger.handlers, logger.propagate, logger.level) == before[:3]
        logger.error("of another thread")
        server.close()
        assert (logger.handlers, logger.propagate, logger.level) == before[:3]
        assert logger.filters == before[3]
    finally:
        logger.removeHandler(handler)
    found = [one.getMessage() for one in caplog.records if one.name == name]
    assert found == ["of another thread"]
