"""Types of the packet pump (see pump.pyx for the packet's way through it)."""

from collections.abc import Callable, Mapping, Sequence
from enum import IntFlag
from typing import Self

PackedAddress = bytes  # 4 bytes IPv4 or 16 bytes IPv6, network order

class PathEvent(IntFlag):
    """What the pump tells the control plane about one peer."""

    NEEDS_SESSION = 1  # packets wait and there is no keypair to send with
    REKEY = 2  # R25: sent with a keypair that is old (initiator) or worn
    LAST_MINUTE = 4  # R26: received on a keypair older than 165 s (initiator)
    UNANSWERED = 8  # R33: first data sent since something arrived; see check_unanswered
    UNREPLIED = 16  # R34: first data received since something was sent; check_unreplied
    CONFIRMED = 32  # first data under a keypair added with await_confirmation (R21)
    ROAMED = 64  # the endpoint moved to the source of an authenticated packet (R54)

class Keypair:
    """One session's keys in wiped, undumpable C memory. Made by `Path.add_keypair`."""

    @property
    def local_index(self) -> int: ...
    @property
    def remote_index(self) -> int: ...
    @property
    def created(self) -> int: ...  # ns, CLOCK_BOOTTIME
    @property
    def initiator(self) -> bool: ...
    @property
    def send_counter(self) -> int: ...  # next counter to be used
    @property
    def confirmed(self) -> bool: ...  # by data under it, or it needed none
    def set_send_counter(self, value: int) -> None: ...  # tests only: R28, F50
    def invalidate_sending(self) -> None: ...  # R67: receiving stays valid

class Path:
    """The packet path's record of one peer. Made by `Pump.add_peer`.

    Times are ns on CLOCK_BOOTTIME, 0 is "never" or "nothing pending". An endpoint is
    `(packed address, port, scope id)`, a source `(packed address, interface index)`.
    """

    token: object  # the owner's back reference; handed out with events

    @property
    def unanswered_since(self) -> int: ...
    @property
    def unreplied_since(self) -> int: ...
    @property
    def unreplied_again(self) -> bool: ...  # more data came after unreplied_since
    @property
    def last_sent(self) -> int: ...  # authenticated packet of any kind
    @property
    def last_received(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def staged(self) -> int: ...  # packets waiting for a session
    @property
    def worker(self) -> int: ...  # whose packets its are, for its life
    def own_index(self, index: int) -> int:
        """A receiver index like this one, of 32 bits, that names the peer's worker: its
        low byte modulo their number. No other byte is changed."""

    @property
    def endpoint(self) -> tuple[PackedAddress, int, int] | None: ...
    @property
    def source(self) -> tuple[PackedAddress, int] | None: ...  # sticky source (R62)
    def set_endpoint(self, endpoint: tuple[PackedAddress, int, int] | None) -> None: ...
    def clear_source(self) -> None: ...  # R20; a refused one stays refused
    def forget_source(self) -> None:
        """Also one that `judge_source` refused: the sockets or their mark changed, so
        that it may be right (R72)."""

    def source_questions(
        self,
    ) -> list[tuple[tuple[PackedAddress, int, int], tuple[PackedAddress, int]]]:
        """Of what to ask the routing table, endpoint and source: the remembered one,
        and one that `judge_source` refused. From then on the worker tells of another
        one that it learns (`Pump.on_sources`)."""

    def judge_source(self, source: tuple[PackedAddress, int], good: bool) -> bool:
        """Whether the peer can still be answered from `source` (R62). A bad one is
        forgotten, and not learned again while the peer stays where it is, until it is
        found good; then it is remembered again, unless another was learned meanwhile.
        False: nothing changed, as when it is another one by now."""

    def note_sent(self, now: int, size: int) -> None:
        """The control plane sent an authenticated packet of `size` bytes."""

    def note_received(
        self,
        now: int,
        size: int,
        endpoint: tuple[PackedAddress, int, int] | None,
        source: tuple[PackedAddress, int] | None,
    ) -> None:
        """The control plane received one; it moves the endpoint (R54). A source that
        is to be judged is, before this returns: see `Pump.on_sources`."""

    def check_unanswered(self) -> int:
        """`unanswered_since`; when that is 0, UNANSWERED is posted again next time."""

    def clear_unanswered(self) -> None:
        """The timer fired: the next data sent is the first again, and is posted."""

    def check_unreplied(self) -> tuple[int, bool]:
        """`(unreplied_since, unreplied_again)`; when 0, UNREPLIED is posted again."""

    def clear_unreplied(self) -> None:
        """The timer fired: the next data received is the first again."""

    def clear_unreplied_again(self) -> None: ...
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
    ) -> Keypair:
        """Makes the keypair receivable at once. Sending needs `use_for_sending`; with
        `await_confirmation` the first data under it is enough (R21), and is told."""

    def use_for_sending(self, keypair: Keypair | None) -> None: ...
    def drop_keypair(self, keypair: Keypair) -> None:
        """Takes it out of the index table; memory is wiped once no worker reads it."""

    def expect_cookie(self, index: int, mac1: bytes, key: bytes) -> None:
        """A handshake message with this sender index and mac1 (16 bytes) is about to be
        sent. From now on, and instead of those expected before, a cookie reply to it is
        handed over, once, if its tag is right under `key` (32 bytes, of the peer's
        cookies); every other one is dropped."""

    def expect_no_cookie(self) -> None: ...
    def flush(self, *, keepalive: bool) -> None:
        """Sends what is staged; if nothing, and `keepalive`, an empty packet (R37)."""

    def purge_staged(self) -> None: ...

