"""The packet path in plain Python: one packet at a time, one thread, no descriptors.

The same contract as `tunnel._fastpath.pump.Path`, for the protocol's tests. It posts
an event for each packet that calls for one, where the pump may leave some out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel.constants import (
    MAX_STAGED_PACKETS,
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
)
from tunnel.protocol.messages import DataHeader
from tunnel.protocol.path import PathEvent
from tunnel.protocol.types import Source, Timing, elapsed

PathEndpoint = tuple[bytes, int, int]


def nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


@dataclass(eq=False)
class SimpleKeypair:
    local_index: int
    remote_index: int
    send_key: bytes
    receive_key: bytes
    created: int
    initiator: bool
    awaiting_confirmation: bool
    send_counter: int = 0
    sending_valid: bool = True
    seen: set[int] = field(default_factory=set)

    @property
    def confirmed(self) -> bool:
        return not self.awaiting_confirmation

    def invalidate_sending(self) -> None:
        self.sending_valid = False

    def seal(self, payload: bytes) -> bytes:
        header = DataHeader(self.remote_index, self.send_counter).pack()
        sealed = ChaCha20Poly1305(self.send_key).encrypt(
            nonce(self.send_counter), payload, None
        )
        self.send_counter += 1
        return header + sealed


class SimplePath:
    """`clock` gives now; `transmit(data, endpoint)` puts a datagram on the wire."""

    def __init__(
        self,
        timing: Timing,
        clock: Callable[[], int],
        transmit: Callable[[bytes, PathEndpoint], None],
        post: Callable[[SimplePath, PathEvent], None],
        keypairs: dict[int, tuple[SimplePath, SimpleKeypair]],
    ) -> None:
        self._timing = timing
        self._clock = clock
        self._transmit = transmit
        self._post = post
        self._keypairs = keypairs
        self._quiet = PathEvent(0)
        self.token: object = None
        self.sending: SimpleKeypair | None = None
        self.staged_packets: list[bytes] = []
        self.delivered: list[bytes] = []
        self.unanswered_since = 0
        self.unreplied_since = 0
        self.unreplied_again = False
        self.last_sent = 0
        self.last_received = 0
        self.rx_bytes = 0
        self.tx_bytes = 0
        self.purged = 0
        self.endpoint: PathEndpoint | None = None
        self.source: Source | None = None
        self.expected_cookie: tuple[int, bytes, bytes] | None = None

    # --- the packet path itself

    def _usable(self) -> SimpleKeypair | None:
        k, now = self.sending, self._clock()
        if k is None or not k.sending_valid:
            return None
        if elapsed(k.created, now) >= self._timing.reject_after_time:
            return None
        return k if k.send_counter < REJECT_AFTER_MESSAGES else None

    def send(self, payload: bytes) -> None:
        """A packet from the TUN."""
        self.staged_packets = [*self.staged_packets, payload][-MAX_STAGED_PACKETS:]
        self.flush(keepalive=False)

    def _send_one(self, k: SimpleKeypair, payload: bytes) -> None:
        assert self.endpoint is not None
        data = k.seal(payload)
        self._sent(len(data), data=bool(payload))
        self._transmit(data, self.endpoint)
        age = elapsed(k.created, self._clock())
        if k.send_counter > REKEY_AFTER_MESSAGES or (
            k.initiator and age >= self._timing.rekey_after_time
        ):
            self._post(self, PathEvent.REKEY)

    def _sent(self, size: int, *, data: bool) -> None:
        self.last_sent = self._clock()
        self.unreplied_since = 0
        self.tx_bytes += size
        if data and not self.unanswered_since:
            self.unanswered_since = self.last_sent
            self.tell_once(PathEvent.UNANSWERED)

    def tell_once(self, event: PathEvent) -> None:
        if not self._quiet & event:
            self._quiet |= event
            self._post(self, event)

    def receive(
        self,
        k: SimpleKeypair,
        data: bytes,
        endpoint: PathEndpoint,
        source: Source | None,
    ) -> None:
        """A data message for keypair `k`."""
        now = self._clock()
        if elapsed(k.created, now) >= self._timing.reject_after_time:
            return
        counter = int.from_bytes(data[8:16], "little")
        try:
            plain = ChaCha20Poly1305(k.receive_key).decrypt(
                nonce(counter), data[16:], None
            )
        except InvalidTag:
            return
        if counter in k.seen:
            return
        k.seen.add(counter)
        self._authenticated(k, len(data), plain, endpoint, source)

    def _authenticated(
        self,
        k: SimpleKeypair,
        size: int,
        plain: bytes,
        endpoint: PathEndpoint,
        source: Source | None,
    ) -> None:
        now = self._clock()
        if self.endpoint != endpoint:
            self._post(self, PathEvent.ROAMED)
        self.endpoint, self.source = endpoint, source
        if k.awaiting_confirmation:
            k.awaiting_confirmation = False
            self._post(self, PathEvent.CONFIRMED)
        if k.initiator and elapsed(k.created, now) >= self._timing.last_minute:
            self._post(self, PathEvent.LAST_MINUTE)
        self.rx_bytes += size
        self.last_received = now
        self.unanswered_since = 0
        if plain:
            self.delivered.append(plain)
            if self.unreplied_since:
                self.unreplied_again = True
            else:
                self.unreplied_since = now
                self.tell_once(PathEvent.UNREPLIED)

    # --- the interface of pump.pyi

    @property
    def staged(self) -> int:
        return len(self.staged_packets)

    def set_endpoint(self, endpoint: PathEndpoint | None) -> None:
        self.endpoint, self.source = endpoint, None

    def clear_source(self) -> None:
        self.source = None

    def forget_source(self) -> None:
        self.source = None

    def note_sent(self, now: int, size: int) -> None:
        assert now == self._clock()
        self._sent(size, data=False)

    def note_received(
        self,
        now: int,
        size: int,
        endpoint: PathEndpoint | None,
        source: Source | None,
    ) -> None:
        self.last_received = now
        self.unanswered_since = 0
        self.rx_bytes += size
        if endpoint is not None:
            self.endpoint, self.source = endpoint, source

    def check_unanswered(self) -> int:
        if not self.unanswered_since:
            self._quiet &= ~PathEvent.UNANSWERED
        return self.unanswered_since

    def clear_unanswered(self) -> None:
        self.unanswered_since = 0
        self._quiet &= ~PathEvent.UNANSWERED

    def check_unreplied(self) -> tuple[int, bool]:
        if not self.unreplied_since:
            self._quiet &= ~PathEvent.UNREPLIED
        return self.unreplied_since, self.unreplied_again

    def clear_unreplied(self) -> None:
        self.unreplied_since = 0
        self._quiet &= ~PathEvent.UNREPLIED

    def clear_unreplied_again(self) -> None:
        self.unreplied_again = False

    def add_keypair(
        self,
        local_index: int,
        remote_index: int,
        send_key: bytes,
        receive_key: bytes,
        *,
        created: int,
        initiator: bool,
        await_confirmation: bool,
    ) -> SimpleKeypair:
        k = SimpleKeypair(
            local_index,
            remote_index,
            send_key,
            receive_key,
            created,
            initiator,
            await_confirmation,
        )
        assert local_index not in self._keypairs
        self._keypairs[local_index] = self, k
        return k

    def own_index(self, index: int) -> int:
        return index

    def expect_cookie(self, index: int, mac1: bytes, key: bytes) -> None:
        self.expected_cookie = index, mac1, key

    def expect_no_cookie(self) -> None:
        self.expected_cookie = None

    def use_for_sending(self, keypair: SimpleKeypair | None) -> None:
        assert keypair is None or keypair.local_index in self._keypairs
        self.sending = keypair

    def drop_keypair(self, keypair: SimpleKeypair) -> None:
        del self._keypairs[keypair.local_index]
        if self.sending is keypair:
            self.sending = None

    def flush(self, *, keepalive: bool) -> None:
        packets, self.staged_packets = self.staged_packets, []
        if not packets and keepalive:
            packets = [b""]
        while packets and (k := self._usable()) is not None:
            self._send_one(k, packets.pop(0))
        if packets:
            self.staged_packets = [packet for packet in packets if packet]
            self._post(self, PathEvent.NEEDS_SESSION)

    def purge_staged(self) -> None:
        self.purged += len(self.staged_packets)
        self.staged_packets = []
