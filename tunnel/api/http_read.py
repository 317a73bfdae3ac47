"""The routes that change nothing: state, health, metrics, status, what would change."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from tunnel.api.http_bridge import Bridge
from tunnel.api.http_history import reloads_of, totals
from tunnel.api.http_models import Diffs, Health, State, Status
from tunnel.api.http_views import diffs_of, status_of
from tunnel.api.metrics import Names, Reloads, render
from tunnel.api.problems import Refusal
from tunnel.prepare import prepare_file
from tunnel.status import DeviceStatus

__all__ = ["router"]

_HEALTH_TIMEOUT = 2.0
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

    def stamp(response: Response, generation: int) -> None:
        response.headers["ETag"] = bridge.etag(generation)
        response.headers["Cache-Control"] = "no-store"

    @routes.get("/state", responses={200: _ETAG})
    async def state(response: Response) -> State:
        """Device, peers, counters and the last changes."""
        found, reloads, generation = await bridge.ask(
            lambda: (
                manager.state(),
                reloads_of(manager.history),
                engine.device.generation,
            )
        )
        stamp(response, generation)
        return State.model_validate(found | {"reloads": reloads})

    @routes.get("/api/wg/status", responses={200: _ETAG})
    async def wg_status(response: Response) -> Status:
        """The tunnel and its peers as they run."""
        found: DeviceStatus = await bridge.ask(engine.device.status)
        stamp(response, found.generation)
        return status_of(found, time.time_ns())

    @routes.get("/api/wg/diffs", responses={200: _ETAG})
    async def wg_diffs(response: Response) -> Diffs:
        """What applying the configuration file would change."""

        def compare(file: Any) -> Diffs:
            file.discard()
            return diffs_of(manager.plan_for(file.desired), engine.device.observe())

        found = await bridge.prepared(
            lambda: prepare_file(manager.file.path, manager.file.config), compare
        )
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
                return "the interface is down"
            return "" if device.state.private_key else "there is no private key"

        reason = await bridge.ask(missing, within=_HEALTH_TIMEOUT)
        if reason:
            raise Refusal(503, "not-ready", reason)
        return Health()


def _add_metrics(routes: APIRouter, bridge: Bridge) -> None:
    engine, manager = bridge.engine, bridge.manager

    def look() -> tuple[DeviceStatus, Reloads]:
        return engine.device.status(), totals(manager.history)

    text = {"text/plain": {"schema": {"type": "string"}}}
    openmetrics = {"application/openmetrics-text": {"schema": {"type": "string"}}}

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
        status, reloads = await bridge.ask(look)
        document, media_type = render(
            status, reloads, names=names, peers=peers, remote=remote,
            wall=time.time_ns(), accept=request.headers.get("accept", ""),
        )  # fmt: skip
        return Response(document, headers={"content-type": media_type})
