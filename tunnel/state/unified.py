"""Two states as a unified diff of their configuration; secrets are masked.

Peers are matched by key, not by comparing all lines, so that ten thousand of them cost
nothing extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from tunnel.state.model import DeviceState, PeerState, Secret
from tunnel.state.render import endpoint_text, key_text, value_text

__all__ = ["unified_diff"]

_CONTEXT = 3
Line = tuple[str, str]  # " ", "-" or "+", and the text


def _secret(own: Secret | None, other: Secret | None) -> str:
    if own is None:
        return "(none)"
    return "(set)" if other is None or own == other else "(set, another one)"


def _device_lines(state: DeviceState, other: DeviceState, new: bool) -> list[str]:
    key = _secret(state.private_key, other.private_key if new else None)
    interface = state.interface
    lines = [
        f"privateKey {key}",
        f"listen {state.listen_port}",
        f"fwmark {state.fwmark}",
        f"tunnel.type {interface.kind}",
        f"tunnel.name {interface.name}",
        f"workers {value_text('workers', interface.workers)}",
        f"tunnel.mtu {interface.mtu}",
        *(f"tunnel.address {value_text('addresses', (a,))}"
          for a in interface.addresses),
        *(f"tunnel.route {value_text('routes', (r,))}" for r in interface.routes),
        *(f"tunnel.dns {value_text('dns', (d,))}" for d in interface.dns),
        f"tunnel.autoConfigure {value_text('', interface.auto_configure)}",
        f"logging.level {state.log_level}",
    ]  # fmt: skip
    return lines + [f"{name} {value_text(name, value)}" for name, value in
                    state.settings]  # fmt: skip


def _peer_lines(peer: PeerState, other: PeerState | None, new: bool) -> list[str]:
    title = f"[peer {peer.name}]" if peer.name else "[peer]"
    lines = ["", title, f"publicKey {key_text(peer.public_key)}"]
    if peer.preshared_key is not None:
        before = other.preshared_key if new and other is not None else None
        lines.append(f"presharedKey {_secret(peer.preshared_key, before)}")
    if peer.endpoint is not None:
        lines.append(f"endpoint {endpoint_text(peer.endpoint)}")
    lines += [f"allowedIP {value_text('routes', (p,))}" for p in peer.allowed_ips]
    if peer.keepalive:
        lines.append(f"persistentKeepalive {peer.keepalive}")
    if not peer.enabled:
        lines.append("enabled no")
    return lines


def _compare(before: list[str], after: list[str]) -> Iterator[Line]:
    if before == after:
        yield from ((" ", line) for line in before)
        return
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield from ((" ", line) for line in before[i1:i2])
        else:
            yield from (("-", line) for line in before[i1:i2])
            yield from (("+", line) for line in after[j1:j2])


def _all_lines(before: DeviceState, after: DeviceState) -> Iterator[Line]:
    yield from _compare(
        _device_lines(before, after, False), _device_lines(after, before, True)
    )
    for key, peer in before.peers.items():
        other = after.peers.get(key)
        new = [] if other is None else _peer_lines(other, peer, True)
        if other == peer:
            yield from ((" ", line) for line in new)
        else:
            yield from _compare(_peer_lines(peer, other, False), new)
    for key, peer in after.peers.items():
        if key not in before.peers:
            yield from (("+", line) for line in _peer_lines(peer, None, True))


def unified_diff(
    before: DeviceState, after: DeviceState, names: tuple[str, str]
) -> str:
    """As `diff -u` prints it; empty when nothing differs."""
    lines = list(_all_lines(before, after))
    changed = [n for n, (sign, _) in enumerate(lines) if sign != " "]
    if not changed:
        return ""
    output = [f"--- {names[0]}", f"+++ {names[1]}"]
    old = new = 1
    at = 0
    for start, end in _hunks(changed, len(lines)):
        for sign, _ in lines[at:start]:
            old, new = old + (sign != "+"), new + (sign != "-")
        hunk = lines[start:end]
        removed = sum(sign != "+" for sign, _ in hunk)
        added = sum(sign != "-" for sign, _ in hunk)
        old_at, new_at = old - (not removed), new - (not added)
        output.append(f"@@ -{old_at},{removed} +{new_at},{added} @@")
        output += [sign + text for sign, text in hunk]
        old, new, at = old + removed, new + added, end
    return "\n".join(output) + "\n"


def _hunks(changed: list[int], size: int) -> Iterator[tuple[int, int]]:
    """Ranges of lines around the changed ones, joined where they touch."""
    start = end = -1
    for line in changed:
        if end < 0 or line - _CONTEXT > end:
            if end >= 0:
                yield start, end
            start = max(0, line - _CONTEXT)
        end = min(size, line + _CONTEXT + 1)
    yield start, end
