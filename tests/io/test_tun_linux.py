"""Real TUN devices, each in a namespace of its own."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from lab.held import open_descriptors

from tunnel.errors import DeviceError, NotSupported
from tunnel.io import tun_default, tun_ioctl_linux
from tunnel.io.tun import open_tun, tun_from_fd
from tunnel.io.tun_ioctl_linux import set_offloads
from tunnel.io.tun_linux import LinuxTun

from .spaces import Space, new_space

pytestmark = pytest.mark.usefixtures("require_tun")

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x1000, 0x4000


@pytest.fixture
def tun(space: Space) -> Iterator[LinuxTun]:
    with space.inside():
        device = open_tun("wg0")
    assert isinstance(device, LinuxTun)
    yield device
    device.close()


def raw_tun(name: str, flags: int) -> int:
    """A descriptor as some other program would open it."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd


def read_packet(device: LinuxTun, timeout: float = 20) -> bytes:
    assert select.select([device], [], [], timeout)[0], "no packet in time"
    return os.read(device.fileno(), 65545)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_reply(request: bytes) -> bytes:
    """The answer to an IPv4 echo request of even length."""
    icmp = b"\0\0\0\0" + request[24:]
    icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
    return request[:12] + request[16:20] + request[12:16] + icmp


def test_it_has_the_name_and_flags_asked_for(space: Space, tun: LinuxTun) -> None:
    assert tun.name == "wg0"
    assert tun.vnet_header
    assert not os.get_blocking(tun.fileno())
    assert not os.get_inheritable(tun.fileno())
    flags = struct.unpack("16sH22x", fcntl.ioctl(tun, 0x800454D2, bytes(40)))[1]
    assert flags & (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR) == (
        IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
    )
    with space.inside():
        assert tun.ifindex > 0
        assert open_tun_names(space) == {"lo", "wg0"}


def open_tun_names(space: Space) -> set[str]:
    return {
        line.split(": ")[1].split("@")[0]
        for line in space.ip("-o", "link").splitlines()
    }


def test_names_can_be_numbered_by_the_system(space: Space) -> None:
    with space.inside():
        first, second = open_tun("wg%d"), open_tun("wg%d")
    assert (first.name, second.name) == ("wg0", "wg1")
    first.close()
    second.close()
    assert open_tun_names(space) == {"lo"}


def test_a_rename_is_followed(space: Space, tun: LinuxTun) -> None:
    space.ip("link", "set", "wg0", "name", "office")
    assert tun.name == "office"
    with space.inside():
        tun.set_mtu(1300)
        assert tun.mtu == 1300


def test_mtu_and_up_are_what_ip_shows(space: Space, tun: LinuxTun) -> None:
    with space.inside():
        tun.set_mtu(1380)
        assert tun.mtu == 1380
        assert not tun.is_up
        tun.set_up(True)
        assert tun.is_up
        shown = space.ip("link", "show", "wg0")
        assert "mtu 1380" in shown
        assert "UP" in shown
        tun.set_up(False)
        assert not tun.is_up
        with pytest.raises(DeviceError, match="cannot set the MTU to 100000 of wg0"):
            tun.set_mtu(100000)
        assert tun.mtu == 1380


def test_mtu_is_set_on_opening(space: Space) -> None:
    with space.inside():
        device = open_tun("wg0", mtu=1420)
        assert device.mtu == 1420
        device.close()
        with pytest.raises(DeviceError):
            open_tun("wg0", mtu=100000)
    assert open_tun_names(space) == {"lo"}


