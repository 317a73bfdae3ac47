"""A device that is only its configuration, for the UAPI to talk to."""

from __future__ import annotations

from types import SimpleNamespace

from tunnel.api.uapi import UapiSession
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.apply import apply
from tunnel.state.model import DeviceState, Endpoint, Prefix, Secret, prefix_owners
from tunnel.state.plan import Plan
from tunnel.state.targets import RecordingTarget
from tunnel.status import Live


class FakeDevice:
    """Owners are counted by hand for each question; `lives` holds live values."""

    def __init__(self, state: DeviceState | None = None) -> None:
        self.target = RecordingTarget(state or DeviceState())
        self.lives: dict[bytes, Live] = {}
        self.plans: list[Plan] = []
        self.error: Exception | None = None

    @property
    def state(self) -> DeviceState:
        return self.target.state

    @property
    def generation(self) -> int:
        return self.target.generation

    @property
    def listen_port(self) -> int:
        return self.state.listen_port

    def observe(self) -> DeviceState:
        return self.state

    def apply(self, plan: Plan) -> int:
        if self.error is not None:
            raise self.error
        self.plans.append(plan)
        return apply(plan, self.target)

    def owner(self, prefix: Prefix) -> bytes | None:
        return prefix_owners(self.state.peers).get(prefix)

    def public_key_of(self, private_key: Secret | None) -> bytes | None:
        return PrivateKey(private_key.reveal()).public if private_key else None

    @property
    def live_peers(self) -> dict[bytes, SimpleNamespace]:
        """As `protocol.peer.Peer` and its path have them."""
        return {
            key: SimpleNamespace(last_handshake_wall=live.last_handshake, path=live)
            for key, live in self.lives.items()
        }

    def live_endpoint(self, public_key: bytes) -> Endpoint | None:
        return self.lives.get(public_key, Live()).endpoint


def talk(device: FakeDevice, text: str) -> str:
    """One request, complete, and its answer."""
    return UapiSession(device).feed(text.encode()).decode()


def setting(device: FakeDevice, *lines: str) -> int:
    """`set=1` with these lines; the errno that comes back."""
    answer = talk(device, "\n".join(["set=1", *lines, "", ""]))
    name, _, number = answer.strip().partition("=")
    assert name == "errno"
    assert answer.endswith("\n\n")
    return int(number)


def getting(device: FakeDevice) -> list[str]:
    """The lines of `get=1`, without the errno."""
    lines = talk(device, "get=1\n\n").split("\n")
    assert lines[-3:] == ["errno=0", "", ""]
    return lines[:-3]
