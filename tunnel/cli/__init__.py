"""Command lines: `tunnel` and `tunnel-wg`."""
