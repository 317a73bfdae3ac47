"""What the control plane needs of a peer's packet path.

`tunnel._fastpath.pump.Path` has these methods and says what each one means; the tests
have a twin in Python. Times are ns on CLOCK_BOOTTIME, 0 is "never" or "none".
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, Protocol

from tunnel.protocol.types import Source

PathEndpoint = tuple[bytes, int, int]


class PathEvent(IntFlag):
    """What the packet path tells about one peer; the numbers are those of path.h."""

    NEEDS_SESSION = 1
    REKEY = 2
    LAST_MINUTE = 4
    UNANSWERED = 8
    UNREPLIED = 16
    CONFIRMED = 32
    ROAMED = 64


class PathKeypair(Protocol):
    """One session's keys, held by the packet path."""

    @property
    def local_index(self) -> int: ...
    @property
    def remote_index(self) -> int: ...
    @property
    def created(self) -> int: ...
    @property
    def initiator(self) -> bool: ...
    @property
    def send_counter(self) -> int: ...
    @property
    def confirmed(self) -> bool: ...
    def invalidate_sending(self) -> None: ...


class PeerPath(Protocol):
    """The packet path of one peer; see pump.pyi for what each method does.

    Keypairs given back are those that `add_keypair` made (`Any`, because each
    implementation takes only its own).
    """

    @property
    def unreplied_again(self) -> bool: ...
    @property
    def last_sent(self) -> int: ...
    @property
    def last_received(self) -> int: ...
    @property
    def endpoint(self) -> PathEndpoint | None: ...
    @property
    def source(self) -> Source | None: ...
    def clear_source(self) -> None: ...
    def note_sent(self, now: int, size: int) -> None: ...
    def note_received(
        self,
        now: int,
        size: int,
        endpoint: PathEndpoint | None,
        source: Source | None,
    ) -> None: ...
    def check_unanswered(self) -> int: ...
    def clear_unanswered(self) -> None: ...
    def check_unreplied(self) -> tuple[int, bool]: ...
    def clear_unreplied(self) -> None: ...
    def clear_unreplied_again(self) -> None: ...
    def own_index(self, index: int) -> int: ...
    def add_keypair(
        self,
        local_index: int,
        remote_index: int,
        send_key: bytes,
        receive_key: bytes,
        *,
        created: int,
        initiator: bool,
        await_confirmation: bool,
    ) -> PathKeypair: ...
    def use_for_sending(self, keypair: Any) -> None: ...
    def drop_keypair(self, keypair: Any) -> None: ...
    def expect_cookie(self, index: int, mac1: bytes, key: bytes) -> None: ...
    def expect_no_cookie(self) -> None: ...
    def flush(self, *, keepalive: bool) -> None: ...
    def purge_staged(self) -> None: ...
