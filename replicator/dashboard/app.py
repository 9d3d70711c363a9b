"""The HTTP side of a running replicator: a status page, its JSON, and two health checks.

Read-only and for this machine alone: requests whose Host is no loopback name are refused, so that
a foreign page cannot read it by rebinding its own name (failures.md, Security). The page consists
of three files of its own and may load nothing else.

This module must not know where a snapshot comes from; it passes on what it is given.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from replicator.endpoints import is_loopback
from replicator.errors import ConfigurationError

Snapshot: TypeAlias = Callable[[], dict[str, Any]]
"""Gives the status as the page, `replicator status` and the demo read it."""

STATIC = resources.files(__package__) / "static"
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
}
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
GRACEFUL_SHUTDOWN_S = 2


def create_app(snapshot: Snapshot) -> FastAPI:
    """The application that shows what `snapshot` returns at the moment of each request."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for path, (name, media_type) in FILES.items():
        _add_file(app, path, (STATIC / name).read_bytes(), media_type)

    @app.get("/api/status")
    async def status() -> JSONResponse:
        return JSONResponse(snapshot())

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        state = snapshot()["state"]
        return JSONResponse({"state": state}, 503 if state == "failed" else 200)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        states = [pipeline["state"] for pipeline in snapshot()["pipelines"]]
        ready = bool(states) and "starting" not in states
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    app.add_middleware(LoopbackOnly)
    return app


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    @app.api_route(path, methods=["GET", "HEAD"])
    async def file() -> Response:
        return Response(content, media_type=media_type)


class LoopbackOnly:
    """Refuses requests that name another host, and sets the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        app = self._app if _names_loopback(host) else _MISDIRECTED
        await app(scope, receive, send_secured)


_MISDIRECTED = PlainTextResponse("this page answers to loopback names only\n", 421)


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises: ConfigurationError if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "end the process that listens there, or choose another with --port"
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigurationError(
            f"http: cannot listen on {host}:{port}: {reason}; {remedy}"
        ) from None


async def serve(app: FastAPI, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises: ConfigurationError if the address cannot be had."""
    await serve_on(app, listen(host, port), stop)


async def serve_on(app: FastAPI, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on a listening socket until `stop` is set, then close it."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    server = _Server(config)
    with listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process, not to its page."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
