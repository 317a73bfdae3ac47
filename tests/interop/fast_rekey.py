"""`fast_rekey.py IFNAME`: `tunnel-wg -f` with a rekey after half a second.

Only the times differ; what happens at them is what production does.
"""

from __future__ import annotations

import signal
import sys
from contextlib import closing

from tunnel.api.uapi_server import UapiServer
from tunnel.api.uapi_socket import bind_socket, socket_path
from tunnel.constants import MILLISECOND
from tunnel.engine import Engine
from tunnel.protocol.types import Timing
from tunnel.state.model import InterfaceState

TIMING = Timing(
    rekey_after_time=500 * MILLISECOND,
    rekey_timeout=250 * MILLISECOND,
    rekey_jitter_max=16 * MILLISECOND,
)


def main() -> None:
    name = sys.argv[1]
    with closing(Engine(InterfaceState(name=name), timing=TIMING)) as engine:
        loop = engine.loop
        server = UapiServer(
            loop,
            engine.device,
            bind_socket(name),
            path=socket_path(name),
            on_gone=loop.stop,
        )
        with closing(server):
            loop.on_signal(signal.SIGTERM, loop.stop)
            engine.start()
            engine.run()


if __name__ == "__main__":
    main()
