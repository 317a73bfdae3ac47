"""A program that drives the packet path and the compiled helpers by their stubs."""

from __future__ import annotations

from tunnel._fastpath.aead import kernel_name, open_batch, seal_batch
from tunnel._fastpath.pump import Handshake, Path, PathEvent, Pump
from tunnel._fastpath.replay import ReplayVerdict, ReplayWindow
from tunnel.errors import DropReason


def round_trip(key: bytes, packets: list[bytes]) -> list[bytes | None]:
    sealed: list[bytes] = seal_batch(key, packets, range(len(packets)))
    name: str = kernel_name()
    print(name)
    return open_batch(key, sealed, range(len(packets)))


def judge(window: ReplayWindow, counter: int) -> ReplayVerdict:
    seen: bool = window.accept(counter)
    return ReplayVerdict.DUPLICATE if not seen else window.verdict(counter)


def move_prefix(pump: Pump, address: bytes, path: Path) -> int:
    transaction = pump.begin()
    owner: Path | None = transaction.insert_prefix(address, 32, path)
    if owner is path:
        transaction.abort()
    return transaction.commit()


def watch(pump: Pump) -> None:
    events, handshakes = pump.drain()
    for path, event in events:
        if event & PathEvent.NEEDS_SESSION:
            path.flush(keepalive=False)
    message: Handshake
    for message in handshakes:
        address, port, scope = message.endpoint
        print(address.hex(), port + scope)
    dropped: int = pump.counters()[f"drop.{DropReason.TX_NO_ROUTE.name.lower()}"]
    print(dropped)
