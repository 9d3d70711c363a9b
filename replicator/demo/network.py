"""The network between regions: one TCP link per ordered pair, slow as a WAN, and able to break.

A link forwards bytes to the engine, each of them late by half a round trip, and keeps no opinion
on what they say. Cut, it resets the connections that stand and every new one, in both directions;
healed, it forwards again. A replicator that comes through such a cut unharmed has done so by its
own means: nothing here buffers or repeats anything across a cut.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from replicator.demo.world import LOOPBACK, PAIRS, Pair

ROUND_TRIP_S = 0.040
"""What a request and its answer lose on the way: about that of two regions of one continent."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST, as a firewall that cuts a connection would."""


class Network:
    """All links between the regions."""

    def __init__(self, *, engine_port: int, round_trip_s: float = ROUND_TRIP_S) -> None:
        self._links = {pair: Link(port=engine_port, one_way_s=round_trip_s / 2) for pair in PAIRS}

    async def open(self) -> None:
        """Open every link."""
        await asyncio.gather(*(link.open() for link in self._links.values()))

    @property
    def urls(self) -> Mapping[Pair, str]:
        """Where each link is reached."""
        return {pair: link.url for pair, link in self._links.items()}

    def connected(self, pair: Pair) -> bool:
        """Whether traffic passes from the first region's replicator to the second region."""
        return self._links[pair].connected

    def cut(self, region: str) -> None:
        """Cut a region off from all others, both ways."""
        for link in self._of(region):
            link.cut()

    def heal(self, region: str) -> None:
        """Connect a region with all others again."""
        for link in self._of(region):
            link.heal()

    async def close(self) -> None:
        """Close every link."""
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def _of(self, region: str) -> list[Link]:
        return [link for pair, link in self._links.items() if region in pair]


class Link:
    """One direction of work between two regions, as a port that leads to another one."""

    def __init__(self, *, port: int, one_way_s: float) -> None:
        self.port = port
        self.one_way_s = one_way_s
        self.connected = True
        self.ends: set[_End] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen on a free port of the loopback interface."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _NearEnd(self), LOOPBACK, 0)

    @property
    def url(self) -> str:
        """Where this link is reached."""
        if self._server is None:
            raise RuntimeError("the link is not open")
        return f"http://{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset what is connected and refuse what comes."""
        self.connected = False
        for end in tuple(self.ends):
            end.reset()

    def heal(self) -> None:
        """Let connections through again."""
        self.connected = True

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class _End(asyncio.Protocol):
    """One socket of a connection: what it receives, its peer sends a little later."""

    transport: asyncio.Transport
    peer: _End

    def __init__(self, link: Link) -> None:
        self.link = link
        self._on_the_way: deque[bytes | None] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.link.ends.add(self)

    def data_received(self, data: bytes) -> None:
        self._later(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.ends.discard(self)
        self._later(None)

    def pause_writing(self) -> None:
        """The receiver is slower than the sender: let the sender wait."""
        self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.peer.transport.resume_reading()

    def reset(self) -> None:
        """Close at once with RST."""
        connection = self.transport.get_extra_info("socket")
        with suppress(OSError):  # already closed by the other side: then nothing is left to reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def _later(self, data: bytes | None) -> None:
        """Queue data, or the end of it, for the peer; a queue, since timers may tie."""
        self._on_the_way.append(data)
        asyncio.get_running_loop().call_later(self.link.one_way_s, self._deliver)

    def _deliver(self) -> None:
        data = self._on_the_way.popleft()
        if self.link.connected and not self.peer.transport.is_closing():
            if data is None:
                self.peer.transport.close()
            else:
                self.peer.transport.write(data)


class _NearEnd(_End):
    """The end that a client connects to: it has the far end connected before it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._connecting = asyncio.create_task(self._connect())

    def connection_lost(self, exc: Exception | None) -> None:
        self._connecting.cancel()
        self.link.ends.discard(self)
        if hasattr(self, "peer"):
            self._later(None)

    async def _connect(self) -> None:
        if not self.link.connected:
            self.reset()
            return
        loop = asyncio.get_running_loop()
        try:
            _, self.peer = await loop.create_connection(self._far_end, LOOPBACK, self.link.port)
        except OSError:
            self.reset()
        else:
            self.transport.resume_reading()

    def _far_end(self) -> _End:
        far = _End(self.link)
        far.peer = self
        return far
