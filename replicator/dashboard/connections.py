"""The open connections of the page: bounded, and none stays for nothing.

The page is served by the process that replicates, out of the same descriptors. So there are only so
many connections, and when one more comes, the one that has waited longest makes room: a newcomer,
which a health check always is, gets in whoever else holds on. Those that follow the events are
spared as long as there are others. A connection that does not ask, and one that does not take its
answer, ends after its time; asking halfway is not asking.

This module must not know what is asked for, but for the path of the events.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

log = logging.getLogger(__name__)

Client: TypeAlias = tuple[str, int]
MakeProtocol: TypeAlias = Callable[..., asyncio.Protocol]

CONNECTIONS_MAX = 256
DESCRIPTORS_SHARE = 4
"""The page takes no more than one descriptor out of so many that the process may have."""
REQUEST_WITHIN_S = 10.0
ANSWERED_WITHIN_S = 60.0
CROWDED_EVERY_S = 60.0
EVENTS = "/events"


def connections_max() -> int:
    """How many connections the page may hold in this process."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, descriptors // DESCRIPTORS_SHARE))


class Connections:
    """All that are open, the one that has waited longest first; an application around another."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        open_max: int,
        request_within_s: float = REQUEST_WITHIN_S,
        answered_within_s: float = ANSWERED_WITHIN_S,
        protocol: MakeProtocol = H11Protocol,
    ) -> None:
        """`protocol`: what speaks HTTP, made as uvicorn makes it.

        h11 ends a request whose head grows beyond 64 KiB; uvicorn's other one, httptools, takes
        any length, at a cost that grows with its square, from whoever can connect.
        """
        self._app, self._protocol = app, protocol
        self._open_max = open_max
        self._request_within_s, self._answered_within_s = request_within_s, answered_within_s
        self._open: dict[_Connection, None] = {}
        self._by_client: dict[Client, _Connection] = {}
        self._told_s: float | None = None

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self, **parts: Any) -> asyncio.Protocol:
        """The protocol of a new connection, as uvicorn asks for it."""
        return _Connection(self._protocol(**parts), self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._by_client.get(cast(Client, scope.get("client")))
        if connection is None:
            await self._app(scope, receive, send)
            return
        self._begin(connection, streams=scope["path"] == EVENTS)
        try:
            await self._app(scope, receive, send)
        finally:
            connection.streams = False
            connection.end_in(self._request_within_s)

    def _begin(self, connection: _Connection, *, streams: bool) -> None:
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None  # as one that has just come
        connection.streams = streams
        connection.end_in(None if streams else self._answered_within_s)

    def admit(self, connection: _Connection) -> None:
        """Take a newcomer in; another may have to go."""
        if len(self._open) >= self._open_max:
            self._tell()
            oldest = min(self._open, key=lambda each: each.streams)
            self.leave(oldest)
            oldest.end()
        self._open[connection] = None
        if connection.client is not None:
            self._by_client[connection.client] = connection
        connection.end_in(self._request_within_s)

    def leave(self, connection: _Connection) -> None:
        """It is closed, or is going to be."""
        self._open.pop(connection, None)
        if connection.client and self._by_client.get(connection.client) is connection:
            del self._by_client[connection.client]

    def _tell(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._told_s is None or now_s - self._told_s >= CROWDED_EVERY_S:
            self._told_s = now_s
            log.warning("page.crowded", extra={"connections": self._open_max})


class _Connection(asyncio.Protocol):
    """One connection: passes everything on to what speaks HTTP, and knows when to end."""

    def __init__(self, speaker: asyncio.Protocol, connections: Connections) -> None:
        self._speaker, self._connections = speaker, connections
        self._transport: asyncio.Transport | None = None
        self._ending: asyncio.TimerHandle | None = None
        self.client: Client | None = None
        self.streams = False

    def end_in(self, seconds: float | None) -> None:
        """End unless told otherwise before; None for not at all."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if seconds is not None and self._transport is not None:
            self._ending = asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        """Close it, whatever is still to be sent."""
        self.end_in(None)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.client = get_remote_addr(self._transport)
        self._connections.admit(self)
        self._speaker.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end_in(None)
        self._transport = None
        self._connections.leave(self)
        self._speaker.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._speaker.data_received(data)

    def eof_received(self) -> bool | None:
        return self._speaker.eof_received()

    def pause_writing(self) -> None:
        self._speaker.pause_writing()

    def resume_writing(self) -> None:
        self._speaker.resume_writing()
