"""A call that is cancelled ends no other call's exchange, and keeps nobody waiting in line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from replicator.wire.connection import Answer, Connection
from replicator.wire.pool import Pool, PoolLimits
from support.raw_server import raw_server, response

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
ONE = PoolLimits(connections_max=1)


def test_a_cancel_after_the_answer_ends_no_other_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then the connection is another's, and what is under way there goes on."""

    async def main() -> Sequence[Answer | BaseException]:
        async with raw_server(response({})) as server:
            pool = Pool(url=server.url, ca_bundle="", limits=ONE)
            first, second = (asyncio.create_task(pool.exchange(REQUEST)) for _ in range(2))
            finish = Connection._finish

            def finish_and_cancel(connection: Connection) -> None:
                finish(connection)
                first.cancel()
                monkeypatch.setattr(Connection, "_finish", finish)

            monkeypatch.setattr(Connection, "_finish", finish_and_cancel)
            ends = await asyncio.gather(first, second, return_exceptions=True)
            pool.close()
            return ends

    assert [type(end) for end in asyncio.run(main())] == [asyncio.CancelledError, Answer]


def test_what_a_cancelled_call_may_not_use_is_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was told to connect, as a connection was lost, and was cancelled in that moment."""
    answers = iter([None])

    def closed_once(_number: int, _request: bytes) -> bytes | None:
        return next(answers, response({}))

    async def main() -> set[asyncio.Task[Answer]]:
        async with raw_server(closed_once) as server:
            pool = Pool(url=server.url, ca_bundle="", limits=ONE)
            calls = [asyncio.create_task(pool.exchange(REQUEST)) for _ in range(3)]
            await asyncio.sleep(0)
            lose = Connection.connection_lost

            def lose_and_cancel(connection: Connection, error: Exception | None) -> None:
                lose(connection, error)
                calls[1].cancel()
                monkeypatch.setattr(Connection, "connection_lost", lose)

            monkeypatch.setattr(Connection, "connection_lost", lose_and_cancel)
            ended, _ = await asyncio.wait(calls, timeout=10)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            pool.close()
            return ended

    assert len(asyncio.run(main())) == 3
