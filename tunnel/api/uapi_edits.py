"""What a UAPI `set` wants, as a desired state: the running one plus its edits.

The kernel's semantics (R67-R71): sections apply in order, a prefix moves to the peer
it was given to last, our own public key as a peer is ignored. Only what is touched
is looked at, so one edit among fifty thousand peers stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tunnel.api.uapi_parse import parse_unchanged
from tunnel.api.uapi_requests import UNSET, PeerEdit, SetRequest, Unchanged, Unset
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    PeerState,
    Prefix,
    Secret,
    canonical_prefixes,
)

__all__ = ["EditView", "Edited", "edit"]


class EditView(Protocol):
    """What folding edits needs to know of the device beside its state."""

    def owner(self, prefix: Prefix) -> bytes | None:
        """The enabled peer with exactly this prefix."""

    def public_key_of(self, private_key: Secret | None) -> bytes | None: ...

    def live_endpoint(self, public_key: bytes) -> Endpoint | None:
        """Where the peer is now, which may not be where it was configured."""


@dataclass(frozen=True, slots=True)
class Edited:
    """Input for `diff`: both states and the peers that can differ."""

    observed: DeviceState
    desired: DeviceState
    only: tuple[bytes, ...]


class _Draft:
    """One peer being edited; `allowed` is None until its prefixes are touched."""

    __slots__ = ("allowed", "state")

    def __init__(self, state: PeerState | None) -> None:
        self.state = state
        self.allowed: set[Prefix] | None = None

    def prefixes(self) -> set[Prefix]:
        if self.allowed is None:
            self.allowed = set(self.state.allowed_ips) if self.state else set()
        return self.allowed

    def result(self) -> PeerState | None:
        state = self.state
        if state is None or self.allowed is None:
            return state
        prefixes = canonical_prefixes(self.allowed)
        if prefixes == state.allowed_ips:
            return state
        return replace(state, allowed_ips=prefixes)


class _Fold:
    """The drafts of one request and who owns which prefix by now."""

    def __init__(self, peers: Mapping[bytes, PeerState], view: EditView) -> None:
        self._peers = peers
        self._owner: Callable[[Prefix], bytes | None] = view.owner
        self._live = view.live_endpoint
        self._moved: dict[Prefix, bytes | None] = {}
        self.drafts: dict[bytes, _Draft] = {}
        self.forced: dict[bytes, PeerState] = {}

    def draft(self, key: bytes) -> _Draft:
        draft = self.drafts.get(key)
        if draft is None:
            draft = self.drafts[key] = _Draft(self._peers.get(key))
        return draft

    def remove(self, key: bytes) -> None:
        draft = self.draft(key)
        self._release(draft)
        draft.state = None

    def section(self, edit: PeerEdit) -> None:
        """One `public_key=` section."""
        if self._says_nothing_new(edit):
            return
        draft = self.draft(edit.public_key)
        if edit.remove:
            self.remove(edit.public_key)
            return
        if draft.state is None or not draft.state.enabled:
            if edit.update_only:
                return
            known = self._peers.get(edit.public_key)
            draft.state = PeerState(edit.public_key, known.name if known else "")
            draft.allowed = set()
        draft.state = self._values(draft.state, edit)
        for step in edit.allowed_ips:
            if step is None:
                self._release(draft)
            elif step[0]:
                self._give(edit.public_key, draft, step[1])
            else:
                self._take(edit.public_key, draft, step[1])

    def still(self, run: Unchanged) -> bool:
        """Whether these sections still say what is: neither another change of the
        device nor anything before them in this request is about one of their peers. A
        prefix that moved is no exception, because who loses one gets a draft."""
        if run.peers is not self._peers:
            return False
        drafts = self.drafts
        return not drafts or not any(peer.public_key in drafts for peer in run.states)

    def _says_nothing_new(self, edit: PeerEdit) -> bool:
        """A whole peer as it is already, which is nearly all of a `wg syncconf`: no
        draft is needed while none of its prefixes has moved in this request."""
        state, steps = self._peers.get(edit.public_key), edit.allowed_ips
        if (
            state is None
            or not state.enabled
            or not edit.replace_allowed_ips
            or edit.remove
            or len(steps) != 1 + len(state.allowed_ips)
            or steps[0] is not None
            or edit.public_key in self.drafts
            or (edit.keepalive is not UNSET and edit.keepalive != state.keepalive)
            or (edit.endpoint is not UNSET and edit.endpoint != state.endpoint)
            or (
                edit.preshared_key is not UNSET
                and edit.preshared_key != state.preshared_key
            )
        ):
            return False
        own = state.allowed_ips
        if len(own) == 1:
            same = steps[1] == (True, own[0])
        else:
            named = {step[1] for step in steps if step is not None and step[0]}
            same = named == set(own)
        return same and (not self._moved or self._moved.keys().isdisjoint(own))

    def _values(self, state: PeerState, edit: PeerEdit) -> PeerState:
        changed: dict[str, object] = {}
        if not isinstance(edit.preshared_key, Unset):
            changed["preshared_key"] = edit.preshared_key
        if not isinstance(edit.keepalive, Unset):
            changed["keepalive"] = edit.keepalive
        if not isinstance(edit.endpoint, Unset):
            changed["endpoint"] = edit.endpoint
            self._endpoint(state, edit)
        if not changed:
            return state
        return replace(state, **changed)  # type: ignore[arg-type]

    def _endpoint(self, state: PeerState, edit: PeerEdit) -> None:
        """`wg set ... endpoint` means now, even when it repeats the configured value.

        A section that replaces the allowed IPs describes the whole peer (setconf,
        syncconf): there a repeated endpoint leaves a peer that has roamed alone.
        """
        before = self._peers.get(state.public_key)
        if edit.replace_allowed_ips or before is None:
            return
        if before.endpoint == edit.endpoint:
            live = self._live(state.public_key)
            if live != edit.endpoint:
                self.forced[state.public_key] = replace(before, endpoint=live)

    def _current(self, prefix: Prefix) -> bytes | None:
        if prefix in self._moved:
            return self._moved[prefix]
        return self._owner(prefix)

    def _give(self, key: bytes, draft: _Draft, prefix: Prefix) -> None:
        owner = self._current(prefix)
        if owner == key:
            return
        if owner is not None:
            self.draft(owner).prefixes().discard(prefix)
        self._moved[prefix] = key
        draft.prefixes().add(prefix)

    def _take(self, key: bytes, draft: _Draft, prefix: Prefix) -> None:
        if self._current(prefix) == key:
            self._moved[prefix] = None
            draft.prefixes().discard(prefix)

    def _release(self, draft: _Draft) -> None:
        for prefix in draft.prefixes():
            self._moved[prefix] = None
        draft.allowed = set()


def edit(state: DeviceState, request: SetRequest, view: EditView) -> Edited:
    """Folds the request into the state. Nothing of the device is changed."""
    private_key = state.private_key
    if not isinstance(request.private_key, Unset):
        private_key = request.private_key
    own = view.public_key_of(private_key)
    fold = _Fold(state.peers, view)
    if request.replace_peers:
        for key, peer in state.peers.items():
            if peer.enabled:
                fold.remove(key)
    if own is not None and own in state.peers:
        fold.remove(own)  # R67
    for section in request.sections():
        if not isinstance(section, Unchanged):
            parsed = [section]
        elif fold.still(section):
            continue
        else:
            parsed = parse_unchanged(section)
        for one in parsed:
            if one.public_key != own:  # R69
                fold.section(one)
    return _edited(state, request, private_key, fold)


def _edited(
    state: DeviceState, request: SetRequest, private_key: Secret | None, fold: _Fold
) -> Edited:
    peers = dict(state.peers)
    for key, draft in fold.drafts.items():
        result = draft.result()
        if result is not None:
            peers[key] = result
        else:
            peers.pop(key, None)
    port, fwmark = request.listen_port, request.fwmark
    desired = state.with_peers(peers)
    if (request.private_key, port, fwmark) != (UNSET, UNSET, UNSET):
        desired = replace(
            desired,
            private_key=private_key,
            listen_port=state.listen_port if isinstance(port, Unset) else port,
            fwmark=state.fwmark if isinstance(fwmark, Unset) else fwmark,
        )
    observed = state
    if fold.forced:
        observed = replace(state, peers=dict(state.peers) | fold.forced)
    return Edited(observed, desired, tuple(fold.drafts))
