"""Who may ask what: address list, token, and no web page that is not ours.

`Guard` stands in front of the whole API, so that a new route cannot forget it. It is
plain ASGI and touches neither the tunnel nor the configuration.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from socket import gethostname
from typing import Any, Final
from urllib.parse import urlsplit

from tunnel.api.problems import Refusal

__all__ = ["Guard", "allowed_hosts", "answer"]

log = logging.getLogger("tunnel.http")

Prefix = tuple[bytes, int]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODY_MAX: Final = 1 << 20
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_LISTED: Final = Refusal(
    403,
    "address-not-allowed",
    "this address may not use the management API",
    "add its prefix to management.acl",
)


# --- names under which a browser may reach us


def allowed_hosts(bind_host: str) -> frozenset[str]:
    """Names besides literal addresses. An address cannot be rebound by DNS; a name can,
    so only those that mean this machine are answered."""
    own = {"localhost", gethostname().lower(), bind_host.lower()}
    return frozenset(name for name in own if name)


def _host_of(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Lets through to `app` what is allowed, and answers the rest itself.

    `acl` is asked at every connection (`refuses`) and again at every request, so a
    change of the configuration holds at once.
    `hosts` None means a Unix socket, which no browser and no other machine reaches:
    then the mode of its file says who may connect.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str,
        acl: Callable[[], tuple[Prefix, ...]],
        hosts: frozenset[str] | None,
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._acl = acl
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            headers = _headers(scope)
            self._check(scope, headers)
            if scope["method"] not in _READING:
                receive = await _whole_body(headers, receive)
            if scope["method"] == "HEAD":  # the server leaves the body out
                scope = {**scope, "method": "GET"}
            await self._app(scope, receive, sending)
        except Refusal as refusal:
            await answer(send, refusal)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not started:
                await answer(send, Refusal(500, "internal", "an error of this program"))

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        if self._hosts is not None:
            self._check_address(scope.get("client"))
            self._check_host(headers.get("host", ""), self._hosts)
            _check_origin(headers)
        if scope["method"] not in _READING:
            self._check_token(headers.get("authorization", ""))

    def refuses(self, peer: Any) -> Refusal | None:
        """Why this address of a socket may not even connect, or None."""
        if self._hosts is None:
            return None
        try:
            packed = _packed(peer[0]) if peer else b""
        except ValueError:
            packed = b""
        if any(_contains(prefix, packed) for prefix in self._acl()):
            return None
        return _NOT_LISTED

    def _check_address(self, client: tuple[str, int] | None) -> None:
        """The socket's peer; what a proxy claims in headers does not count."""
        refusal = self.refuses(client)
        if refusal is not None:
            raise refusal

    @staticmethod
    def _check_host(netloc: str, names: frozenset[str]) -> None:
        host = _host_of(netloc) if netloc else None
        if not host or not (host.rstrip(".") in names or _is_address(host)):
            raise Refusal(
                421,
                "host-not-allowed",
                "the API does not answer to this host name",
                "use an address, localhost or the name in management.bind",
            )

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("latin-1", "replace")
        if scheme.lower() == "bearer" and hmac.compare_digest(given, self._token):
            return
        code = "token-wrong" if authorization else "token-missing"
        raise Refusal(
            401,
            code,
            "a change needs the management token",
            "send it as: Authorization: Bearer TOKEN",
            headers={"www-authenticate": 'Bearer realm="tunnel"'},
        )


def _check_origin(headers: dict[str, str]) -> None:
    """Browsers say where a request comes from; only the API's own pages may ask."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    own = origin is None or _netloc(origin) == headers["host"].lower()
    if not own or site not in {"none", "same-origin"}:
        raise Refusal(
            403, "cross-origin", "a web page of another origin may not use the API"
        )


def _netloc(origin: str) -> str | None:
    """The `host:port` of an origin; None for `null` and for nonsense."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _headers(scope: Scope) -> dict[str, str]:
    """Names are lower case; a repeated one of those we decide by is refused."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name in found and name in {"host", "origin", "authorization"}:
            raise Refusal(400, "bad-request", f"the header {name} is there twice")
        found[name] = raw_value.decode("latin-1")
    return found


def _packed(text: str) -> bytes:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).packed


def _contains(prefix: Prefix, address: bytes) -> bool:
    network, length = prefix
    if len(network) != len(address):
        return False
    shift = len(network) * 8 - length
    return int.from_bytes(network, "big") >> shift == (
        int.from_bytes(address, "big") >> shift
    )


async def _whole_body(headers: dict[str, str], receive: Receive) -> Receive:
    """Reads the body up front, so that no route can be made to read without end."""
    too_large = Refusal(413, "too-large", f"at most {_BODY_MAX >> 20} MiB")
    length = headers.get("content-length", "0")
    if len(length) > 9 or int(length) > _BODY_MAX:  # the server checked the digits
        raise too_large
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "bad-request", "the request ended too early")
        body += message.get("body", b"")
        if len(body) > _BODY_MAX:
            raise too_large
        more = message.get("more_body", False)
    rest: list[Message] = [{"type": "http.request", "body": bytes(body)}]

    async def replay() -> Message:
        return rest.pop() if rest else await receive()

    return replay


async def answer(send: Send, refusal: Refusal) -> None:
    """The refusal as the whole answer to a request."""
    body = refusal.body()
    headers = refusal.all_headers() | {"content-length": str(len(body))}
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
