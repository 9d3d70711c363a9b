"""The connections to one endpoint: bounded in number, kept alive, watched.

A request takes the connection that was used last, so that those that are not needed grow idle and
end. Names are resolved anew for every new connection. Where all connections are busy and no further
one may be made, requests wait in their order.

A pool belongs to the loop that runs when it is used. One watcher per pool gives up exchanges that
take too long and ends connections that were idle for too long; when the loop ends, it is cancelled
like any task, and ends them all. Used on another loop, the pool starts with no connection.

This module must not know what is said over a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

from replicator.errors import ConfigurationError
from replicator.wire.connection import Answer, Broken, Connection

WATCH_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many connections, and how long anything may take."""

    connections_max: int = 64
    connect_s: float = 3.0
    answer_s: float = 10.0
    idle_s: float = 20.0
    """Less than after which services and routers drop what is idle."""


def tls_context(ca_bundle: str) -> ssl.SSLContext:
    """What tells certificates by those of a file. Raises: ConfigurationError where it has none."""
    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:  # ssl.SSLError is one
        text = f"{ca_bundle}: no file of certificates: {error.strerror or type(error).__name__}"
        remedy = "correct AWS_CA_BUNDLE, or the profile's ca_bundle"
        raise ConfigurationError(f"{text}; {remedy}") from None


class Pool:
    """The connections to the endpoint at one URL."""

    def __init__(self, *, url: str, ca_bundle: str, limits: PoolLimits) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls else 80)
        self._tls = tls_context(ca_bundle) if tls else None
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._here = _Connections()
        self._watcher: asyncio.Task[None] | None = None

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and return its answer. Raises: Broken."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        connection = self._here.take() or await self._acquire()
        answer = connection.send(request, loop.time() + self._limits.answer_s)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled():  # else it has come, and the connection may be another's by now
                connection.abort("cancelled")  # its answer must not pass for another request's
            raise

    def close(self) -> None:
        """End all connections."""
        if self._watcher is not None and self._loop is not None and not self._loop.is_closed():
            self._watcher.cancel()
        self._loop = self._watcher = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._here = loop, _Connections()
        self._watcher = loop.create_task(self._watch(self._here))

    async def _acquire(self) -> Connection:
        """A connection of which none is idle: a new one, or the next that becomes free."""
        here = self._here
        if here.count >= self._limits.connections_max:
            waiting = here.wait()
            try:
                found = await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    late = waiting.result()
                    here.wake() if late is None else here.give(late)
                raise
            if found is not None and found.open:
                return found
        return await self._connect(here)

    async def _connect(self, here: _Connections) -> Connection:
        loop = asyncio.get_running_loop()
        here.opening += 1
        try:
            async with asyncio.timeout(self._limits.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(idle=here.give, gone=here.lose),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as error:
            here.wake()
            raise Broken(f"no connection: {type(error).__name__}") from None
        except BaseException:
            here.wake()
            raise
        finally:
            here.opening -= 1
        here.all.add(connection)
        return connection

    async def _watch(self, here: _Connections) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(WATCH_EVERY_S)
                now_s = loop.time()
                for connection in tuple(here.all):
                    if connection.busy and now_s > connection.deadline_s:
                        connection.abort(f"no answer within {self._limits.answer_s:g} s")
                    elif not connection.busy and now_s - connection.idle_since_s > self._idle_s:
                        connection.abort("idle")
        finally:
            for connection in tuple(here.all):
                connection.abort("the loop ends")

    @property
    def _idle_s(self) -> float:
        return self._limits.idle_s


class _Connections:
    """Those of one loop: which there are, which are idle, and who waits for one."""

    def __init__(self) -> None:
        self.all: set[Connection] = set()
        self.opening = 0
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def count(self) -> int:
        return len(self.all) + self.opening

    def take(self) -> Connection | None:
        """The idle connection that was used last."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def wait(self) -> asyncio.Future[Connection | None]:
        """Stand in line; the result is None where a connection may be made instead."""
        waiting: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def give(self, connection: Connection) -> None:
        """A connection is free."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return
        self._idle.append(connection)

    def lose(self, connection: Connection) -> None:
        """A connection is gone, so that another may be made."""
        self.all.discard(connection)
        self.wake()

    def wake(self) -> None:
        """Let the next in line make a connection."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
