"""The sessions of one peer, in step with the packet path and the index table."""

from __future__ import annotations

from tunnel.protocol.local import Local
from tunnel.protocol.noise import SessionKeys
from tunnel.protocol.path import PeerPath
from tunnel.protocol.session import Session, Slots


class Sessions(Slots):
    """A session that gets a slot here is a keypair of the path; one that loses its
    slot leaves the path, and its index is free. Driven by Peer."""

    __slots__ = ("_local", "_path")

    def __init__(self, path: PeerPath, local: Local) -> None:
        super().__init__()
        self._path = path
        self._local = local

    def initiated(self, index: int, remote: int, keys: SessionKeys, now: int) -> None:
        """The response to our initiation is here: the session is in use at once."""
        session = self._new(index, remote, keys, now, initiator=True)
        dropped = self.add_initiated(session)
        self._path.use_for_sending(session.keypair)
        self._drop(dropped)

    def responded(self, index: int, remote: int, keys: SessionKeys, now: int) -> None:
        """We respond: the session waits in next for its first data packet."""
        session = self._new(index, remote, keys, now, initiator=False)
        self._drop(self.add_responded(session))

    def _new(
        self, index: int, remote: int, keys: SessionKeys, now: int, *, initiator: bool
    ) -> Session:
        keypair = self._path.add_keypair(
            index,
            remote,
            keys.send,
            keys.receive,
            created=now,
            initiator=initiator,
            await_confirmation=not initiator,
        )
        return Session(keypair)

    def confirm_if_due(self) -> bool:
        """Whether data arrived under the session in next; it is the current one then
        (R21, R22)."""
        session = self.next
        if session is None or not session.keypair.confirmed:
            return False
        dropped = self.confirm()
        self._path.use_for_sending(session.keypair)
        self._drop(dropped)
        return True

    def use_current(self) -> None:
        """The path sends with the current one, whatever it has switched to."""
        if self.current is not None:
            self._path.use_for_sending(self.current.keypair)

    def invalidate_sending(self) -> None:
        """Of all that could be sent with; what arrives stays welcome (R67)."""
        for session in (self.next, self.current):
            if session is not None:
                session.invalidate_sending()

    def forget(self) -> None:
        """All keys are gone."""
        self._drop(self.clear())

    def _drop(self, sessions: list[Session]) -> None:
        for session in sessions:
            self._path.drop_keypair(session.keypair)
            self._local.indices.remove(session.keypair.local_index)

    # --- the current one; False when there is none

    def can_send(self, now: int) -> bool:
        current = self.current
        return current is not None and current.can_send(now, self._local.timing)

    def wants_rekey(self, now: int) -> bool:
        current = self.current
        return current is not None and current.wants_rekey(now, self._local.timing)

    def in_last_minute(self, now: int) -> bool:
        current = self.current
        return current is not None and current.in_last_minute(now, self._local.timing)
