"""A running tunnel as the target of a plan, over its control socket.

The plan becomes one UAPI `set`: all of it in one request, so our own engine takes
over all of it at one instant. The UAPI knows no names of peers and shows where a peer
is, not where it was configured to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tunnel.api.client import UapiClient
from tunnel.api.uapi_parse import Parser, SetRequest
from tunnel.errors import NotSupported
from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Prefix,
    Secret,
    canonical_prefixes,
)
from tunnel.state.plan import Action, ActionKind, Plan
from tunnel.state.render import endpoint_text, prefix_text

__all__ = ["RunningTunnel", "set_text", "state_of"]

_NO_KEY: Final = bytes(32).hex()
_LIVE: Final = frozenset(
    {
        "last_handshake_time_sec",
        "last_handshake_time_nsec",
        "tx_bytes",
        "rx_bytes",
        "errno",
    }
)


def state_of(pairs: Iterable[tuple[str, str]], name: str) -> DeviceState:
    """The answer to a UAPI `get` as a state; its peers have no names."""
    text = "set=1\n"
    text += "".join(f"{key}={value}\n" for key, value in pairs if key not in _LIVE)
    (request,) = Parser().feed(f"{text}\n".encode())
    if not isinstance(request, SetRequest):
        raise NotSupported(f"{name}: its control socket answers something unknown")
    peers = {}
    for edit in request.peers:
        prefixes: list[Prefix] = [s[1] for s in edit.allowed_ips if s is not None]
        endpoint, keepalive = edit.endpoint, edit.keepalive
        psk = edit.preshared_key
        peers[edit.public_key] = PeerState(
            edit.public_key,
            preshared_key=psk if isinstance(psk, Secret) else None,
            endpoint=endpoint if isinstance(endpoint, tuple) else None,
            allowed_ips=canonical_prefixes(prefixes),
            keepalive=keepalive if isinstance(keepalive, int) else 0,
        )
    key, port, mark = request.private_key, request.listen_port, request.fwmark
    return DeviceState(
        private_key=key if isinstance(key, Secret) else None,
        listen_port=port if isinstance(port, int) else 0,
        fwmark=mark if isinstance(mark, int) else 0,
        interface=InterfaceState(name=name),
        peers=peers,
    )


def set_text(actions: Iterable[Action]) -> str:
    """A UAPI `set` that does what actions on peers do; it holds their secrets."""
    return "".join(["set=1\n", *(line for a in actions for line in _lines(a)), "\n"])


def _lines(action: Action) -> Iterator[str]:
    if action.key is None:
        raise NotSupported(f"{action.kind.value}: only peers change over the socket")
    yield f"public_key={action.key.hex()}\n"
    after = action.after
    if after is None or not after.enabled:
        yield "remove=true\n"
        return
    fields = {change.field for change in action.changes}
    if action.kind is not ActionKind.ADD:
        yield "update_only=true\n"
    if "preshared_key" in fields:
        psk = after.preshared_key
        yield f"preshared_key={psk.reveal().hex() if psk is not None else _NO_KEY}\n"
    if "endpoint" in fields and after.endpoint is not None:
        yield f"endpoint={endpoint_text(after.endpoint)}\n"
    if "keepalive" in fields:
        yield f"persistent_keepalive_interval={after.keepalive}\n"
    # with the whole list, an endpoint that was configured before does not throw away
    # where the peer has roamed to
    if {"allowed_ips", "endpoint"} & fields:
        yield "replace_allowed_ips=true\n"
        yield from (f"allowed_ip={prefix_text(p)}\n" for p in after.allowed_ips)


class RunningTunnel:
    """See `state.apply.Target`. `names` are those of known peers, by key."""

    def __init__(
        self, client: UapiClient, names: dict[bytes, str] | None = None
    ) -> None:
        self.generation = 0
        self.names = names or {}
        self._client = client

    def observe(self) -> DeviceState:
        from dataclasses import replace

        pairs = self._client.request("get=1\n\n")
        state = state_of(pairs, self._client.interface)
        peers = {
            key: replace(peer, name=self.names.get(key, ""))
            for key, peer in state.peers.items()
        }
        return replace(state, peers=peers)

    def begin(self, _plan: Plan) -> _OneSet:
        return _OneSet(self, self._client)


class _OneSet:
    """See `state.apply.StagedChange`: everything is one request."""

    def __init__(self, tunnel: RunningTunnel, client: UapiClient) -> None:
        self._tunnel, self._client = tunnel, client
        self._actions: list[Action] = []

    def stage(self, action: Action) -> None:
        self._actions.append(action)

    def commit(self) -> None:
        self._client.request(set_text(self._actions))
        self._tunnel.generation += 1
        for action in self._actions:
            if action.key is not None and action.after is not None:
                self._tunnel.names[action.key] = action.after.name

    def finish(self) -> None:
        """Nothing is held."""

    def abort(self) -> None:
        """Nothing was sent, or all of it was refused."""
