"""Which queue of a TUN device, and which socket of a port, gets a packet.

The kernel left to itself learns the queue of a flow from our writes and changes it in
between, which reorders. An extended BPF program on the device keeps to a function of
the destination address (`queue_of`, lane_of_address in lane.c); a classic one on the
sockets of a port takes the receiver index, whose low byte names the worker.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from contextlib import suppress
from typing import Final

__all__ = ["queue_of", "steer_queues", "steer_sockets"]

# linux/if_tun.h, linux/bpf.h, asm-generic/socket.h
_TUNSETSTEERINGEBPF: Final = 0x800454E0
_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_LOAD: Final = 5
_BPF_PROG_TYPE_SOCKET_FILTER: Final = 1
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_ATTR: Final = struct.Struct("=IIQQIIQ72x")
_MIX: Final = 0x9E3779B1

_R0, _R6, _R7, _R1 = 0, 6, 7, 1


def queue_of(address: bytes, queues: int) -> int:
    """The queue on which packets to this address (4 or 16 bytes) are read."""
    words = struct.unpack(f">{len(address) // 4}I", address)
    mixed = 0
    for word in words:
        mixed ^= word
    return ((mixed * _MIX & 0xFFFFFFFF) >> 16) % queues


def steer_queues(tun_fd: int, queues: int) -> bool:
    """Puts the program on the device; False when the system does not let us, or cannot
    (it needs CAP_BPF, or CAP_SYS_ADMIN on older kernels)."""
    try:
        program = _load(_queue_program(queues))
    except OSError:
        return False
    try:
        fcntl.ioctl(tun_fd, _TUNSETSTEERINGEBPF, struct.pack("=i", program))
    except OSError:
        return False
    finally:
        os.close(program)
    return True


def steer_sockets(first: socket.socket, count: int) -> bool:
    """For `count` sockets bound to one port with SO_REUSEPORT, in the order of their
    workers. Without it the kernel chooses by the sender's address, and what comes to
    the wrong worker is handed over."""
    code = _socket_program(count)
    room = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(room))
    with suppress(OSError):
        first.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
        return True
    return False


def _op(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One instruction of extended BPF."""
    return struct.pack("=BBhI", code, to | of << 4, offset, value)


def _queue_program(queues: int) -> bytes:
    """By the XOR of the words of the destination, mixed; not IP at all: the first."""
    mix = (
        _op(0x24, _R0, value=_MIX)  # w0 *= mix
        + _op(0x74, _R0, value=16)  # w0 >>= 16
        + _op(0x94, _R0, value=queues)  # w0 %= queues
        + _op(0x95)  # exit
    )
    four = _op(0x20, value=16)  # r0 = word 16 of the packet
    six = _op(0x20, value=24) + _op(0xBF, _R7, _R0)
    for at in (28, 32, 36):
        six += _op(0x20, value=at) + _op(0xAF, _R7, _R0)  # r7 ^= word
    six += _op(0xBF, _R0, _R7)
    other = _op(0xB7, _R0) + _op(0x95)
    jumps = (len(six) + len(other)) // 8
    return (
        _op(0xBF, _R6, _R1)
        + _op(0x30, value=0)  # r0 = first byte
        + _op(0x77, _R0, value=4)
        + _op(0x15, _R0, offset=jumps + 2, value=4)  # to four
        + _op(0x15, _R0, offset=len(other) // 8, value=6)  # to six
        + other
        + six
        + _op(0x05, offset=len(four) // 8)  # to mix
        + four
        + mix
    )


def _load(program: bytes) -> int:
    """A descriptor of the program; OSError."""
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(0, "bpf() has a number that is not known here")
    code = ctypes.create_string_buffer(program, len(program))
    license_name = ctypes.create_string_buffer(b"MIT")
    attributes = ctypes.create_string_buffer(
        _ATTR.pack(
            _BPF_PROG_TYPE_SOCKET_FILTER,
            len(program) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_name),
            *(0, 0, 0),
        ),
        _ATTR.size,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(
        ctypes.c_long(number),
        ctypes.c_int(_BPF_PROG_LOAD),
        attributes,
        ctypes.c_uint(_ATTR.size),
    )
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(descriptor)


def _socket_program(count: int) -> bytes:
    """Classic BPF over the UDP payload: data messages by byte 4, others anywhere."""
    steps = (
        (0x20, 0, 0, 0),  # A = word 0, as if big endian
        (0x15, 0, 3, 0x04000000),  # a data message?
        (0x30, 0, 0, 4),  # A = low byte of the receiver index
        (0x94, 0, 0, count),  # A %= count
        (0x16, 0, 0, 0),  # return A
        (0x06, 0, 0, 0xFFFFFFFF),  # no socket has this number: the kernel chooses
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
