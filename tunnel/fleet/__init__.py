"""Many tunnels and their peers: merging sets of peers, for tools that keep lists."""
