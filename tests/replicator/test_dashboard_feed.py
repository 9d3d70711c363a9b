"""The stream of events: nobody waits for anybody, and a client that does not read is dropped."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.types import Message

from replicator.dashboard.app import create_app
from replicator.dashboard.feed import (
    CLIENTS_MAX,
    QUEUE_MESSAGES_MAX,
    EventStream,
    Feed,
    FeedFull,
    Subscription,
    event,
)
from replicator.dashboard.serving import listen, serve_on
from support.clock import VirtualClock

WITHIN_S = 60
LOOKING = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = 200_000
MESSAGES_MAX = 200
READ_AT_ONCE = 2**24


async def rest_of(subscription: Subscription) -> list[bytes]:
    """What a client is still sent, until its stream ends."""
    return [message async for message in subscription.messages()]


def numbered(count: int) -> list[bytes]:
    """Messages that can be told apart."""
    return [event("status", f"{number}".encode()) for number in range(count)]


@pytest.mark.parametrize("behind", [0, QUEUE_MESSAGES_MAX])
def test_who_keeps_up_is_sent_everything_in_order(behind: int) -> None:
    """Also one that is as far behind as may be."""
    feed, messages = Feed(), numbered(QUEUE_MESSAGES_MAX)

    async def scenario() -> None:
        with feed.subscribed(messages[0] if behind else None) as subscription:
            for message in messages[1 if behind else 0 :]:
                feed.publish(message)
            stream = subscription.messages()
            assert [await anext(stream) for _ in messages] == messages
            assert (feed.dropped, subscription.dropped) == (0, False)

    VirtualClock().run(scenario())


def test_who_does_not_keep_up_is_dropped_and_costs_no_memory() -> None:
    """What was queued is forgotten, its stream ends, and it is counted once."""
    feed = Feed()

    async def scenario() -> None:
        with feed.subscribed() as stalled, feed.subscribed() as quick:
            stream = quick.messages()
            for message in numbered(10 * QUEUE_MESSAGES_MAX):
                feed.publish(message)
                assert stalled.waiting <= QUEUE_MESSAGES_MAX
                assert await anext(stream) == message
            assert (feed.dropped, stalled.dropped, quick.dropped) == (1, True, False)
            assert await rest_of(stalled) == []

    VirtualClock().run(scenario())


def test_when_the_page_ends_every_stream_does() -> None:
    """Those that are full as well."""
    feed = Feed()

    async def scenario() -> None:
        with feed.subscribed() as idle, feed.subscribed() as full:
            for message in numbered(QUEUE_MESSAGES_MAX):
                full.put(message)
            feed.close()
            assert await rest_of(idle) == await rest_of(full) == []

    VirtualClock().run(scenario())


def test_only_so_many_may_look() -> None:
    """One more is refused, and has room as soon as another has left."""
    feed = Feed()
    with ExitStack() as looking:
        for _ in range(CLIENTS_MAX):
            looking.enter_context(feed.subscribed())
        with pytest.raises(FeedFull), feed.subscribed():
            pass
        assert len(feed) == CLIENTS_MAX
    with feed.subscribed():
        assert len(feed) == 1


class Client:
    """One client of an event stream, without a network."""

    def __init__(self, feed: Feed) -> None:
        self.said: list[Message] = []
        self.gone = asyncio.Event()
        stream = EventStream(feed, lambda: b"first")
        self.task = asyncio.ensure_future(stream({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.said.append(message)


def test_the_client_beyond_the_cap_is_answered_503() -> None:
    """It is told why; those that look see nothing of it."""
    clock, feed = VirtualClock(), Feed(clients_max=1)

    async def scenario() -> None:
        first = Client(feed)
        await clock.sleep(1.0)
        second = Client(feed)
        await second.task
        assert second.said[0]["status"] == 503
        assert b"close another page" in second.said[1]["body"]
        feed.publish(b"second")
        await clock.sleep(1.0)
        assert [part.get("body") for part in first.said] == [None, b"first", b"second"]
        first.gone.set()
        await first.task
        assert len(feed) == 0
        third = Client(feed)
        await clock.sleep(1.0)
        assert third.said[0]["status"] == 200
        feed.close()
        await third.task

    clock.run(scenario())


def test_a_client_that_does_not_read_is_dropped_and_delays_nobody() -> None:
    """Over real sockets that are full: the others have each message before the next is made."""
    app = create_app(lambda: {"state": "ok", "pipelines": []})
    feed: Feed = app.state.live.feed

    async def look(port: int, buffer_bytes: int | None) -> tuple[Any, ...]:
        near = socket.socket()
        if buffer_bytes is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        near.setblocking(False)
        await asyncio.get_running_loop().sock_connect(near, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=near, limit=READ_AT_ONCE)
        writer.write(LOOKING)
        await reader.readuntil(b"event: status")
        return reader, writer

    async def scenario() -> None:
        stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
        page = asyncio.create_task(serve_on(app, listener, stop))
        port = listener.getsockname()[1]
        stalled, stalled_writer = await look(port, 4_096)
        stalled_writer.transport.pause_reading()
        others = [await look(port, None) for _ in range(3)]
        sent = 0
        while not feed.dropped and sent < MESSAGES_MAX:
            sent += 1
            feed.publish(event("big", json.dumps({"n": sent, "x": "x" * BIG}).encode()))
            for reader, _ in others:
                await reader.readuntil(f'"n": {sent}, '.encode())
        assert feed.dropped == 1
        assert sent > QUEUE_MESSAGES_MAX
        assert len(feed) == 4  # until the kernel gives its socket up, or it reads on
        stalled_writer.transport.resume_reading()
        assert len(await stalled.read()) < sent * BIG  # its stream ends
        for _, writer in (*others, (stalled, stalled_writer)):
            writer.close()
        stop.set()
        await page

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S):
            await scenario()

    asyncio.run(main())
