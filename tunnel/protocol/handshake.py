"""The handshake of one peer: what it keeps between messages, and what it refuses.

Messages go in and out as fields; sessions, timers and datagrams are Peer's business.
"""

from __future__ import annotations

from tunnel.protocol import noise
from tunnel.protocol.cookie import CookieJar
from tunnel.protocol.local import Local
from tunnel.protocol.messages import Response
from tunnel.protocol.primitives import KEY_SIZE, HandshakeError, PrivateKey
from tunnel.protocol.tai64n import Clock
from tunnel.protocol.together import Steps, run
from tunnel.protocol.types import elapsed

_NEVER = bytes(12)  # smaller than any timestamp


class Answer(noise.Redacted):
    """An authentic initiation with our ephemeral key; and the response, once made."""

    __slots__ = ("consumed", "ephemeral", "response")

    def __init__(self, consumed: noise.Consumed, ephemeral: PrivateKey) -> None:
        self.consumed = consumed
        self.ephemeral = ephemeral
        self.response: tuple[noise.ResponseFields, noise.SessionKeys] | None = None


class Completion(noise.Redacted):
    """What a response gives for the initiation that waited when it was looked at."""

    __slots__ = ("initiated", "result")

    def __init__(
        self,
        initiated: noise.Initiated | None,
        result: noise.SessionKeys | HandshakeError,
    ) -> None:
        self.initiated = initiated
        self.result = result


class Handshake:
    """At most one initiation of ours waits for its response."""

    __slots__ = (
        "_clock",
        "_initiated",
        "_last_consumed",
        "_latest_timestamp",
        "_local",
        "_prepared",
        "attempts",
        "index",
        "jar",
        "last_minute_done",
        "last_sent",
        "preshared_key",
        "remote",
    )

    def __init__(self, local: Local, public: bytes, psk: bytes | None) -> None:
        self._local = local
        self.remote = noise.Remote(public)
        self.jar = CookieJar(public)
        self.preshared_key = psk
        self._clock = Clock()
        self._initiated: noise.Initiated | None = None
        self._prepared: noise.Prepared | None = None  # for the next initiation
        self.index: int | None = None  # of the initiation that waits
        # both outlive sessions and the interface going down (R12)
        self._latest_timestamp = _NEVER
        self._last_consumed: int | None = None
        self.last_sent: int | None = None  # an initiation or a response (R17)
        self.attempts = 0
        self.last_minute_done = False  # R26, until the next session

    def __repr__(self) -> str:
        return f"<Handshake waiting={self._initiated is not None}>"

    def clear(self) -> None:
        """Forgets the initiation that waits, with its ephemeral key."""
        self._initiated = None
        if self.index is not None:
            self._local.indices.remove(self.index)
            self.index = None

    def prepare_steps(self, identity: noise.Identity) -> Steps[None]:
        """The curve's part of the next initiation, ahead of it."""
        self._prepared = yield from self._prepared_steps(identity)

    def unprepare(self) -> None:
        """There is to be no such initiation after all."""
        self._prepared = None

    def _prepared_steps(self, identity: noise.Identity) -> Steps[noise.Prepared]:
        ephemeral = self._local.random_bytes(KEY_SIZE)
        return noise.prepare_initiation_steps(identity, self.remote, ephemeral)

    def create_initiation(
        self, identity: noise.Identity, wall: int
    ) -> noise.InitiationFields:
        """A new one each time, in place of the one that waits (R18).

        The caller draws an index for it and keeps it in `index`.
        """
        self.clear()
        stamp = self._clock.stamp(wall)
        prepared = self._prepared or run(self._prepared_steps(identity))
        self._prepared = None  # an ephemeral key is used once
        fields, self._initiated = noise.write_initiation(
            identity, self.remote, stamp, prepared
        )
        return fields

    def refusal(self, consumed: noise.Consumed, now: int) -> str:
        """Why an authentic initiation is not admitted, "" if it is. Once there is a
        reason there will be one."""
        if consumed.timestamp <= self._latest_timestamp:
            return "stale_timestamp"
        gate = self._local.timing.initiation_flood_gate
        if self._last_consumed is not None and elapsed(self._last_consumed, now) < gate:
            return "flood"
        return ""

    def admit(self, consumed: noise.Consumed, now: int) -> None:
        """The last checks of an authentic initiation; then it is the latest one."""
        if reason := self.refusal(consumed, now):
            raise HandshakeError(reason)
        self._latest_timestamp = consumed.timestamp
        self._last_consumed = now

    def response_steps(
        self, answer: Answer
    ) -> Steps[tuple[noise.ResponseFields, noise.SessionKeys]]:
        return noise.create_response_steps(
            answer.consumed, self.preshared_key, answer.ephemeral
        )

    def completion_steps(
        self, identity: noise.Identity, message: Response
    ) -> Steps[Completion]:
        """Changes nothing."""
        initiated = self._initiated
        if initiated is None:
            return Completion(None, HandshakeError("not_expected"))
        fields = noise.ResponseFields(message.ephemeral, message.encrypted_nothing)
        try:
            keys = yield from noise.consume_response_steps(
                identity, initiated, fields, self.preshared_key
            )
        except HandshakeError as error:
            return Completion(initiated, error)
        return Completion(initiated, keys)

    def complete(
        self,
        identity: noise.Identity,
        message: Response,
        completion: Completion | None,
    ) -> noise.SessionKeys:
        """Changes nothing if the message is refused (R15, R16). `completion` may be
        one that was computed before."""
        if completion is None or completion.initiated is not self._initiated:
            completion = run(self.completion_steps(identity, message))
        if isinstance(completion.result, HandshakeError):
            raise completion.result
        self._initiated = None
        return completion.result
