"""The addresses: `/`, `/run/NAME`, `/run/NAME/incident/STEP-DETECTOR`, and what the pages ask whether there is news."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlwatch.report.data import ReportError
from rlwatch.report.server.access import Gate
from rlwatch.report.server.pages import Pages, script, script_address

FOR_EVER = "public, max-age=31536000, immutable"


def application(top: Path, names: frozenset[str], token: str = "") -> Any:
    """The ASGI application for the runs below `top`; `names` and `token` as of `Gate`."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    pages = Pages(top)

    def html(make: Callable[[Any], str | None]) -> Callable[[Any], Any]:
        def endpoint(request: Any) -> Any:
            try:
                text = make(request)
            except ReportError as error:
                return PlainTextResponse(f"{error}\n", 404)
            if text is None:
                return PlainTextResponse("There is no such run.\n", 404)
            policy = {"Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-store"}
            return HTMLResponse(text.encode("utf-8", "replace"), headers=policy)

        return endpoint

    def told(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def endpoint(request: Any) -> Any:
            state = make(request)
            return JSONResponse(state, 404 if state is None else 200, headers={"Cache-Control": "no-store"})

        return endpoint

    def asset(request: Any) -> Any:
        if request.url.path != script_address():
            return PlainTextResponse("There is no such file.\n", 404)
        return Response(script(), media_type="text/javascript", headers={"Cache-Control": FOR_EVER})

    routes = [
        Route("/", html(lambda request: pages.index())),
        Route("/state", told(lambda request: pages.index_state())),
        Route("/assets/{file}", asset),
        Route("/run/{name:path}/state", told(lambda request: pages.run_state(_name(request)))),
        Route(
            "/run/{name:path}/incident/{home}",
            html(lambda request: pages.incident(_name(request), request.path_params["home"])),
        ),
        Route("/run/{name:path}", html(lambda request: pages.run(_name(request)))),
    ]
    middleware = [
        Middleware(Gate, names=names, token=token),
        Middleware(GZipMiddleware, minimum_size=2000, compresslevel=5),
    ]
    return Starlette(routes=routes, middleware=middleware)


def _name(request: Any) -> str:
    """Decoded by the server already; the slashes of a nested run are part of its name."""
    return str(request.path_params["name"])
