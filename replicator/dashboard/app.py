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
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from replicator.dashboard.access import Access, Gate
from replicator.dashboard.feed import EventStream
from replicator.dashboard.live import Live, Snapshot
from replicator.dashboard.switch import Order, Refused, Switch, no_switch

ModelT = TypeVar("ModelT", bound=BaseModel)

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


class HistoryQuery(BaseModel):
    """What is asked of /api/history."""

    window: Literal["10m", "2h", "24h"] = "10m"
    table: str | None = Field(None, max_length=255)


class ConflictsQuery(BaseModel):
    """What is asked of /api/conflicts."""

    limit: int = Field(50, ge=1, le=CONFLICTS_MAX)


def create_app(
    snapshot: Snapshot,
    *,
    access: Access | None = None,
    conflicts: Conflicts | None = None,
    metrics: Callable[[], str] | None = None,
    switch: Switch = no_switch,
) -> Starlette:
    """The application that shows what `snapshot` returns at the moment of each request."""
    live = Live(snapshot)
    app = Starlette(
        routes=[
            *(_file(path, *named) for path, named in FILES.items()),
            *_figures(live, conflicts),
            *([] if metrics is None else [_metrics(metrics)]),
            *_health(live),
            _pause(switch),
        ],
        middleware=[Middleware(Gate, access=access or Access(), files=frozenset(FILES))],
        exception_handlers={Refused: _refused, HTTPException: _unknown},
    )
    app.state.live = live
    return app


async def _refused(_: Request, refused: Exception) -> JSONResponse:
    assert isinstance(refused, Refused)
    return JSONResponse({"error": str(refused)}, refused.status)


async def _unknown(_: Request, error: Exception) -> JSONResponse:
    """No such path, or another method than it takes."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _metrics(metrics: Callable[[], str]) -> Route:
    async def scraped(_: Request) -> Response:
        return Response(metrics(), media_type=METRICS_TYPE)

    return Route("/metrics", scraped)


def _file(path: str, name: str, media_type: str) -> Route:
    content = (STATIC / name).read_bytes()

    async def file(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return Route(path, file)


def _figures(live: Live, conflicts: Conflicts | None) -> list[Route]:
    async def status(_: Request) -> JSONResponse:
        return JSONResponse(live.snapshot())

    async def history(request: Request) -> Response:
        asked = _checked(lambda: HistoryQuery.model_validate({**request.query_params}))
        document = live.history.document(asked.window, asked.table)
        return await asyncio.to_thread(JSONResponse, document)  # 24 h of many links take a while

    async def newest_conflicts(request: Request) -> JSONResponse:
        asked = _checked(lambda: ConflictsQuery.model_validate({**request.query_params}))
        if conflicts is None:
            return JSONResponse({"total": None, "conflicts": [], "recorded": False})
        return JSONResponse(await conflicts(asked.limit))

    async def events(request: Request) -> Response:
        if request.method == "HEAD":  # nobody would read what follows
            return Response(media_type=EventStream.media_type)
        return EventStream(live.feed, live.newest)

    return [
        Route("/api/status", status),
        Route("/api/history", history),
        Route("/api/conflicts", newest_conflicts),
        Route("/events", events),
    ]


def _health(live: Live) -> list[Route]:
    async def healthz(_: Request) -> JSONResponse:
        state = live.snapshot()["state"]
        return JSONResponse({"state": state}, 503 if state == "failed" else 200)

    async def readyz(_: Request) -> JSONResponse:
        states = [pipeline["state"] for pipeline in live.snapshot()["pipelines"]]
        ready = bool(states) and "starting" not in states
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _pause(switch: Switch) -> Route:
    async def pause(request: Request) -> JSONResponse:
        order = await _order(request)
        return JSONResponse({"links": await switch(order, request.headers.get("authorization"))})

    return Route("/api/pause", pause, methods=["POST"])


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
    return _checked(lambda: Order.model_validate_json(bytes(body)), whole="body")


def _checked(validate: Callable[[], ModelT], *, whole: str = "query") -> ModelT:
    """What was asked. Raises: Refused with what is wrong, and where, or with `whole`."""
    try:
        return validate()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(step) for step in first["loc"]) or whole
        raise Refused(422, f"{name}: {first['msg']}") from None
