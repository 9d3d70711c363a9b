"""The page's connections: whoever holds on, a newcomer gets in, and nobody stays for nothing."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from replicator.dashboard import serving
from replicator.dashboard.app import create_app
from replicator.dashboard.connections import CONNECTIONS_MAX, Connections, connections_max
from replicator.dashboard.serving import listen, serve_on
from replicator.dashboard.switch import Order
from support.clock import VirtualClock

STATUS: dict[str, Any] = {"state": "ok", "pipelines": [{"state": "running"}]}
OPEN_MAX = 8
WITHIN_S = 20


def over_sockets(scenario: Callable[[int], Awaitable[None]]) -> None:
    """Run a scenario against the page, given its port."""

    async def main() -> None:
        stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
        page = asyncio.create_task(serve_on(create_app(lambda: STATUS), listener, stop))
        async with asyncio.timeout(WITHIN_S):
            await scenario(listener.getsockname()[1])
        stop.set()
        await page

    asyncio.run(main())


async def is_healthy(port: int) -> bool:
    """Whether the page says so, asked over a connection of its own."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz", timeout=WITHIN_S)
    return answer.status_code == 200


async def end_of(reader: asyncio.StreamReader) -> None:
    """Wait until the other side closes."""
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        return


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few connections that a test can have more, of which none ends for its time."""
    monkeypatch.setattr(serving, "connections_max", lambda: OPEN_MAX)
    monkeypatch.setattr(serving, "Connections", partial(Connections, request_within_s=3_600.0))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: local"])
def test_connections_that_ask_nothing_do_not_keep_a_health_check_out(said: bytes) -> None:
    """The oldest make room, so there are never more than may be."""

    async def scenario(port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * OPEN_MAX)]
        for _, writer in held:
            writer.write(said)
        assert await is_healthy(port)
        await asyncio.gather(*(end_of(reader) for reader, _ in held[: 2 * OPEN_MAX + 1]))
        for _, writer in held:
            writer.close()

    over_sockets(scenario)


@pytest.mark.usefixtures("few")
def test_a_browser_that_looks_is_spared() -> None:
    """Its stream goes on while others that hold on make room."""

    async def scenario(port: int) -> None:
        looking, browser = await asyncio.open_connection("127.0.0.1", port)
        browser.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await looking.readuntil(b"event: status")
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * OPEN_MAX)]
        await end_of(held[OPEN_MAX][0])
        assert await is_healthy(port)
        for _ in range(2):
            await looking.readuntil(b"event: status")
        for writer in (browser, *(writer for _, writer in held)):
            writer.close()

    over_sockets(scenario)


@pytest.mark.usefixtures("few")
def test_when_all_look_a_health_check_still_gets_in() -> None:
    """Then the browser that has looked longest makes room."""

    async def scenario(port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(OPEN_MAX)]
        for reader, writer in held:
            writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"event: status")
        assert await is_healthy(port)
        for _, writer in held:
            writer.close()

    over_sockets(scenario)


@pytest.mark.parametrize(
    ("descriptors", "expected"),
    [(256, 64), (1_024, 256), (1_000_000, CONNECTIONS_MAX), (resource.RLIM_INFINITY, 256), (2, 1)],
)
def test_the_page_leaves_descriptors_to_replication(
    descriptors: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the same process's."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connections_max() == expected


# --- in virtual time ----------------------------------------------------------------------------

REQUEST_WITHIN_S, ANSWERED_WITHIN_S = 10.0, 60.0


class Wire(asyncio.Transport):
    """A transport to nowhere."""

    def __init__(self, port: int = 1) -> None:
        super().__init__({"peername": ("127.0.0.1", port)})
        self._closed = False

    def abort(self) -> None:
        """Close at once."""
        self._closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closed


class Page:
    """Connections around an application that answers when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.connections = Connections(
            self._app,
            open_max=2,
            request_within_s=REQUEST_WITHIN_S,
            answered_within_s=ANSWERED_WITHIN_S,
            protocol=asyncio.Protocol,
        )

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        await self.answers.wait()

    def connect(self, wire: Wire) -> asyncio.Protocol:
        """Somebody connects."""
        protocol = self.connections.protocol()
        protocol.connection_made(wire)
        return protocol

    def ask(self, wire: Wire, path: str) -> asyncio.Task[None]:
        """A whole request has come over a connection."""
        scope = {"type": "http", "path": path, "client": wire.get_extra_info("peername")}
        nothing = cast(Any, None)
        work = self.connections(scope, nothing, nothing)
        return asyncio.ensure_future(work)


