"""The HTTP side of a running replicator: the page, its figures, and two health checks.

    /              the page; it may load its own files and nothing else
    /api/status    the status document of this moment
    /api/history   what the charts show: ?window=10m|2h|24h, ?table=NAME
    /api/conflicts the newest conflicts, if they are recorded: ?limit=N
    /metrics       for Prometheus
    /api/pause     POST, with the token: pause or resume links
    /events        the status document once a second, as server-sent events
    /healthz, /readyz

Nothing can be changed but what is paused, and that with the token only. Who may ask is decided in
access.py. This module must not know where figures come from; it passes on what it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from replicator.dashboard.access import Access, Gate
from replicator.dashboard.feed import EventStream
from replicator.dashboard.live import Live, Snapshot
from replicator.dashboard.switch import Order, Refused, Switch, no_switch

Conflicts: TypeAlias = Callable[[int], Awaitable[Mapping[str, Any]]]
"""Gives the newest conflicts, at most so many: `{"total": n, "conflicts": […]}`; of several
processes `missing` too, the names of those that gave no answer, and then `total` is None."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Source: Prometheus, "Exposition formats", text-based format."""

STATIC = resources.files(__package__) / "static"
_HTML, _CSS = "text/html; charset=utf-8", "text/css; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"
_SCRIPTS = (
    *("page", "stream", "reading", "spoken", "dom"),
    *("matrix", "panel", "charts", "lists", "pause"),
)
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", _HTML),
    "/page.css": ("page.css", _CSS),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    **{f"/{name}.js": (f"{name}.js", _SCRIPT) for name in _SCRIPTS},
    "/vendor/uPlot.js": ("vendor/uPlot.iife.min.js", _SCRIPT),
    "/vendor/uPlot.css": ("vendor/uPlot.min.css", _CSS),
    "/vendor/uPlot.LICENSE": ("vendor/uPlot.LICENSE", "text/plain; charset=utf-8"),
}
CONFLICTS_MAX = 500
ORDER_BYTES_MAX = 4_096
ORDER_WITHIN_S = 5.0


def create_app(
    snapshot: Snapshot,
    *,
    access: Access | None = None,
    conflicts: Conflicts | None = None,
    metrics: Callable[[], str] | None = None,
    switch: Switch = no_switch,
) -> FastAPI:
    """The application that shows what `snapshot` returns at the moment of each request."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.live = live = Live(snapshot)
    for path, (name, media_type) in FILES.items():
        _add_file(app, path, (STATIC / name).read_bytes(), media_type)
    _add_figures(app, live, conflicts)
    if metrics is not None:
        _add_metrics(app, metrics)
    _add_health(app, live)
    _add_pause(app, switch)
    app.add_middleware(Gate, access=access or Access(), files=frozenset(FILES))
    return app


def _add_metrics(app: FastAPI, metrics: Callable[[], str]) -> None:
    @app.get("/metrics")
    async def scraped() -> Response:
        return Response(metrics(), media_type=METRICS_TYPE)


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    @app.api_route(path, methods=["GET", "HEAD"])
    async def file() -> Response:
        return Response(content, media_type=media_type)


def _add_figures(app: FastAPI, live: Live, conflicts: Conflicts | None) -> None:
    @app.get("/api/status")
    async def status() -> JSONResponse:
        return JSONResponse(live.snapshot())

    @app.get("/api/history")
    async def history(
        window: Literal["10m", "2h", "24h"] = "10m",
        table: Annotated[str | None, Query(max_length=255)] = None,
    ) -> Response:
        document = live.history.document(window, table)
        return await asyncio.to_thread(JSONResponse, document)  # 24 h of many links take a while

    @app.get("/api/conflicts")
    async def newest_conflicts(
        limit: Annotated[int, Query(ge=1, le=CONFLICTS_MAX)] = 50,
    ) -> JSONResponse:
        if conflicts is None:
            return JSONResponse({"total": None, "conflicts": [], "recorded": False})
        return JSONResponse(await conflicts(limit))

    @app.get("/events")
    async def events() -> Response:
        return EventStream(live.feed, live.newest)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"][1:])
        return JSONResponse({"error": f"{name}: {first['msg']}"}, 422)


def _add_health(app: FastAPI, live: Live) -> None:
    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        state = live.snapshot()["state"]
        return JSONResponse({"state": state}, 503 if state == "failed" else 200)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        states = [pipeline["state"] for pipeline in live.snapshot()["pipelines"]]
        ready = bool(states) and "starting" not in states
        return JSONResponse({"ready": ready}, 200 if ready else 503)


def _add_pause(app: FastAPI, switch: Switch) -> None:
    @app.post("/api/pause")
    async def pause(request: Request) -> JSONResponse:
        try:
            order = await _order(request)
            return JSONResponse(
                {"links": await switch(order, request.headers.get("authorization"))}
            )
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)


async def _order(request: Request) -> Order:
    """The order in a request's body, of which no more is read than an order may have."""
    body = bytearray()
    try:
        async with asyncio.timeout(ORDER_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > ORDER_BYTES_MAX:
                    raise Refused(413, "that is no order: too long")
    except TimeoutError:
        raise Refused(408, "that is no order: it does not end") from None
    try:
        return Order.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(step) for step in first["loc"]) or "body"
        raise Refused(422, f"{name}: {first['msg']}") from None
