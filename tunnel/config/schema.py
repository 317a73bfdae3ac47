"""The shape of config.json: every key, its type, its default and its plain range.

Only shape is checked here, natively by pydantic, because this runs for every peer.
What the texts mean is `values.py`; how they fit together is `checks.py`. The models
keep what was written; what was understood is `Config.facts`. Reference of all keys:
docs/config.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag
from pydantic.alias_generators import to_camel

from tunnel.constants import DEFAULT_MTU, REKEY_AFTER_MESSAGES

if TYPE_CHECKING:
    from tunnel.config.facts import Facts

__all__ = [
    "AccessConfig",
    "Config",
    "Fragment",
    "LoggingConfig",
    "ManagementConfig",
    "PeerConfig",
    "PeersFile",
    "SecretRef",
    "TunnelConfig",
]

NAME_MAX = 64


class Strict(BaseModel):
    """Camel case in JSON, unknown keys refused, nothing converted, nothing echoed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def _scalar_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<number>" if type(value) is int else None


def _secret_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<ref>" if isinstance(value, (dict, SecretRef)) else None


def _file_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<ref>" if isinstance(value, (dict, PeersFile)) else None


def _list_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<list>" if isinstance(value, list) else None


class SecretRef(Strict):
    """A secret that is kept elsewhere: {"file": path} or {"env": NAME}.

    With `create`, a file that does not exist is made with a fresh secret (0600).
    """

    file: str | None = None
    env: str | None = None
    create: bool = False


class PeersFile(Strict):
    """`peersFile` with `create`: a file that does not exist is made, with no peers."""

    file: str
    create: bool = False


Scalar = Annotated[
    Annotated[int, Tag("<number>")] | Annotated[str, Tag("<text>")],
    Discriminator(
        _scalar_tag,
        custom_error_type="scalar",
        custom_error_message="a number or a text",
    ),
]
SecretText = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[SecretRef, Tag("<ref>")],
    Discriminator(
        _secret_tag,
        custom_error_type="text_or_ref",
        custom_error_message="a text or a reference",
    ),
]
FileText = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[PeersFile, Tag("<ref>")],
    Discriminator(
        _file_tag,
        custom_error_type="text_or_ref",
        custom_error_message="a text or a reference",
    ),
]
Texts = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[str], Tag("<list>")],
    Discriminator(
        _list_tag,
        custom_error_type="text_or_list",
        custom_error_message="a text or a list",
    ),
]
Name = Annotated[str, Field(max_length=NAME_MAX)]


class TunnelConfig(Strict):
    """`tunnel`: the network interface."""

    type: Literal["tun", "loopback"] = "tun"
    name: str = "tunnel0"
    mtu: Annotated[int, Field(ge=576, le=65535)] = DEFAULT_MTU
    address: str | None = None
    addresses: list[str] = []
    auto_configure: bool = True
    routes: list[str] = []
    dns: list[str] = []


class PeerConfig(Strict):
    """One entry of `peers`; keys by name from a `psk`, or a plain WireGuard peer."""

    name: Name = ""
    public_key: str | None = None
    preshared_key: Annotated[SecretText | None, Field(repr=False)] = None
    psk: Annotated[SecretText | None, Field(repr=False)] = None
    endpoint: str | None = None
    allowed_ips: Annotated[list[str] | None, Field(alias="allowedIPs")] = None
    persistent_keepalive: Scalar | None = None
    enabled: bool = True


class ManagementConfig(Strict):
    """`management`: the HTTP API. Without `bind` there is none."""

    bind: str | None = None
    acl: list[str] = ["127.0.0.0/8", "::1/128"]


class LoggingConfig(Strict):
    """`logging`: how much, and where to ("stderr", "stdout" or a file)."""

    level: Literal["debug", "info", "warning", "error", "silent"] = "info"
    output: str = "stderr"


class AccessConfig(Strict):
    """`access`: which outer addresses handshakes are made with; `deny` wins."""

    allow: list[str] = []
    deny: list[str] = []
    blocklist: str | None = None


class Fragment(Strict):
    """A file named by `include` or `peersFile`: more peers."""

    peers: list[PeerConfig] = []


class Config(Strict):
    """config.json as it was written."""

    mode: Literal["server", "client"]
    name: Annotated[str | None, Field(max_length=NAME_MAX)] = None
    listen: Scalar | None = None
    endpoint: str | None = None
    psk: Annotated[SecretText | None, Field(repr=False)] = None
    private_key: Annotated[SecretText | None, Field(repr=False)] = None
    fwmark: Scalar = 0
    keepalive: Scalar = 0
    max_padding: Annotated[int, Field(ge=0, le=65520)] = 0
    rekey_interval: Scalar = 120
    rekey_budget: Annotated[int, Field(ge=1024, le=REKEY_AFTER_MESSAGES)] = (
        REKEY_AFTER_MESSAGES
    )
    max_connections: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    connection_rate: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    connection_burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    tunnel: TunnelConfig = TunnelConfig()
    peers: list[PeerConfig] = []
    management: ManagementConfig = ManagementConfig()
    logging: LoggingConfig = LoggingConfig()
    access: AccessConfig = AccessConfig()
    allow_device_to_device: bool = False
    workers: Scalar = "auto"
    peers_file: FileText | None = None
    include: Texts = []

    _facts: Facts | None = PrivateAttr(default=None)

    @property
    def facts(self) -> Facts:
        """The checked meaning; there for every `Config` that `store` returned."""
        if self._facts is None:
            raise ValueError("load configurations with load_config or parse_config")
        return self._facts
