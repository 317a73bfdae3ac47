"""A tunnel in one thread: interface, device and control loop, opened and closed
together. `tunnel up`, `tunnel-wg` and the async API all run one of these.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

from tunnel.device import Device, Network
from tunnel.device_change import listen_addresses
from tunnel.errors import TunnelError
from tunnel.interface_watch import InterfaceWatch, RestoringNetwork
from tunnel.io.base import TunDevice
from tunnel.io.sockopt import equal_trains_work, probe_offloads
from tunnel.io.udp import UdpSockets
from tunnel.loop import ControlLoop
from tunnel.protocol.node import Node
from tunnel.protocol.types import Timing
from tunnel.state.model import DeviceState, InterfaceState, without_peer
from tunnel.state.plan import Plan, diff
from tunnel.sticky import StickySources
from tunnel.workers import count_workers

__all__ = ["Engine", "RestoringNetwork", "system_network"]

log = logging.getLogger("tunnel.engine")

# A way out where a kernel or a driver gets large packets wrong.
_OFFLOADS: Final = os.environ.get("TUNNEL_OFFLOADS") != "0"

T = TypeVar("T")


class Engine:
    """Owns everything a running tunnel needs; made, started, run and closed in one
    thread. Other threads use `submit` and `stop`.

    `tun` is taken over; without one it is opened as `interface` says. With `network`
    the interface is configured by plans, otherwise it is only watched.
    """

    def __init__(
        self,
        interface: InterfaceState,
        *,
        tun: TunDevice | None = None,
        network: RestoringNetwork | None = None,
        timing: Timing | None = None,
        on_settings: Callable[[dict[str, object]], None] | None = None,
    ) -> None:
        self._process = os.getpid()
        self.loop = ControlLoop()
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.loop.close)
        self.packets: Any = None  # the user's end of a loopback tunnel
        # in memory there is one queue and one descriptor
        in_memory = interface.kind == "loopback"
        self.workers = 1 if in_memory else count_workers(interface.workers)
        try:
            self.tun = tun if tun is not None else self._open_tun(interface)
            self._stack.callback(self.tun.close)
            if network is not None:
                self._stack.callback(network.close)
            self.device = self._make_device(interface, network, timing, on_settings)
            self._stack.callback(self.device.close)
            self.interface = InterfaceWatch(
                self.device, self.tun, network, trains=_OFFLOADS
            )
            self._stack.callback(self.interface.close)
        except BaseException:
            self._stack.close()
            raise

    def _open_tun(self, interface: InterfaceState) -> TunDevice:
        if interface.kind == "loopback":
            from tunnel.io.memory import memory_tun

            tun, self.packets = memory_tun(interface.name, interface.mtu)
            self._stack.callback(self.packets.close)
            return tun
        from tunnel.io.tun import open_tun

        return open_tun(interface.name, mtu=interface.mtu, queues=self.workers)

    def _make_device(
        self,
        interface: InterfaceState,
        network: Network | None,
        timing: Timing | None,
        on_settings: Callable[[dict[str, object]], None] | None,
    ) -> Device:
        from tunnel._fastpath.pump import Pump

        times = timing or Timing()
        offloads = _OFFLOADS and self.tun.enable_offloads()
        tcp_offload, udp_offload = offloads or (False, False)
        return Device(
            loop=self.loop,
            pump=Pump(
                self.tun.fileno(),
                rekey_after_time=times.rekey_after_time,
                reject_after_time=times.reject_after_time,
                rekey_timeout=times.rekey_timeout,
                keepalive_timeout=times.keepalive_timeout,
                tcp_offload=tcp_offload,
                udp_offload=udp_offload,
                workers=self.workers,
                more_queues=self.tun.more_queues,
                trains=_OFFLOADS and probe_offloads().segmentation,
                equal_trains=equal_trains_work(os.uname().release),
            ),
            node=Node(times, random.Random(os.urandom(16)), os.urandom),
            open_transport=partial(_open_sockets, self.workers),
            interface=InterfaceState(
                kind=interface.kind,
                name=self.tun.name,
                mtu=self.tun.mtu,
                workers=interface.workers,
            ),
            network=network,
            on_settings=on_settings,
        )

    # --- life

    def start(self, desired: DeviceState | None = None) -> None:
        """Starts the packet path and applies the configuration, if there is one.

        A loopback tunnel is up at once, a TUN interface when the system says so.
        Raises TunnelError when that cannot be, having configured nothing: a port that
        is taken only later is waited for.
        """
        self.device.start()
        self._watch_routes()
        if self.packets is not None:
            self.interface.set_up(True)
        else:
            self.interface.start()
        if desired is not None:
            self._try_port(desired)
            self.apply(self.plan(desired))

    def run(self) -> None:
        """Until `stop`; raises DeviceError when the tunnel cannot go on."""
        self.loop.run()

    def stop(self) -> None:
        """From any thread: makes `run` return."""
        self.loop.stop_threadsafe()

    def close(self) -> None:
        """Everything back to the system; the interface disappears. Idempotent.

        In a child of `os.fork` nothing is: all of it is the parent's.
        """
        if os.getpid() != self._process:
            self._stack.pop_all()
        self._stack.close()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """From another thread: runs `function` in the control thread.

        Its StopIteration is a RuntimeError, as in a coroutine: no awaitable can
        carry one.
        """
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except StopIteration as error:
                failure = RuntimeError("the function raised StopIteration")
                failure.__cause__ = error
                future.set_exception(failure)
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller
                future.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return future

    # --- configuration

    def plan(self, desired: DeviceState) -> Plan:
        """What is missing to `desired`; empty when there is no drift."""
        device = self.device
        desired = without_peer(desired, device.public_key_of(desired.private_key))
        return diff(device.observe(), desired, generation=device.generation)

    def apply(self, plan: Plan) -> int:
        """All of it or nothing; returns the new generation."""
        return self.device.apply(plan)

    def _try_port(self, desired: DeviceState) -> None:
        """Binds the sockets once, before an interface that is still down gets them."""
        device, addresses = self.device, listen_addresses(desired)
        if device.transport is not None:
            return
        try:
            port, fwmark = desired.listen_port, desired.fwmark
            device.open_transport(port, fwmark, addresses).close()
        except TunnelError as error:
            message = f"listen: {error.message}"
            raise type(error)(message, hint=error.hint) from error

    def _watch_routes(self) -> None:
        """In the namespace of the sockets, which the interface may leave."""
        try:
            self._stack.callback(StickySources(self.device).close)
        except OSError as error:
            log.warning("changes of routes are not noticed: %s", error.strerror)


def system_network(desired: DeviceState) -> RestoringNetwork | None:
    """What carries out changes of a tunnel's interface; a loopback one has none."""
    if desired.interface.kind == "loopback":
        return None
    from tunnel.network import SystemNetwork

    return SystemNetwork()


def _open_sockets(
    workers: int, port: int, fwmark: int, addresses: Sequence[bytes]
) -> UdpSockets:
    return UdpSockets.bind(port, fwmark=fwmark, addresses=addresses, workers=workers)
