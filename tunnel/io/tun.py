"""The TUN device of this operating system.

open_tun(name, mtu=0, queues=1) creates the interface, or attaches to the persistent
one of that name; a name such as `wg%d`, or an empty one, lets the system number it,
and MTU 0 leaves the system's. Only a new interface has more than one queue, and only
where the system lets us steer them. tun_from_fd(fd) takes over a descriptor that
somebody else opened (WG_TUN_FD): it belongs to the device from the call on, and is
closed on failure. Both return a `TunDevice` and raise DeviceError, NotPermitted or
NotSupported.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from tunnel.io.tun_fd_linux import from_fd as tun_from_fd
    from tunnel.io.tun_linux import open_tun
else:
    from tunnel.io.tun_default import from_fd as tun_from_fd
    from tunnel.io.tun_default import open_tun

__all__ = ["open_tun", "tun_from_fd"]
