"""What a peer has to do when its packet path tells something, or a timer is due.

The order of steps is the kernel's (send.c, timers.c). Called by Node, with the times
now (ns, boot time) and wall (ns, Unix).
"""

from __future__ import annotations

from tunnel.protocol.events import EndpointMoved, HandshakeGivenUp, KeysErased
from tunnel.protocol.path import PathEvent
from tunnel.protocol.peer import Peer
from tunnel.protocol.timers import Action, Occasion, Timer

__all__ = ["handle_deadline", "path_event", "retry_is_due"]

# --- what the packet path tells


def path_event(peer: Peer, events: int, now: int, wall: int) -> None:
    """PathEvent bits; each is a hint, and what it says is looked at again."""
    peer.watch.ensure_persistent(now)
    if events & PathEvent.CONFIRMED:
        peer.confirm_if_due(now, wall)
        peer.slots.use_current()  # the path has switched by itself
    if events & PathEvent.LAST_MINUTE:
        _last_minute(peer, now, wall)
    if events & PathEvent.REKEY and peer.slots.wants_rekey(now):
        peer.initiate(now, wall)
    if events & PathEvent.NEEDS_SESSION:
        _needs_session(peer, now, wall)
    if events & PathEvent.UNREPLIED:
        peer.watch.data_arrived()
        _act(peer, Timer.KEEPALIVE, now, wall)
    if events & PathEvent.UNANSWERED:
        _act(peer, Timer.NEW_HANDSHAKE, now, wall)
    if events & PathEvent.ROAMED:
        peer.local.events.append(EndpointMoved(peer))


def _last_minute(peer: Peer, now: int, wall: int) -> None:
    """The session nears its end; once for each (R26)."""
    handshake = peer.handshake
    if not handshake.last_minute_done and peer.slots.in_last_minute(now):
        handshake.last_minute_done = True
        peer.initiate(now, wall)


def _needs_session(peer: Peer, now: int, wall: int) -> None:
    """Packets wait; unless there is a session by now, ask for one."""
    if peer.slots.can_send(now):
        peer.slots.use_current()
        peer.path.flush(keepalive=False)
    else:
        peer.initiate(now, wall)


# --- timers


def retry_is_due(peer: Peer, now: int) -> bool:
    """Whether the deadline that is due makes another initiation, not the last."""
    if not peer.timers.due(Timer.RETRANSMIT, now):
        return False
    return peer.handshake.attempts <= peer.local.timing.max_timer_handshakes


def handle_deadline(peer: Peer, now: int, wall: int) -> None:
    """Looks at every timer that is due; one set too early is set again."""
    for timer in peer.timers.take_expired(now):
        _act(peer, timer, now, wall)


def _act(peer: Peer, timer: Timer, now: int, wall: int) -> None:
    handshake = peer.handshake
    match peer.watch.look(timer, now, handshake):
        case Action.RETRY:
            handshake.attempts += 1
            peer.path.clear_source()
            peer.initiate(now, wall, retry=True)
        case Action.INITIATE:
            peer.watch.stop_waiting_for_answer()
            peer.initiate(now, wall)
        case Action.GIVE_UP:
            _give_up(peer, now)
        case Action.ERASE:
            peer.forget_keys()
            peer.path.purge_staged()
            peer.local.events.append(KeysErased(peer))
        case Action.KEEPALIVE | Action.STOP | Action.WAIT:
            pass


def _give_up(peer: Peer, now: int) -> None:
    """R19; the next packet that waits starts over."""
    peer.timers.on(Occasion.GIVEN_UP, now)
    peer.watch.cancel_keepalive()
    peer.path.purge_staged()
    peer.local.counters["handshake.given_up"] += 1
    peer.local.events.append(HandshakeGivenUp(peer))
