"""Server-sent events: one document for everybody who looks, and nobody waits for anybody.

A message is encoded once. Each client has a short queue; one whose queue is full is dropped: its
stream ends as soon as it reads on, and its browser begins anew with what is true by then. To
publish never waits, so a slow or stalled browser costs nothing but its own view. What a dropped
client still holds is one message and its socket, until the kernel gives it up (serving.py).

This module must not know what the messages hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

CLIENTS_MAX = 100
QUEUE_MESSAGES_MAX = 4


class FeedFull(Exception):
    """As many clients look as may."""


class Subscription:
    """What one client is still to be sent."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MESSAGES_MAX)
        self.dropped = False

    @property
    def waiting(self) -> int:
        """How many messages it has not been sent yet."""
        return self._queue.qsize()

    def put(self, message: bytes) -> None:
        """Queue a message, or give the client up."""
        if self.dropped:
            return
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Forget what is queued, and end the stream."""
        self.dropped = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[bytes]:
        """What comes, until the end."""
        while (message := await self._queue.get()) is not None:
            yield message


class Feed:
    """All who look at present."""

    def __init__(self, *, clients_max: int = CLIENTS_MAX) -> None:
        self._clients_max = clients_max
        self._subscriptions: set[Subscription] = set()
        self.dropped = 0
        """Clients that did not keep up, so far."""

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def fullest(self) -> int:
        """How many messages wait for the client that is furthest behind."""
        return max((each.waiting for each in self._subscriptions), default=0)

    @contextmanager
    def subscribed(self, first: bytes | None = None) -> Iterator[Subscription]:
        """Take part; `first` is what a newcomer is sent at once. Raises: FeedFull."""
        subscription = self._admitted()
        if first is not None:
            subscription.put(first)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def _admitted(self) -> Subscription:
        if len(self._subscriptions) >= self._clients_max:
            raise FeedFull
        subscription = Subscription()
        self._subscriptions.add(subscription)
        return subscription

    def publish(self, message: bytes) -> None:
        """Send a message to all; never waits."""
        for subscription in self._subscriptions:
            was_dropped = subscription.dropped
            subscription.put(message)
            self.dropped += subscription.dropped and not was_dropped

    def close(self) -> None:
        """End every stream."""
        for subscription in self._subscriptions:
            subscription.end()


def event(name: str, data: bytes) -> bytes:
    """One server-sent event; `data` is JSON in one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class EventStream(Response):
    """The answer to one client: what is published, until it leaves or is dropped."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, first: Callable[[], bytes | None]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"X-Accel-Buffering": "no"})
        self._feed = feed
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._feed.subscribed(self._first()) as subscription:
                await self._stream(subscription, receive, send)
        except FeedFull:
            full = PlainTextResponse("as many look as may; close another page\n", 503)
            await full(scope, receive, send)

    async def _stream(self, subscription: Subscription, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        leaving = asyncio.create_task(_end_when_gone(subscription, receive))
        try:
            async for message in subscription.messages():
                await send({"type": "http.response.body", "body": message, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()


async def _end_when_gone(subscription: Subscription, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.end()