class Handshake:
    """A handshake message of type 1 or 2 with the right mac1, or an authentic cookie
    reply (type 3) that was expected."""

    data: bytes
    endpoint: tuple[PackedAddress, int, int]
    source: tuple[PackedAddress, int] | None

class Transaction:
    """Changes that take effect at one instant. Only one may be open."""

    def insert_prefix(
        self, address: PackedAddress, cidr: int, path: Path
    ) -> Path | None:
        """Masks host bits; returns the path that owned exactly this prefix before."""

    def remove_prefix(self, address: PackedAddress, cidr: int) -> Path | None: ...
    def set_sockets(
        self,
        ipv4: int,
        ipv6: int,
        *,
        connected: tuple[PackedAddress, int, int] | None = None,
        more: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Descriptors (-1: none). The pump duplicates them. `connected`: `ipv4` is one
        end of a socketpair and everything on it comes from this endpoint. `more`: IPv4
        and IPv6 sockets of the second worker and so on; one that has none sends
        through those of the first."""

    def set_mtu(self, mtu: int) -> None: ...
    def set_rekey_limits(self, after_time: int, after_messages: int) -> None:
        """Age (ns) and number of messages at which a session is renewed, from the next
        packet on; neither is raised above what the pump was made with."""

    def set_isolation(self, own: Sequence[PackedAddress] | None) -> None:
        """Packets from one peer's addresses to another peer are dropped, unless their
        source is one of `own`, the host's addresses. None: they are sent."""

    def set_public_key(self, public_key: bytes | None) -> None:
        """Static public key (for the mac1 check); None: no private key (R8)."""

    def remove_peer(self, path: Path) -> None:
        """At commit: dead, its staged packets dropped, memory freed after grace.
        Its prefixes and keypairs must have been removed or dropped."""

    def commit(self) -> int:
        """Publishes one snapshot; returns its generation. A batch that is under way
        ends with the one before: see `Pump.settle`."""

    def abort(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Commits what is still open; aborts it when an exception passes."""

class Pump:
    """Worker threads between the queues of one TUN device and the UDP sockets."""

    def __init__(
        self,
        tun_fd: int,
        *,
        rekey_after_time: int = ...,
        reject_after_time: int = ...,
        rekey_timeout: int = ...,
        keepalive_timeout: int = ...,
        tcp_offload: bool = False,
        udp_offload: bool = False,
        workers: int = 1,
        more_queues: Sequence[int] = (),
        trains: bool = True,
        equal_trains: bool = True,
    ) -> None:
        """`tun_fd` is duplicated; each packet on it has a 10 byte virtio header.

        The offloads are what was agreed with the TUN device (TUNSETOFFLOAD): it hands
        over large packets, and takes merged ones. With several `workers` (1..16) each
        peer belongs to one of them. `more_queues` are the TUN queues of all but the
        first, steered by destination (io/steering_linux.py); without them the first
        worker reads for all, and all write to the one queue. Without `trains` no
        datagrams leave together (U3), without `equal_trains` only those of which the
        last one is shorter (U9).
        """

    @property
    def workers(self) -> int: ...

    on_sources: Callable[[list[Path], bool], None] | None
    """Called with peers of which another IPv4 source was learned, or one at another
    place: from `note_received` with True, with those that the workers met from `drain`
    with False, and with the same one not before its `Path.source_questions` were read.
    Whoever is called answers with `Path.judge_source`."""

    @property
    def event_fd(self) -> int: ...  # readable when there is something to drain
    @property
    def generation(self) -> int: ...
    @property
    def retired(self) -> int: ...  # objects that wait for a grace period
    @property
    def retired_snapshots(self) -> int: ...  # commits are held back beyond 32
    @property
    def failure(self) -> str: ...  # "" while well; e.g. "the TUN device is gone"
    def start(self) -> None: ...
    def stop(self) -> None:
        """Ends the workers, frees everything; idempotent. Paths become inert."""

    def add_peer(self, token: object, address: PackedAddress | None = None) -> Path:
        """A peer of the worker with the fewest. Where packets to `address`, the only
        one that it has inside, are read by some worker, it belongs to that one."""

    def forget_peer(self, path: Path) -> None:
        """One that never had a prefix."""

    def begin(self) -> Transaction:
        """One that nobody holds any more is aborted."""

    def drain(
        self, most: int = ...
    ) -> tuple[list[tuple[Path, PathEvent]], list[Handshake]]:
        """Everything that happened since the last call, but of the handshake messages
        the `most` oldest only: see `handshakes_waiting` for whether there are more,
        which `event_fd` does not tell again. Also reclaims memory."""

    def hold(self) -> None:
        """From here to `release` no command to a peer's path wakes a worker, so that
        one wake-up serves those of many peers. A worker that is awake does them."""

    def release(self) -> None: ...
    def settle(self) -> bool:
        """Waits (a batch's time; at most 100 ms) until no worker uses anything older
        than the last commit. False: a worker did not come round in time."""

    @property
    def handshakes_waiting(self) -> int: ...  # ring depth, for "under load" (of 4096)
    def counters(self) -> Mapping[str, int]:
        """`tun_read` (of them `tun_read_by_helper`), `tun_written`, `udp_received`,
        `udp_sent` packets, `tun_writes`, `udp_receives`, `udp_sends` calls,
        `handed_over` packets, which one worker read for a peer of another, and one
        `drop.<reason>` per DropReason; all workers' and their helpers' together."""
