"""A peer's timers as the kernel has them: five timers, touched for every packet.

The brute-force twin of the lazy timers, written after Linux drivers/net/wireguard
timers.c, send.c and receive.c. Work that the kernel queues (everything that sends)
happens after the function that queued it has returned. It differs from the kernel in
four places, each a choice of ours:

* a retransmission that comes too early (R17) is tried again when it is allowed, and
  by the end with the smaller key 5 s after that (R24);
* a persistent keepalive that could not be sent is tried again an interval later (R36);
* erasing all keys drops the packets that wait, too (R38);
* a keepalive that finds no session asks for one and is not itself kept waiting, and
  the keepalive or initiation of an expired timer does not cancel the timer that the
  same expiry sets (R34).
"""

from __future__ import annotations

from dataclasses import dataclass

from tunnel.protocol.types import Timing


@dataclass(eq=False)
class Key:
    born: int
    initiator: bool


class KernelPeer:
    """`trace` is what it sent: (time, kind)."""

    def __init__(
        self, timing: Timing, jitter: int, interval: int, now: int, *, yields: bool
    ) -> None:
        self.timing = timing
        self.yields = yields  # our public key is the smaller one
        self.jitter = jitter
        self.interval = interval
        self.now = now
        self.timer: dict[str, int] = {}
        self.attempts = 0
        self.need_another = False
        self.last_minute = False
        self.last_handshake: int | None = None
        self.initiation_waits = False
        self.previous: Key | None = None
        self.current: Key | None = None
        self.next: Key | None = None
        self.staged = 0
        self.trace: list[tuple[int, str]] = []

    # --- time

    def run(self, until: int) -> None:
        while due := [(at, name) for name, at in self.timer.items() if at <= until]:
            at, name = min(due)
            del self.timer[name]
            self.now = at
            getattr(self, f"expired_{name}")()
        self.now = until

    def arm(self, name: str, delay: int) -> None:
        self.timer[name] = self.now + delay

    # --- timers.c: expiry

    def expired_retransmit(self) -> None:
        if self.attempts > self.timing.max_timer_handshakes:
            self.timer.pop("send_keepalive", None)
            self.staged = 0
            if "zero_key_material" not in self.timer:
                self.arm("zero_key_material", 3 * self.timing.reject_after_time)
        elif not self.may_initiate():
            assert self.last_handshake is not None
            wait = self.timing.rekey_timeout * (2 if self.yields else 1)
            self.timer["retransmit"] = self.last_handshake + wait + self.jitter
        else:
            self.attempts += 1
            self.send_initiation(retry=True)

    def expired_send_keepalive(self) -> None:
        self.send_keepalive()
        if self.need_another:
            self.need_another = False
            self.arm("send_keepalive", self.timing.keepalive_timeout)

    def expired_new_handshake(self) -> None:
        self.send_initiation()

    def expired_zero_key_material(self) -> None:
        self.previous = self.current = self.next = None
        self.initiation_waits = False
        self.staged = 0

    def expired_persistent(self) -> None:
        self.arm("persistent", self.interval)
        self.send_keepalive()

    # --- timers.c: events

    def data_sent(self) -> None:
        if "new_handshake" not in self.timer:
            timing = self.timing
            delay = timing.keepalive_timeout + timing.rekey_timeout + self.jitter
            self.arm("new_handshake", delay)

    def data_received(self) -> None:
        if "send_keepalive" in self.timer:
            self.need_another = True
        else:
            self.arm("send_keepalive", self.timing.keepalive_timeout)

    def any_sent(self) -> None:
        self.timer.pop("send_keepalive", None)
        self.traversal()

    def any_received(self) -> None:
        self.timer.pop("new_handshake", None)
        self.traversal()

    def traversal(self) -> None:
        if self.interval:
            self.arm("persistent", self.interval)

    def complete(self) -> None:
        self.timer.pop("retransmit", None)
        self.attempts = 0
        self.last_minute = False

    def derived(self) -> None:
        self.arm("zero_key_material", 3 * self.timing.reject_after_time)

    # --- send.c

    def may_initiate(self) -> bool:
        last = self.last_handshake
        return last is None or self.now - last >= self.timing.rekey_timeout

    def send_initiation(self, *, retry: bool = False) -> None:
        if not retry:
            self.attempts = 0
        if not self.may_initiate():
            return
        self.last_handshake = self.now
        self.initiation_waits = True
        self.any_sent()
        self.trace.append((self.now, "initiation"))
        self.arm("retransmit", self.timing.rekey_timeout + self.jitter)

    def age(self, key: Key) -> int:
        return self.now - key.born

    def usable(self) -> Key | None:
        key = self.current
        if key is None or self.age(key) >= self.timing.reject_after_time:
            return None
        return key

    def keep_key_fresh(self, key: Key) -> None:
        if key.initiator and self.age(key) >= self.timing.rekey_after_time:
            self.send_initiation()

    def send_staged(self) -> None:
        if not self.staged:
            return
        key = self.usable()
        if key is None:
            self.send_initiation()
            return
        for _ in range(self.staged):
            self.any_sent()
            self.trace.append((self.now, "data"))
            self.data_sent()
        self.staged = 0
        self.keep_key_fresh(key)

    def send_keepalive(self) -> None:
        if self.staged:
            self.send_staged()
            return
        key = self.usable()
        if key is None:
            self.send_initiation()
            return
        self.any_sent()
        self.trace.append((self.now, "keepalive"))
        self.keep_key_fresh(key)

    def send_data(self) -> None:
        self.staged += 1
        self.send_staged()

    # --- receive.c and noise.c

    def receive_initiation(self) -> None:
        self.any_received()
        self.last_handshake = self.now
        self.initiation_waits = False
        self.next, self.previous = Key(self.now, initiator=False), None
        self.derived()
        self.any_sent()
        self.trace.append((self.now, "response"))

    def receive_response(self) -> None:
        if not self.initiation_waits:
            return
        self.initiation_waits = False
        if self.next is not None:
            self.previous, self.next = self.next, None
        else:
            self.previous = self.current
        self.current = Key(self.now, initiator=True)
        self.derived()
        self.complete()
        self.any_received()
        self.send_keepalive()

    def receive_data(self, key: Key, *, empty: bool) -> None:
        if self.age(key) >= self.timing.reject_after_time:
            return
        self.any_received()
        if not empty:
            self.data_received()
        if key is self.next:
            self.previous, self.current, self.next = self.current, key, None
            self.complete()
            self.send_staged()
        current = self.current
        if self.last_minute or current is None or not current.initiator:
            return
        timing = self.timing
        margin = timing.keepalive_timeout + timing.rekey_timeout
        if self.age(current) >= timing.reject_after_time - margin:
            self.last_minute = True
            self.send_initiation()
