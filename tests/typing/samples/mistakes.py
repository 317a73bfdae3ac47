"""Misuse that a type checker must report: each marked line, and no other."""

from __future__ import annotations

from tunnel._fastpath.aead import seal_batch
from tunnel._fastpath.pump import Pump
from tunnel.errors import DropReason
from tunnel.state.model import DeviceState, PeerState, Secret
from tunnel.state.plan import diff

PeerState("a base64 string")  # wrong: arg-type
PeerState(bytes(32), preshared_key=bytes(32))  # wrong: arg-type
Secret("text")  # wrong: arg-type
DeviceState().listen_port = 51820  # wrong: misc
diff(DeviceState())  # wrong: call-arg
seal_batch("key", [b"packet"], [0])  # wrong: arg-type
Pump("/dev/net/tun")  # wrong: arg-type
DropReason.NO_SUCH_REASON  # wrong: attr-defined # noqa: B018
