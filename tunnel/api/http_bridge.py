"""From the HTTP thread into the control thread and back.

Whatever touches the tunnel is one callable that runs there as a whole, so that the
check of a precondition and the change it protects cannot be separated. The control
thread never waits for HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from tunnel.api.http_snapshot import Snapshots, look
from tunnel.api.problems import Refusal, refusal_of
from tunnel.errors import TunnelError

__all__ = ["Bridge", "Runner"]

T = TypeVar("T")

_TIMEOUT = 15.0


class Runner(Protocol):
    """What HTTP needs of an engine."""

    @property
    def device(self) -> Any: ...

    def submit(self, function: Callable[[], T]) -> Future[T]: ...


class Discardable(Protocol):
    """A prepared change: applied, or discarded."""

    def discard(self) -> None: ...


P = TypeVar("P", bound=Discardable)


class Bridge:
    """Asks the control thread, and knows the entity tags of its generations."""

    def __init__(self, engine: Runner, manager: Any) -> None:
        self.engine = engine
        self.manager = manager
        # a tag of an earlier process must not match the same generation of this one
        self._instance = secrets.token_hex(4)
        self.snapshots = Snapshots(
            lambda: self.ask(lambda: look(engine.device, manager)),
            lambda: int(engine.device.generation),
        )

    async def ask(self, function: Callable[[], T], *, within: float | None = None) -> T:
        """The result of `function`, run in the control thread; Refusal when it says
        no, or takes longer than `within` seconds."""
        return await self._outcome(self.engine.submit(function), within)

    async def change(self, function: Callable[[], T]) -> T:
        """The same for what changes something: nobody sees what was before."""
        try:
            return await self.ask(function)
        finally:
            self.snapshots.forget()

    async def prepared(
        self,
        prepare: Callable[[], P],
        act: Callable[[P], T],
        *,
        record: str = "",
    ) -> T:
        """The result of `act`, in the control thread, on what `prepare` made before in
        the manager's helper thread: that one reads files and resolves names.

        With `record` it is a change, and a failure to prepare is a failed one from
        that source.
        """
        future: Future[T] = Future()

        def follow(outcome: Future[P]) -> None:
            if not future.set_running_or_notify_cancel():  # it took too long
                if outcome.exception() is None:
                    outcome.result().discard()
                return
            try:
                future.set_result(self._use(outcome, act, record))
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller
                future.set_exception(error)

        self.engine.submit(lambda: self.manager.background(prepare, follow))
        try:
            return await self._outcome(future, None)
        finally:
            if record:
                self.snapshots.forget()

    async def begun(
        self,
        begin: Callable[[Callable[[Exception | None], None]], None],
        result: Callable[[], T],
    ) -> T:
        """The result of `result`, in the control thread, when what `begin` begins there
        has ended; `begin` gets whom to tell of that, with an error if it is one. It
        goes on when nobody waits for the answer any more, begun or not."""
        future: Future[T] = Future()

        def ended(error: Exception | None) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if error is not None:
                    raise error
                future.set_result(result())
            except Exception as failure:  # noqa: BLE001 - it belongs to the caller
                future.set_exception(failure)

        def start() -> None:
            try:
                begin(ended)
            except Exception as error:  # noqa: BLE001 - as above
                ended(error)

        self.engine.submit(start)
        try:
            return await self._outcome(future, None)
        finally:
            self.snapshots.forget()

    def _use(self, outcome: Future[P], act: Callable[[P], T], record: str) -> T:
        """What the manager refuses, it has recorded and discarded."""
        error = outcome.exception()
        if error is not None:
            if record and isinstance(error, Exception):
                raise self.manager.history.refused(
                    error, record, time.perf_counter(), self.engine.device.generation
                )
            raise error
        prepared = outcome.result()
        try:
            return act(prepared)
        except Refusal:  # a precondition
            prepared.discard()
            raise

    async def _outcome(self, future: Future[T], within: float | None) -> T:
        try:
            return await asyncio.wait_for(
                asyncio.wrap_future(future), within or _TIMEOUT
            )
        except TunnelError as error:
            raise refusal_of(error) from error
        except TimeoutError as error:
            # what has not begun was cancelled; what runs goes on
            raise Refusal(
                504,
                "timeout",
                "the tunnel did not answer in time",
                "a change may still happen: look at /state",
            ) from error

    def etag(self, generation: int) -> str:
        """Names a configuration, not the counters shown beside it."""
        return f'"{self._instance}.{generation}"'

    def check(self, if_match: str | None) -> None:
        """In the control thread: Refusal unless the configuration is the expected."""
        if if_match is None:
            return
        current = self.etag(self.engine.device.generation)
        wanted = [tag.strip() for tag in if_match.split(",")]
        if "*" in wanted or current in wanted:
            return
        raise Refusal(
            412,
            "generation-changed",
            "the configuration is not the one that If-Match names",
            "read it again, then repeat the change",
            headers={"etag": current},
        )
