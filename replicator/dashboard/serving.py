"""Listening and serving: a socket, an HTTP server that leaves signals alone, and its end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.applications import Starlette

from replicator.dashboard.connections import Connections, connections_max
from replicator.dashboard.live import Live
from replicator.errors import ConfigurationError

GRACEFUL_SHUTDOWN_S = 2
BACKLOG = 100
"""Accepted at one go, before any of them is counted."""
UNREAD_S_MAX = 30
"""After this the kernel gives up a connection whose other end does not read. Source: tcp(7),
TCP_USER_TIMEOUT; an accepted socket takes it over from the one that listens."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises: ConfigurationError if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(_unheard(host, port, error)) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S_MAX * 1000)
    return listener


def _unheard(host: str, port: int, error: OSError | UnicodeError) -> str:
    """Why an address cannot be had, and what to do about it."""
    where = f"cannot listen on {host}:{port}"
    number = 0 if isinstance(error, UnicodeError) else error.errno or 0
    if number <= 0:  # those of getaddrinfo are negative
        return f"http.host: {where}: there is no such address; correct http.host"
    reason = os.strerror(number)
    match number:
        case errno.EADDRINUSE:
            remedy = "end the process that listens there, or choose another with --port"
        case errno.EACCES:
            remedy = "take a port above 1023 with --port"
        case _:
            return f"http.host: {where}: {reason}; correct http.host"
    return f"http: {where}: {reason}; {remedy}"


async def serve(app: Starlette, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises: ConfigurationError if the address cannot be had."""
    await serve_on(app, listen(host, port), stop)


async def serve_on(app: Starlette, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on a listening socket until `stop` is set, then close it."""
    with listener:
        await serve_shared(app, listener, stop)


async def serve_shared(app: Starlette, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on a listening socket that stays open, so that after a failure it can serve again."""
    live: Live = app.state.live
    server = _Server(_config(app))
    serving = asyncio.create_task(server.serve(sockets=[listener.dup()]))
    beating = asyncio.create_task(live.run(stop))
    try:
        await asyncio.wait((serving, beating), return_when=asyncio.FIRST_COMPLETED)
    finally:
        beating.cancel()
        await asyncio.wait((beating,))
        server.should_exit = True
        await serving
    if not beating.cancelled():
        beating.result()


def _config(app: Starlette) -> uvicorn.Config:
    connections = Connections(app, open_max=connections_max())
    return uvicorn.Config(
        connections,
        http=cast(type[asyncio.Protocol], connections.protocol),  # is called like the class
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process, not to its page."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
