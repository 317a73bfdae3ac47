"""A thousand peers that our engine calls do not answer, and then they all do.

`hub`'s engine is the initiator: every peer has an endpoint and a persistent keepalive,
and nobody is there. One socket then plays all of them (clients.py has their addresses)
and answers from one moment on. The calls should come spread, not all at one instant,
and the stream of an established peer should not notice.
"""

from __future__ import annotations

import os
import select
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from lab.engines import EngineKind, Identity
from lab.process import LabError

from side_by_side.clients import INSIDE, OUTSIDE, PORT, nth, pktinfo, players_socket
from side_by_side.figures import Figure, Samples
from side_by_side.reconnect import BEFORE_S, LEAST_S, RAMP_S, Meter, office, stream
from tunnel.constants import MESSAGE_INITIATION_SIZE, MESSAGE_RESPONSE_SIZE
from tunnel.protocol import noise
from tunnel.protocol.cookie import mac1_key
from tunnel.protocol.messages import Initiation, Response, unpack
from tunnel.protocol.primitives import mac

__all__ = ["OUTAGE_FIGURES", "PEERS", "Responders", "outage"]

PEERS = 1000
KEEPALIVE_S = 25
AWAY_S = 7.0  # two calls of everybody
WITHIN_S = 15.0
SLICE_S = 0.01
_MACS = 32
_IP_PKTINFO = 8


@dataclass(slots=True)
class Responders:
    """Everybody behind one socket; number `n` is at the n-th address of OUTSIDE."""

    sock: socket.socket
    initiator: bytes  # its public key
    identities: Sequence[noise.Identity]
    called: dict[int, float] = field(default_factory=dict)  # when first answered
    heard: set[int] = field(default_factory=set)  # whose session is in use

    def run(self, seconds: float) -> float:
        """Answers until everybody's session is in use, or for `seconds`; seconds from
        the first call to then."""
        self._throw_away()
        end = time.perf_counter() + seconds
        last = 0.0
        while len(self.heard) < len(self.identities):
            left = end - time.perf_counter()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                break
            with suppress(BlockingIOError):
                while True:
                    data, control, _, where = self.sock.recvmsg(2048, 256)
                    last = time.perf_counter()
                    self._take(data, control, where, last)
        return last - min(self.called.values(), default=last)

    def _throw_away(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self.sock.recv(2048)

    def _take(
        self,
        data: bytes,
        control: list[tuple[int, int, bytes]],
        where: tuple[str, int],
        now: float,
    ) -> None:
        # in_pktinfo: interface, our address for the answer, the address it was sent to
        number = int.from_bytes(control[0][2][8:12], "big") - _FIRST
        if len(data) == MESSAGE_INITIATION_SIZE and data[0] == 1:
            self.called.setdefault(number, now)
            answer = response(self.identities[number - 1], self.initiator, data)
            with suppress(BlockingIOError):
                self.sock.sendmsg([answer], pktinfo(nth(OUTSIDE, number)), 0, where)
        elif data[0] == 4 and number in self.called:
            self.heard.add(number)


_FIRST = int.from_bytes(socket.inet_aton(nth(OUTSIDE, 0)), "big")


def response(identity: noise.Identity, initiator: bytes, data: bytes) -> bytes:
    """What `identity` answers to an initiation of `initiator`."""
    message = unpack(data)
    if not isinstance(message, Initiation):
        raise LabError("what came is not an initiation")
    remote = noise.Remote(initiator)
    fields = noise.InitiationFields(*message[1:])
    consumed = noise.consume_initiation(
        identity, fields, lambda key: remote if key == initiator else None
    )
    answer, _ = noise.create_response(consumed, None, os.urandom(32))
    body = Response(1, message.sender, *answer).pack()
    assert len(body) + _MACS == MESSAGE_RESPONSE_SIZE
    return body + mac(mac1_key(initiator), body) + bytes(16)


def most_at_once(times: Sequence[float], width: float) -> int:
    """The most of them that lie within `width` of each other."""
    ordered, most, first = sorted(times), 0, 0
    for last, when in enumerate(ordered):
        while when - ordered[first] > width:
            first += 1
        most = max(most, last - first + 1)
    return most


def outage(kind: EngineKind, count: int = PEERS) -> Samples:
    """See OUTAGE_FIGURES."""
    identity = Identity.new()
    identities = [noise.Identity(os.urandom(32)) for _ in range(count)]
    with office(kind, identity, []) as found, ExitStack() as stack:
        sock = stack.enter_context(players_socket(found.clients))
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        meter = stack.enter_context(Meter(found.hub.host, found.hub.interface))
        stack.enter_context(stream(found, saturating=False))
        time.sleep(RAMP_S + BEFORE_S)
        start = time.perf_counter()
        found.hub.wg(
            "addconf", found.hub.interface, "/dev/stdin", text=peers(identities)
        )
        time.sleep(AWAY_S)
        public = b64decode(identity.public_key)
        responders = Responders(sock, public, identities)
        back = time.perf_counter()
        seconds = responders.run(WITHIN_S)
        end = time.perf_counter()
        time.sleep(LEAST_S)
        before = meter.rate(start - BEFORE_S, start)
        times = sorted(responders.called.values()) or [back]
        return {
            "outage.called": 100 * len(responders.called) / count,
            "outage.heard": 100 * len(responders.heard) / count,
            "outage.spread": 1e3
            * (max(times, default=back) - min(times, default=back)),
            "outage.at_once": 100 * most_at_once(times, SLICE_S) / count,
            "outage.seconds": seconds,
            "outage.share": 100 * meter.rate(start, end) / before,
            "outage.gap": 1e3 * meter.longest_gap(start, end),
        }


def peers(identities: Sequence[noise.Identity]) -> str:
    """For `wg addconf`: everybody with an endpoint and a persistent keepalive."""
    lines = []
    for number, identity in enumerate(identities, 1):
        lines += ["[Peer]", f"PublicKey = {b64encode(identity.public).decode()}"]
        lines += [f"AllowedIPs = {nth(INSIDE, number)}/32"]
        lines += [f"Endpoint = {nth(OUTSIDE, number)}:{PORT}"]
        lines += [f"PersistentKeepalive = {KEEPALIVE_S}"]
    return "\n".join([*lines, ""])


OUTAGE_FIGURES = (
    Figure("outage.called", "peers called after the outage", "%", 1),
    Figure("outage.heard", "sessions in use", "%", 1),
    Figure("outage.spread", "from first call to last", "ms", 0),
    Figure("outage.at_once", "calls in the fullest 10 ms", "%", 1, False),
    Figure("outage.seconds", "first call to last session", "s", 2, False),
    Figure("outage.share", "stream meanwhile, of before", "%", 0),
    Figure("outage.gap", "its longest silence", "ms", 0, more_is_better=False),
)