def test_asking_halfway_is_not_asking() -> None:
    """What trickles in does not begin the time anew."""
    clock = VirtualClock()

    async def scenario() -> None:
        page, wire = Page(), Wire()
        protocol = page.connect(wire)
        for _ in range(int(REQUEST_WITHIN_S) - 1):
            await clock.sleep(1.0)
            protocol.data_received(b"X")
        assert not wire.is_closing()
        await clock.sleep(2.0)
        assert wire.is_closing()
        protocol.connection_lost(None)
        assert len(page.connections) == 0

    clock.run(scenario())


def test_an_answer_that_is_not_taken_ends() -> None:
    """An answer has its time, and after it the connection has that of a new request."""
    clock = VirtualClock()

    async def scenario() -> None:
        page, slow, quick = Page(), Wire(1), Wire(2)
        page.connect(slow)
        page.connect(quick)
        asked = [page.ask(slow, "/"), page.ask(quick, "/")]
        await clock.sleep(REQUEST_WITHIN_S + 1)
        assert not slow.is_closing()
        asked[1].cancel()  # it is over, however
        await clock.sleep(REQUEST_WITHIN_S - 1)
        assert not quick.is_closing()
        await clock.sleep(2.0)
        assert quick.is_closing()
        await clock.sleep(ANSWERED_WITHIN_S)
        assert slow.is_closing()
        page.answers.set()
        await asked[0]

    clock.run(scenario())


def test_who_follows_the_events_may_stay() -> None:
    """For as long as they like."""
    clock = VirtualClock()

    async def scenario() -> None:
        page, wire = Page(), Wire()
        page.connect(wire)
        asked = page.ask(wire, "/events")
        await clock.sleep(86_400.0)
        assert not wire.is_closing()
        page.answers.set()
        await asked

    clock.run(scenario())


def test_an_order_that_does_not_end_is_refused() -> None:
    """A body that trickles holds nothing for longer than an order takes."""
    clock, said = VirtualClock(), list[Message]()

    async def never(order: Order, authorization: str | None) -> int:
        raise AssertionError((order, authorization))

    async def receive() -> Message:
        await clock.sleep(1.0)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Message) -> None:
        said.append(message)

    async def scenario() -> None:
        scope = {"type": "http", "method": "POST", "path": "/api/pause", "query_string": b""}
        headers = [(b"host", b"localhost")]
        await create_app(lambda: STATUS, switch=never)({**scope, "headers": headers}, receive, send)

    clock.run(scenario())
    assert said[0]["status"] == 408


HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
PIECE, ENOUGH = 2**16, 2**22


@pytest.mark.parametrize(
    "begun",
    [b"GET /", HEAD + b"X: ", HEAD + b"A: b\r\n" * 8_000 + b"X: "],
    ids=["path", "header", "headers"],
)
def test_a_request_head_without_an_end_is_refused(begun: bytes) -> None:
    """Before it costs memory and the replicating loop's time, which nobody needs a token for."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        for _ in range(ENOUGH // PIECE):
            writer.write(b"a" * PIECE)
            await writer.drain()
            await asyncio.sleep(0)

    async def scenario(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionError):
            await send(writer)
        writer.close()
        assert await is_healthy(port)

    over_sockets(scenario)
