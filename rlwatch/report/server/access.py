"""Who may read the pages: requests by a name that is ours, and where others can reach us, with the token."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

COOKIE = "rlwatch_token"
MONTH = 30 * 24 * 3600

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def names_of(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The host names under which requests are taken, besides addresses in digits, which no name server can turn."""
    own = {"localhost", host.lower(), *(name.lower() for name in more)}
    if not is_loopback(host):
        own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(own)


class Gate:
    """ASGI middleware: refuses foreign hosts (DNS rebinding) and, if there is a token, whoever does not have it.

    The token comes as `Authorization: Bearer`, as a cookie, or once as `?token=`, which is answered with the cookie and
    the address without it.
    """

    def __init__(self, app: Any, names: frozenset[str], token: str = "") -> None:
        self._app, self._names, self._token = app, names, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, Response

        request = Request(scope)
        if not self._our_name(request.headers.getlist("host")):
            answer: Any = PlainTextResponse("This host name is none of ours: see --allow-host.\n", 421)
        elif self._token and (given := request.query_params.get("token")) is not None and self._is_token(given):
            answer = Response(status_code=303, headers={"Location": _without_token(scope), "Cache-Control": "no-store"})
            answer.set_cookie(COOKIE, self._token, max_age=MONTH, httponly=True, samesite="lax", path="/")
        elif self._token and not self._known(request):
            answer = PlainTextResponse("A token is needed: open the address that `rlwatch serve` printed.\n", 401)
        else:
            await self._app(scope, receive, _with_headers(send))
            return
        await answer(scope, receive, _with_headers(send))

    def _our_name(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        host = hosts[0].lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _known(self, request: Any) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return (kind.lower() == "bearer" and self._is_token(given.strip())) or self._is_token(
            request.cookies.get(COOKIE, "")
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _without_token(scope: Any) -> str:
    """The path and the rest of the query. A path that began with two slashes would be another host's."""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    rest = urlencode([pair for pair in pairs if pair[0] != "token"])
    path = quote("/" + str(scope["path"]).lstrip("/\\"))
    return f"{path}?{rest}" if rest else path


def _with_headers(send: Any) -> Any:
    async def sender(message: Any) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *ours]}
        await send(message)

    return sender
