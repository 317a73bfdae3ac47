"""The application: its error answers and its OpenAPI document.

The routes are in `http_read.py` and `http_change.py`; who may call them is decided in
front of it, by `auth.Guard`.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from tunnel import __version__
from tunnel.api import http_change, http_read
from tunnel.api.http_bridge import Bridge
from tunnel.api.problems import MEDIA_TYPE, PROBLEM_SCHEMA, Refusal
from tunnel.config.hidden import hide_keys
from tunnel.errors import ConfigProblem

__all__ = ["create_app"]

_PROBLEM = {
    "description": "A problem document (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_CODES = {404: "not-found", 405: "method-not-allowed", 400: "bad-request"}


def create_app(bridge: Bridge) -> FastAPI:
    """The routes, answering every error with a problem document."""
    app = FastAPI(
        title="Tunnel",
        version=__version__,
        description="Reads and changes a running tunnel. Changes need the token.",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": _PROBLEM, "5XX": _PROBLEM},
    )
    known = [Depends(_only_known)]
    app.include_router(http_read.router(bridge), dependencies=known)
    app.include_router(http_change.router(bridge), dependencies=known)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


async def _only_known(request: Request) -> None:
    """A misspelled `dry_run`, or one in the body, must not become a change: what a
    route does not know, or has twice, is refused."""
    dependant = request.scope["route"].dependant
    known = {field.alias for field in dependant.query_params}
    given = request.query_params
    problems = [
        ConfigProblem(_path(("query", name)), 0, _explain_query(name, known))
        for name in dict.fromkeys(given)
        if name not in known or len(given.getlist(name)) > 1
    ]
    if request.method == "POST":  # the guard has limited its body
        problems += _wrong_in(await request.body(), bool(dependant.body_params))
    if problems:
        raise _invalid_request(problems)


def _explain_query(name: str, known: set[str]) -> str:
    if name in known:
        return "is there twice"
    return f"not known here ({', '.join(sorted(known)) or 'nothing is'})"


def _wrong_in(body: bytes, wanted: bool) -> list[ConfigProblem]:
    """Members that are there twice, and whatever is in a body that is not `wanted`; the
    rest is the business of its model."""
    twice: dict[str, None] = {}

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = Counter(name for name, _ in pairs)
        twice.update(dict.fromkeys(name for name in names if names[name] > 1))
        return dict(pairs)

    try:
        found = json.loads(body or b"{}", object_pairs_hook=members)
    except (ValueError, RecursionError):
        found = None
    problems = [
        ConfigProblem(_path(("body", name)), 0, "is there twice") for name in twice
    ]
    if not wanted and found != {}:
        what = "nothing is known in a body here"
        problems.append(ConfigProblem("body", 0, what, "write it into the query"))
    return problems


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    document["components"]["schemas"]["Problem"] = PROBLEM_SCHEMA
    return document


def _answer(refusal: Refusal) -> Response:
    return Response(refusal.body(), refusal.status, refusal.all_headers())


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(error)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "bad-request")
    headers = dict(error.headers or {})
    return _answer(Refusal(error.status_code, code, error.detail, headers=headers))


async def _internal(_: Request, __: Exception) -> Response:
    """The guard logs it."""
    return _answer(Refusal(500, "internal", "an error of this program"))


async def _invalid(_: Request, error: Exception) -> Response:
    """Which fields are wrong, and never what was in them."""
    assert isinstance(error, RequestValidationError)
    problems = [
        ConfigProblem(_path(item["loc"]), 0, _message(item)) for item in error.errors()
    ]
    return _answer(_invalid_request(problems))


def _invalid_request(problems: list[ConfigProblem]) -> Refusal:
    what = "the request is not valid"
    return Refusal(422, "invalid-request", what, problems=problems)


def _path(place: tuple[int | str, ...]) -> str:
    """`body.allowed_ips[3]`; a key that the client made up is cut short."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            safe = hide_keys(part, 40)
            text += f".{safe}" if text else safe
    return text


def _message(item: dict[str, Any]) -> str:
    """pydantic's words, where they are made of the schema and not of the input."""
    kind = str(item["type"])
    if kind == "string_pattern_mismatch":  # every pattern here is that of a key
        return "not a key of 32 bytes in base64 (44 characters)"
    if kind == "model_attributes_type":
        return "not a JSON object (send it as application/json)"
    if kind.startswith(("value_error", "assertion", "json_invalid")):
        return "not valid here" if kind != "json_invalid" else "not JSON"
    return str(item["msg"])
