"""Doors for programs: the WireGuard UAPI socket."""
