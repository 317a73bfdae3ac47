"""What a host has refused for its own reasons, not for those of the engine."""

from __future__ import annotations

from pathlib import Path

from lab.pair import PORT, End

__all__ = ["excused"]

OURS = {"ours", "fast-rekey"}


def excused(sender: End, receiver: End) -> int:
    """Datagrams that the receiving host refused, for which our engine cannot be blamed.

    Some engines keep the system's 208 KiB for their socket, which 92 full datagrams
    fill: on a busy machine that is less than they wait for the CPU. And newer
    wireguard-go sends a UDP checksum that comes to zero as it is (one in 65,536), which
    an IPv6 host has to refuse; test_checksums.py holds ours to it.
    """
    snmp, snmp6, udp, udp6 = (
        Path(f"/proc/{receiver.host.pid}/net/{name}").read_text().splitlines()
        for name in ("snmp", "snmp6", "udp", "udp6")
    )
    heads, values = (line.split() for line in snmp if line.startswith("Udp:"))
    found = {name: int(value) for name, value in map(str.split, snmp6)}
    total = int(values[heads.index("RcvbufErrors")]) + found["Udp6RcvbufErrors"]
    if sender.engine.kind.name not in OURS:
        total += found["Udp6InCsumErrors"]
    if receiver.engine.kind.name in OURS:
        rows = [line.split() for line in (*udp[1:], *udp6[1:])]
        total -= sum(int(row[-1]) for row in rows if row[1].endswith(f":{PORT:04X}"))
    return total
