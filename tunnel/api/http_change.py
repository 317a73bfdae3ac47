"""The routes that change the tunnel. Each is one callable in the control thread: check
the precondition, then hand the change to the manager, or only plan it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Header, Query, Response, Security
from fastapi.security import HTTPBearer

from tunnel.api.http_bridge import Bridge
from tunnel.api.http_edits import adding, key_of, removing
from tunnel.api.http_history import peers_of
from tunnel.api.http_models import Applied, NewPeer, PeerChanged, PeerToRemove
from tunnel.api.http_views import diffs_of
from tunnel.api.problems import Refusal
from tunnel.peer_edits import PeerEdit
from tunnel.reloads import changes_of
from tunnel.state.plan import Plan
from tunnel.state.render import key_text
from tunnel.waiting import Told

__all__ = ["router"]

_SOURCE = "http"

# declared for the document; the guard has already decided
_bearer = HTTPBearer(auto_error=False, description="the management token")

DryRun = Annotated[bool, Query(description="only say what would change")]
Save = Annotated[bool, Query(description="also write it to the configuration file")]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="the ETag of the expected configuration"),
]
Confirm = Annotated[
    float | None,
    Query(gt=0, le=86400, description="seconds until it is undone, if not confirmed"),
]
Prune = Annotated[bool, Query(description="remove peers that the file does not have")]


def router(bridge: Bridge) -> APIRouter:
    """The changing routes."""
    routes = APIRouter(tags=["change"], dependencies=[Security(_bearer)])
    _add_apply(routes, bridge)
    _add_confirmation(routes, bridge)
    _add_peers(routes, bridge)
    return routes


def _add_apply(routes: APIRouter, bridge: Bridge) -> None:
    manager = bridge.manager

    @routes.post("/api/apply-wg-config")
    async def apply_wg_config(
        response: Response,
        dry_run: DryRun = False,
        prune: Prune = True,
        confirm_within: Confirm = None,
        if_match: IfMatch = None,
    ) -> Applied:
        """Make the tunnel what its configuration file says; only differences are
        applied."""

        def change(file: Any) -> Applied:
            bridge.check(if_match)
            if dry_run:
                file.discard()
                done = _planned(bridge, manager.plan_for(file.desired, prune=prune))
            else:
                event = manager.apply(
                    file, source=_SOURCE, prune=prune, confirm_within=confirm_within
                )
                done = _applied(bridge, event, confirm_within)
            done.warnings = file.warnings
            if done.plan is not None:
                done.plan.warnings = file.warnings
            return done

        answer = await bridge.prepared(
            manager.prepare_own,
            change,
            record="" if dry_run else _SOURCE,
        )
        return _stamped(bridge, response, answer)


def _add_confirmation(routes: APIRouter, bridge: Bridge) -> None:
    manager = bridge.manager

    def check_pending() -> None:
        if manager.trial.left is None:
            raise Refusal(409, "nothing-pending", "no change waits to be confirmed")

    @routes.post("/api/confirm")
    async def confirm(response: Response) -> Applied:
        """Keep the change that was made with `confirm_within`."""

        def keep(told: Told) -> None:
            check_pending()
            manager.trial.confirm_soon(told)

        answer = await bridge.begun(keep, lambda: _plain(bridge, "confirmed"))
        return _stamped(bridge, response, answer)

    @routes.post("/api/rollback")
    async def rollback(response: Response) -> Applied:
        """Take back at once the change that was made with `confirm_within`."""

        def take_back() -> Applied:
            check_pending()
            return _applied(bridge, manager.trial.rollback(), None)

        return _stamped(bridge, response, await bridge.change(take_back))


def _add_peers(routes: APIRouter, bridge: Bridge) -> None:
    manager = bridge.manager

    async def edit(
        wanted: PeerEdit, key: str, if_match: str | None, *, dry_run: bool, save: bool
    ) -> PeerChanged:
        def change(edits: Any) -> PeerChanged:
            bridge.check(if_match)
            plan, event = manager.edit_peers(edits, source=_SOURCE, dry_run=dry_run)
            if event is None:
                done = _planned(bridge, plan)
            else:
                done = _applied(bridge, event, None)
            return PeerChanged(public_key=key, **dict(done))

        return await bridge.prepared(
            lambda: manager.prepare_edits([wanted], save=save and not dry_run),
            change,
            record="" if dry_run else _SOURCE,
        )

    @routes.post("/api/wg/add-peer")
    async def add_peer(
        response: Response,
        peer: Annotated[NewPeer, Body()],
        dry_run: DryRun = False,
        save: Save = False,
        if_match: IfMatch = None,
    ) -> PeerChanged:
        """Add a peer; sessions of the others stay."""
        key = peer.public_key
        answer = await edit(adding(peer), key, if_match, dry_run=dry_run, save=save)
        return _stamped(bridge, response, answer)

    @routes.post("/api/wg/remove-peer")
    async def remove_peer(
        response: Response,
        peer: Annotated[PeerToRemove, Body()],
        dry_run: DryRun = False,
        save: Save = False,
        if_match: IfMatch = None,
    ) -> PeerChanged:
        """Remove a peer; only its session ends."""
        observed = await bridge.ask(bridge.engine.device.observe)
        key = key_of(peer, observed)
        wanted = removing(key)
        answer = await edit(wanted, key_text(key), if_match, dry_run=dry_run, save=save)
        return _stamped(bridge, response, answer)


# --- answers, made in the control thread but for the last


def _planned(bridge: Bridge, plan: Plan) -> Applied:
    return Applied(
        message=f"would make {_count(len(plan.actions), 'change')}",
        dry_run=True,
        changes=changes_of(plan),
        peers=[],
        duration_ms=0,
        plan=diffs_of(plan, bridge.engine.device.observe()),
        **_where(bridge),
    )


def _applied(bridge: Bridge, event: Any, confirm_within: float | None) -> Applied:
    if not event.success:
        raise Refusal(409, "not-applied", str(event.error or "the change failed"))
    if not event.changes:
        message = "nothing to change"
    else:
        message = f"applied {', '.join(event.changes)}; all other sessions are kept"
    waits = bridge.manager.trial.left is not None
    return Applied(
        message=message,
        dry_run=False,
        changes=list(event.changes),
        peers=peers_of(event),
        duration_ms=event.duration_ms,
        confirm_within=confirm_within if waits else None,
        **_where(bridge),
    )


def _plain(bridge: Bridge, message: str) -> Applied:
    return Applied(
        message=message, dry_run=False, changes=[], peers=[], duration_ms=0,
        **_where(bridge),
    )  # fmt: skip


def _where(bridge: Bridge) -> dict[str, Any]:
    device = bridge.engine.device
    return {
        "interface": device.observe().interface.name,
        "generation": device.generation,
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


_A = TypeVar("_A", bound=Applied)


def _stamped(bridge: Bridge, response: Response, answer: _A) -> _A:
    response.headers["ETag"] = bridge.etag(answer.generation)
    response.headers["Cache-Control"] = "no-store"
    return answer