def test_packets_have_a_virtio_header_and_a_ping_is_answered(
    space: Space, tun: LinuxTun
) -> None:
    space.ip("address", "add", "10.77.0.1/24", "dev", "wg0")
    space.ip("link", "set", "wg0", "up")
    ping = subprocess.Popen(
        ["ip", "netns", "exec", space.name, "ping", "-c1", "-W20", "10.77.0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            data = read_packet(tun)
            header, packet = data[:10], data[10:]
            if packet[0] >> 4 == 4 and packet[9] == 1:
                break
            assert time.monotonic() < deadline
        assert header == bytes(10)
        assert packet[16:20] == bytes([10, 77, 0, 2])
        assert os.write(tun.fileno(), bytes(10) + echo_reply(packet)) == len(data)
        out, _ = ping.communicate(timeout=30)
    finally:
        ping.kill()
        ping.wait()
    assert ping.returncode == 0
    assert "1 received" in out


def test_without_offloads_checksums_are_complete(space: Space, tun: LinuxTun) -> None:
    """TUNSETOFFLOAD 0: the kernel leaves nothing for the reader to fill in."""
    space.ip("address", "add", "10.77.0.1/24", "dev", "wg0")
    space.ip("link", "set", "wg0", "up")
    send_udp(space, b"payload!")
    data = udp_packet(tun)
    assert data[:10] == bytes(10)
    udp = data[30:]
    pseudo = data[22:30] + struct.pack(">HH", 17, len(udp))
    assert checksum(pseudo + udp) == 0


def send_udp(space: Space, payload: bytes) -> None:
    code = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        f"s.sendto({payload!r}, ('10.77.0.2', 9))"
    )
    space.run(sys.executable, "-c", code)


def udp_packet(tun: LinuxTun) -> bytes:
    while True:
        data = read_packet(tun)
        if data[10] >> 4 == 4 and data[19] == 17:
            return data


def test_offloads_are_probed_and_take_effect(space: Space, tun: LinuxTun) -> None:
    space.ip("address", "add", "10.77.0.1/24", "dev", "wg0")
    space.ip("link", "set", "wg0", "up")
    wanted = tun_ioctl_linux.OFFLOADS_TCP | tun_ioctl_linux.OFFLOADS_UDP
    taken = set_offloads(tun.fileno(), wanted)
    assert taken in {wanted, tun_ioctl_linux.OFFLOADS_TCP}
    send_udp(space, b"payload!")
    assert udp_packet(tun)[0] == 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
    assert set_offloads(tun.fileno(), 0) == 0
    send_udp(space, b"payload!")
    assert udp_packet(tun)[0] == 0


def test_r66_udp_offloads_are_given_up_alone(
    monkeypatch: pytest.MonkeyPatch, tun: LinuxTun
) -> None:
    """A kernel before 6.2 refuses USO and keeps the rest."""
    asked: list[int] = []
    real = fcntl.ioctl

    def old_kernel(fd: int, request: int, value: int) -> object:
        asked.append(value)
        if value & tun_ioctl_linux.OFFLOADS_UDP:
            raise OSError(22, "Invalid argument")
        return real(fd, request, value)

    monkeypatch.setattr("tunnel.io.tun_ioctl_linux.fcntl.ioctl", old_kernel)
    wanted = tun_ioctl_linux.OFFLOADS_TCP | tun_ioctl_linux.OFFLOADS_UDP
    assert set_offloads(tun.fileno(), wanted) == tun_ioctl_linux.OFFLOADS_TCP
    assert asked == [wanted, tun_ioctl_linux.OFFLOADS_TCP]


def test_deletion_from_outside_is_noticed(space: Space, tun: LinuxTun) -> None:
    assert tun.alive
    space.ip("link", "delete", "wg0")
    assert not tun.alive
    with pytest.raises(DeviceError, match="deleted"):
        _ = tun.name
    with pytest.raises(OSError, match="bad state"):
        os.read(tun.fileno(), 100)
    tun.close()


def test_moved_to_another_namespace_it_lives_on(
    space: Space, tun: LinuxTun, test_prefix: str
) -> None:
    with new_space(test_prefix + "m") as other:
        with space.inside():
            assert tun.mtu == 1500
            space.ip("link", "set", "wg0", "netns", other.name)
            assert tun.alive
            assert tun.name == "wg0"
            assert tun.mtu == 1500  # as last seen
            with pytest.raises(DeviceError, match="cannot set the MTU"):
                tun.set_mtu(1400)
        tun.close()


def test_close_twice_and_use_after_close(tun: LinuxTun) -> None:
    tun.close()
    tun.close()
    assert not tun.alive
    with pytest.raises(DeviceError, match="closed"):
        tun.fileno()
    with pytest.raises(DeviceError, match="closed"):
        _ = tun.name


def test_no_descriptor_is_left_over_in_50_cycles(space: Space) -> None:
    with space.inside():
        open_tun("wg0").close()
        before = open_descriptors()
        for _ in range(50):
            device = open_tun("wg0")
            with pytest.raises(DeviceError, match="another program"):
                open_tun("wg0")
            with pytest.raises(DeviceError):
                open_tun("wg1", mtu=1_000_000)
            device.close()
        assert open_descriptors() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("lo", "another kind"), ("a/b", "another kind"), ("x" * 16, "more than 15")],
)
def test_names_that_cannot_be(space: Space, name: str, message: str) -> None:
    with space.inside(), pytest.raises(DeviceError, match=message):
        open_tun(name)


