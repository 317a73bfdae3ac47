"""Generated requests against the API's own description, over a real socket: no failure
of ours, no answer that the description does not have, and a tunnel that still works.

A schema cannot say which texts are prefixes, which peers there are and what If-Match
has to be, so not everything that fits it has to be accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from tunnel.api.http import HttpServer, serve
from tunnel.api.http_token import TOKEN_ENV
from tunnel.config.addresses import Addresses

from .rig import TOKEN, Tunnel, free_port

EXAMPLES = 25  # of each operation, valid ones and invalid ones
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OPERATIONS = [
    ("get", "/state"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/api/wg/status"),
    ("get", "/api/wg/diffs"),
    ("post", "/api/apply-wg-config"),
    ("post", "/api/wg/add-peer"),
    ("post", "/api/wg/remove-peer"),
    ("post", "/api/confirm"),
    ("post", "/api/rollback"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """A tunnel of its own, which no generated name makes ask a name server."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Addresses, "_look_up", lambda *_: None)
        patch.setenv(TOKEN_ENV, TOKEN)
        tunnel = Tunnel(tmp_path_factory.mktemp("fuzz"))
        found = serve(tunnel.engine, tunnel.manager, f"127.0.0.1:{free_port()}")
        yield found
        found.close()
        tunnel.close()


@pytest.fixture(scope="module")
def schema(server: HttpServer) -> Any:
    return schemathesis.openapi.from_url(f"{server.address}/openapi.json")


def test_all_operations_are_tried(schema: Any) -> None:
    known = [found.ok() for found in schema.get_all_operations()]
    assert {(one.method.lower(), one.path) for one in known} == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_generated_requests(
    schema: Any, method: str, path: str, mode: GenerationMode, seed: int
) -> None:
    operation = schema[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not takes_anything(operation):
        return
    asked = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        wanted = mode is GenerationMode.POSITIVE or "Authorization" in case.headers
        answer = case.call(headers=HEADERS if wanted else None)
        left_out = [positive_data_acceptance]
        if not all_sent(case, answer):
            left_out.append(negative_data_rejection)
        case.validate_response(answer, excluded_checks=left_out)
        assert TOKEN not in answer.text

    ask()
    assert asked >= (EXAMPLES // 2 if takes_anything(operation) else 1)


def all_sent(case: Any, answer: Any) -> bool:
    """An empty list in a query is nothing on the wire, so nothing can be wrong."""
    query = urlsplit(answer.request.url).query
    return set(case.query or ()) <= set(parse_qs(query, keep_blank_values=True))


def takes_anything(operation: Any) -> bool:
    """Whether there is a parameter or a body to make up."""
    return any(True for _ in operation.iter_parameters()) or bool(operation.body)


def test_the_tunnel_still_works(schema: Any, server: HttpServer) -> None:
    case = schema["/readyz"]["GET"].Case()
    assert case.call(base_url=server.address).status_code == 200
