"""The JSON shapes of the HTTP API, as its OpenAPI document shows them.

Requests refuse what they do not know. What texts mean (prefixes, endpoints) is decided
where configurations are checked, not here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answer",
    "Applied",
    "Diff",
    "Diffs",
    "Health",
    "NewPeer",
    "PeerChanged",
    "PeerToRemove",
    "State",
    "Status",
    "StatusPeer",
]

_KEY = r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"

PublicKey = Annotated[
    str, Field(pattern=_KEY, description="32 bytes in base64, as `wg` shows them")
]
Name = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(max_length=300)]
_Warnings = Annotated[
    list[str], Field(description="host names without an address just now")
]


class Request(BaseModel):
    """Unknown members are errors, values are not converted and never echoed."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class NewPeer(Request):
    """A peer to add: what one `[Peer]` section says."""

    public_key: PublicKey
    name: Name = ""
    allowed_ips: Annotated[list[Text], Field(max_length=4096)] = []
    preshared_key: Annotated[
        str,
        Field(
            pattern=f"^$|{_KEY}",
            repr=False,
            description="base64; never shown again",
            json_schema_extra={"writeOnly": True},
        ),
    ] = ""
    persistent_keepalive: Annotated[
        int | None, Field(ge=0, le=65535, description="left out: as configured")
    ] = None
    endpoint: Annotated[Text, Field(description='"host:port"; empty: it calls us')] = ""
    enabled: bool = True


class PeerToRemove(Request):
    """By key or by name; both must then mean the same peer."""

    public_key: PublicKey | None = None
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Answer(BaseModel):
    """What every answer that is not a problem has."""

    success: Literal[True] = True


class PeerShape(BaseModel):
    """A peer as it is to be; `preshared_key` is `(set)` or empty."""

    name: str
    allowed_ips: list[str]
    preshared_key: Literal["", "(set)"]
    persistent_keepalive: int
    endpoint: str
    enabled: bool


class FieldChange(BaseModel):
    """One field; secrets are `(set)` or `(none)`."""

    field: str
    before: Any
    after: Any


class Diff(BaseModel):
    """One difference; those that are not of a peer have an empty `public_key`."""

    action: Literal[
        "add", "remove", "update", "device", "network", "settings", "restart"
    ]
    public_key: str
    name: str
    changes: list[FieldChange]
    session: Annotated[str, Field(description="what becomes of the peer's session")]
    new_state: PeerShape | None


class Diffs(Answer):
    """The way from what runs to what is wanted."""

    interface: str
    generation: int
    current_peers: int
    target_peers: int
    total_changes: int
    needs_restart: bool
    hash: Annotated[str, Field(description="names what the changes do")]
    diffs: list[Diff]
    warnings: _Warnings = []


class PeerEvent(BaseModel):
    """What happened to one peer."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    public_key: str = ""
    action: str = ""
    session: str = ""


class Applied(Answer):
    """A change, or with `dry_run` the change that it would be (`plan`)."""

    message: str
    dry_run: bool
    interface: str
    generation: int
    changes: list[str]
    peers: list[PeerEvent]
    duration_ms: float
    confirm_within: float | None = None
    warnings: _Warnings = []
    plan: Diffs | None = None


class PeerChanged(Applied):
    """The same for one peer."""

    public_key: str


class StatusPeer(BaseModel):
    """A peer as it runs: the columns of `wg show dump`, without secrets."""

    public_key: str
    name: str
    preshared_key: Literal["", "(set)"]
    endpoint: str
    allowed_ips: list[str]
    last_handshake: Annotated[int, Field(description="Unix seconds, 0 for never")]
    rx_bytes: int
    tx_bytes: int
    persistent_keepalive: int
    enabled: bool
    connected: Annotated[bool, Field(description="a handshake in the last 180 s")]


class Status(Answer):
    """The tunnel as it runs."""

    interface: str
    up: bool
    waiting: Annotated[
        str, Field(description="why it is not up though its interface is")
    ] = ""
    public_key: str
    listen_port: int
    fwmark: int
    mtu: int
    generation: int
    current_peers: int
    peers: list[StatusPeer]


class Reload(BaseModel):
    """One change that was asked for."""

    model_config = ConfigDict(extra="allow")

    timestamp: Annotated[str, Field(description="RFC 3339, UTC")]
    success: bool
    changes: list[str]


class State(BaseModel):
    """Everything about the tunnel at one moment; no secrets."""

    model_config = ConfigDict(extra="allow")

    device: dict[str, Any]
    peers: list[dict[str, Any]]
    reloads: list[Reload]


class Health(BaseModel):
    """All is well; everything else is a problem document."""

    status: Literal["ok"] = "ok"
