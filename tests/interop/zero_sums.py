"""UDP datagrams over IPv6 whose checksum comes to zero: sent, or received and counted.

python zero_sums.py send FROM TO       ALONE datagrams, then a train of TRAIN
python zero_sums.py receive FROM AT    prints "ready", then how many came
"""

from __future__ import annotations

import socket
import struct
import sys

ALONE = 20
TRAIN = 8
PORT = 7100
UDP_SEGMENT = 103  # linux/udp.h


def payload_with_sum_zero(source: str, to: str) -> bytes:
    """Two bytes that bring the sum of pseudo header and datagram to 0xffff."""
    length = 10
    header = struct.pack(">4H", PORT, PORT, length, 0)
    addresses = (socket.inet_pton(socket.AF_INET6, each) for each in (source, to))
    pseudo = b"".join(addresses) + struct.pack(">2L", length, socket.IPPROTO_UDP)
    total = sum(struct.unpack(">24H", pseudo + header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", 0xFFFF - total)


def send(source: str, to: str) -> None:
    payload = payload_with_sum_zero(source, to)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.bind((source, PORT))
        sender.connect((to, PORT))
        for _ in range(ALONE):
            sender.send(payload)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(payload))
        sender.send(payload * TRAIN)


def receive(source: str, at: str) -> None:
    payload = payload_with_sum_zero(source, at)
    count = 0
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        receiver.bind((at, PORT))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        receiver.settimeout(10)
        while count < ALONE + TRAIN:
            try:
                data = receiver.recv(2048)
            except TimeoutError:
                break
            assert data == payload
            count += 1
            receiver.settimeout(5)
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](*sys.argv[2:])
