"""The WireGuard protocol without I/O: time, randomness and datagrams are arguments."""