def test_a_persistent_interface_is_attached_to_and_stays(space: Space) -> None:
    space.ip("tuntap", "add", "dev", "wg0", "mode", "tun")
    with space.inside():
        device = open_tun("wg0")
        assert device.name == "wg0"
        device.close()
    assert open_tun_names(space) == {"lo", "wg0"}


def test_descriptor_from_outside(space: Space) -> None:
    with space.inside():
        fd = raw_tun("wg0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
        device = tun_from_fd(fd)
        assert device.fileno() == fd
        assert device.name == "wg0"
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        device.close()
    assert open_tun_names(space) == {"lo"}


@pytest.mark.parametrize("flags", [IFF_TUN, IFF_TUN | IFF_NO_PI, IFF_TUN | 0x100])
def test_descriptor_without_header_is_attached_anew(space: Space, flags: int) -> None:
    with space.inside():
        fd = raw_tun("wg0", flags)
        index = space.ip("-o", "link", "show", "wg0").split(":")[0]
        device = tun_from_fd(fd)
        assert space.ip("-o", "link", "show", "wg0").split(":")[0] == index
        set_up = device
        assert isinstance(set_up, LinuxTun)
        set_up.set_up(True)
        space.ip("address", "add", "10.77.0.1/24", "dev", "wg0")
        send_udp(space, b"payload!")
        assert udp_packet(set_up)[:10] == bytes(10)
        device.close()
    assert open_tun_names(space) == {"lo"}  # not persistent, as before


def test_descriptors_that_are_no_tun_are_refused_and_closed(space: Space) -> None:
    with space.inside():
        before = open_descriptors()
        tap = raw_tun("tap0", IFF_TAP | IFF_NO_PI)
        with pytest.raises(DeviceError, match="TAP"):
            tun_from_fd(tap)
        unattached = os.open("/dev/net/tun", os.O_RDWR)
        with pytest.raises(DeviceError, match="cannot be used"):
            tun_from_fd(unattached)
        null = os.open("/dev/null", os.O_RDWR)
        with pytest.raises(DeviceError, match="cannot be used"):
            tun_from_fd(null)
        with pytest.raises(DeviceError, match="cannot be used"):
            tun_from_fd(null)  # closed by now
        assert open_descriptors() == before


def test_descriptor_of_another_namespace_is_not_attached_anew(space: Space) -> None:
    with space.inside():
        fd = raw_tun("wg0", IFF_TUN | IFF_NO_PI)
    with pytest.raises(DeviceError, match="another network namespace"):
        tun_from_fd(fd)
    assert open_tun_names(space) == {"lo"}


def test_other_systems_say_so() -> None:
    with pytest.raises(NotSupported, match="not supported yet"):
        tun_default.open_tun("wg0")
    fd = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(NotSupported, match="not supported yet"):
        tun_default.from_fd(fd)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
