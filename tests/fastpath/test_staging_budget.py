"""What waits for sessions: a budget for all peers together, a little for each."""

from __future__ import annotations

from .rig import Rig, ipv4

PACKET = 1400
EACH = 128  # MAX_STAGED_PACKETS
HOARDERS = 64 * 2**20 // (EACH * PACKET) + 5  # MAX_STAGED_BYTES
ENDPOINT = (bytes([127, 0, 0, 1]), 9, 0)


def address(n: int) -> str:
    return f"10.1.{n >> 8}.{n & 255}"


def test_every_peer_may_stage_two_packets_whatever_the_others_have() -> None:
    payload = bytes(PACKET - 20)
    with Rig() as rig:
        paths = [rig.pump.add_peer(None) for _ in range(HOARDERS)]
        late, _ = rig.peer("10.9.9.9/32")
        with rig.pump.begin() as change:
            for n, path in enumerate(paths):
                path.set_endpoint(ENDPOINT)
                change.insert_prefix(bytes([10, 1, n >> 8, n & 255]), 32, path)
        for n in range(HOARDERS):
            for _ in range(EACH):
                rig.write(ipv4("10.0.0.1", address(n), payload))
        for _ in range(5):
            rig.write(ipv4("10.0.0.1", "10.9.9.9", payload))
        read = EACH * HOARDERS + 5
        rig.until(lambda: rig.pump.counters()["tun_read"] == read, 60)
        rig.until(lambda: late.staged == 2)
        staged = sum(path.staged for path in (*paths, late))
        assert staged == read - rig.pump.counters()["drop.tx_no_memory"]
        assert staged * PACKET < 64 * 2**20 + (HOARDERS + 1) * 2 * PACKET
