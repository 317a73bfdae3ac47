"""The routes that change nothing: state, health, metrics, status, what would change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from tunnel.api.http_bridge import Bridge
from tunnel.api.http_history import reloads_of
from tunnel.api.http_models import Diffs, Health, State, Status
from tunnel.api.http_snapshot import Snapshot
from tunnel.api.http_views import diffs_of, status_of
from tunnel.api.metrics import Names, render
from tunnel.api.problems import Refusal
from tunnel.report import state_json

__all__ = ["router"]

_HEALTH_TIMEOUT = 2.0
_OPENMETRICS = "application/openmetrics-text"
_ETAG: dict[str, Any] = {
    "description": "OK",
    "headers": {
        "ETag": {
            "description": "the configuration's generation, for If-Match",
            "schema": {"type": "string"},
        }
    },
}


def router(bridge: Bridge) -> APIRouter:
    """The reading routes."""
    routes = APIRouter(tags=["read"])
    _add_state(routes, bridge)
    _add_health(routes, bridge)
    _add_metrics(routes, bridge)
    return routes


def _add_state(routes: APIRouter, bridge: Bridge) -> None:
    engine, manager = bridge.engine, bridge.manager

    def stamp(response: Response, generation: int) -> Response:
        response.headers["ETag"] = bridge.etag(generation)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def shown(name: str, make: Callable[[Snapshot], bytes]) -> Response:
        found = await bridge.snapshots.get()
        answer = Response(found.once(name, make), media_type="application/json")
        return stamp(answer, found.status.generation)

    @routes.get("/state", response_model=State, responses={200: _ETAG})
    async def state() -> Response:
        """Device, peers, counters and the last changes."""
        return await shown("state", _state)

    @routes.get("/api/wg/status", response_model=Status, responses={200: _ETAG})
    async def wg_status() -> Response:
        """The tunnel and its peers as they run."""
        return await shown("status", _status)

    @routes.get("/api/wg/diffs", responses={200: _ETAG})
    async def wg_diffs(response: Response) -> Diffs:
        """What applying the configuration file would change."""

        def compare(file: Any) -> Diffs:
            file.discard()
            found = diffs_of(manager.plan_for(file.desired), engine.device.observe())
            found.warnings = file.warnings
            return found

        found = await bridge.prepared(manager.prepare_own, compare)
        stamp(response, found.generation)
        return found


def _add_health(routes: APIRouter, bridge: Bridge) -> None:
    device = bridge.engine.device

    @routes.get("/healthz")
    async def healthz() -> Health:
        """The control thread answers."""
        await bridge.ask(lambda: None, within=_HEALTH_TIMEOUT)
        return Health()

    @routes.get("/readyz")
    async def readyz() -> Health:
        """The interface is up and has a key: packets can flow."""

        def missing() -> str:
            if not device.up:
                return str(device.waiting) or "the interface is down"
            return "" if device.state.private_key else "there is no private key"

        reason = await bridge.ask(missing, within=_HEALTH_TIMEOUT)
        if reason:
            raise Refusal(503, "not-ready", reason)
        return Health()


def _add_metrics(routes: APIRouter, bridge: Bridge) -> None:
    text = {"text/plain": {"schema": {"type": "string"}}}
    openmetrics = {_OPENMETRICS: {"schema": {"type": "string"}}}

    @routes.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={200: {"description": "OK", "content": text | openmetrics}},
    )
    async def metrics(
        request: Request,
        names: Annotated[Names, Query(description="whose names")] = Names.MINDFLAVOR,
        peers: Annotated[bool, Query(description="series of single peers")] = True,
        remote: Annotated[bool, Query(description="remote_ip, remote_port")] = False,
    ) -> Response:
        """For Prometheus."""
        asked = request.headers.get("accept", "")
        accept = _OPENMETRICS if _OPENMETRICS in asked else ""

        def make(found: Snapshot) -> tuple[bytes, str]:
            return render(
                found.status, found.reloads, names=names, peers=peers, remote=remote,
                wall=time.time_ns(), accept=accept,
            )  # fmt: skip

        found = await bridge.snapshots.get()
        document, media_type = found.once((names, peers, remote, accept), make)
        return Response(document, headers={"content-type": media_type})


# --- documents, made in the HTTP thread


def _state(found: Snapshot) -> bytes:
    whole = state_json(found.status, found.left, found.path, (), found.refusal)
    reloads = reloads_of(found.events)
    return State.model_validate(whole | {"reloads": reloads}).model_dump_json().encode()


def _status(found: Snapshot) -> bytes:
    return status_of(found.status, time.time_ns()).model_dump_json().encode()
