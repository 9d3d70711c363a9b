"""A region's endpoint that can go away: a port that leads to the engine until it is cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from replicator.demo.network import Link
from support.blows import BLOWS, Blow

ANSWER_WITHIN_S = 10.0


class Endpoint:
    """A link of the demo, run by a thread of its own."""

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self.url = link.url

    def cut(self) -> None:
        """Reset what is connected and refuse what comes."""
        BLOWS.strike(Blow.CUT)
        self._do(self._link.cut)

    def heal(self) -> None:
        """Let connections through again."""
        self._do(self._link.heal)

    def _do(self, act: Callable[[], None]) -> None:
        async def acted() -> None:
            act()

        _await(acted(), self._loop)


@contextmanager
def endpoint(engine_url: str, *, one_way_s: float = 0.0) -> Iterator[Endpoint]:
    """Open a port that leads to the engine, each way late by `one_way_s`."""
    port = urlsplit(engine_url).port
    assert port is not None
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    link = Link(port=port, one_way_s=one_way_s)
    try:
        _await(link.open(), loop)
        yield Endpoint(link, loop)
    finally:
        _await(link.close(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(ANSWER_WITHIN_S)
        loop.close()


def _await(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(work, loop).result(ANSWER_WITHIN_S)
