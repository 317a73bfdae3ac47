"""An engine in a thread of its own, beside an event loop: started, asked and stopped
from there. What it is asked for is the business of `tunnel.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tunnel.engine import Engine, system_network
from tunnel.errors import DeviceError
from tunnel.state.model import DeviceState

if TYPE_CHECKING:
    from tunnel.protocol.types import Timing

__all__ = ["ControlThread"]

T = TypeVar("T")


class ControlThread:
    """`desired` is called in the thread: what it raises, `start` raises."""

    def __init__(self, desired: Callable[[], DeviceState], timing: Timing | None):
        self._desired = desired
        self._timing = timing
        self._process = os.getpid()  # a child of `os.fork` has no such thread
        self._engine: Engine | None = None  # once it runs
        self._opened: Engine | None = None  # the thread's own, until it is closed
        self._unwanted = False  # closed, or its start was given up
        self._ended: asyncio.Future[None] | None = None
        self.thread: threading.Thread | None = None

    # --- in the event loop

    async def start(self) -> Engine:
        """Opens the interface and applies the configuration; raises if it cannot.

        When it is cancelled the thread stops by itself, as soon as what is under way
        is done; `close` waits for that.
        """
        if self.thread is not None:
            raise DeviceError("the tunnel was started before")
        loop = asyncio.get_running_loop()
        started: asyncio.Future[Engine] = loop.create_future()
        self._ended = loop.create_future()
        self._ended.add_done_callback(_retrieve)
        thread = threading.Thread(
            target=self._run,
            args=(_Once(loop, started), _Once(loop, self._ended)),
            name="tunnel-control",
            daemon=True,
        )
        thread.start()
        self.thread = thread
        try:
            self._engine = await started
        except BaseException:
            self._stop()
            raise
        return self._engine

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Runs `function(engine)` in the thread; DeviceError when it does not run."""
        engine = self._engine
        if engine is None or self._ended is None or self._ended.done():
            raise DeviceError("the tunnel is not running")
        answer = asyncio.wrap_future(engine.submit(lambda: function(engine)))
        answer.add_done_callback(_retrieve)  # who asked may be cancelled
        either: list[asyncio.Future[Any]] = [answer, self._ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            raise DeviceError("the tunnel ended")
        return answer.result()

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when the engine has ended; not to be cancelled."""
        assert self._ended is not None
        return self._ended

    async def wait(self) -> None:
        """Until the engine ends; raises what ended it, if that was a failure."""
        if self._ended is None:
            raise DeviceError("the tunnel is not running")
        await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Stops it, however far it has come, and gives everything back; idempotent."""
        if self.thread is not None and os.getpid() == self._process:
            self._stop()
            await asyncio.to_thread(self.thread.join)
        self._engine = None

    def _stop(self) -> None:
        self._unwanted = True
        engine = self._opened  # set before the thread looks at `_unwanted`
        if engine is not None:
            engine.stop()

    # --- the thread

    def _run(self, started: _Once[Engine], ended: _Once[None]) -> None:
        try:
            desired = self._desired()
            self._check_wanted()
            engine = Engine(
                desired.interface,
                network=system_network(desired),
                timing=self._timing,
            )
        except BaseException as error:  # noqa: BLE001 - start() raises it
            started.fail(error)
            ended.done(None)
            return
        self._opened = engine
        try:
            self._check_wanted()
            engine.start(desired)
            self._check_wanted()
            started.done(engine)
            engine.run()
        except BaseException as error:  # noqa: BLE001 - the caller's, not this thread's
            started.fail(error)
            ended.fail(error)
        finally:
            engine.close()
            self._opened = None
            ended.done(None)

    def _check_wanted(self) -> None:
        if self._unwanted:
            raise DeviceError("the tunnel was closed before it ran")


def _retrieve(future: asyncio.Future[Any]) -> None:
    """A failure nobody waits for is known to `call` and needs no warning."""
    if not future.cancelled():
        future.exception()


class _Once(Generic[T]):
    """The result of an asyncio future, set from another thread, the first time only.

    The event loop may be gone by then: nobody waits for the result any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]):
        self._loop = loop
        self._future = future

    def done(self, value: T) -> None:
        self._set(lambda: self._future.set_result(value))

    def fail(self, error: BaseException) -> None:
        self._set(lambda: self._future.set_exception(error))

    def _set(self, action: Callable[[], None]) -> None:
        def once() -> None:
            if not self._future.done():
                action()

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(once)
