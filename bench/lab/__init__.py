"""Real networks to try tunnels on: namespaces, engines that speak UAPI, traffic.

Used by the tests, the benchmarks and nobody in production. It needs root,
/dev/net/tun, iproute2, util-linux and wireguard-tools, and nothing of `tunnel`.
"""
