"""Reads of single keys, gathered into batches: in one region and of one kind.

This module must not know what is read, nor try anything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from conflict.operations import Key
from replicator.errors import Malformed, Poison
from replicator.ports import READ_BATCH_MAX

T = TypeVar("T")

READ_BATCHES_IN_FLIGHT = 4
"""Batch reads under way per region and kind; what comes meanwhile is gathered behind them."""


class BatchReader(Generic[T]):
    """Gathers reads of single keys into batches, each key once.

    Whatever is asked for while the batches that may be under way are under way goes into the next,
    so that batches grow with the load and an idle table waits for nothing.
    """

    def __init__(self, read: Callable[[Sequence[Key]], Awaitable[list[T]]]) -> None:
        self._read = read
        self._waiting: dict[str, tuple[Key, list[asyncio.Future[T]]]] = {}
        self._flushing: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(READ_BATCHES_IN_FLIGHT)

    async def get(self, key: Key) -> T:
        """The value under a key, read after this call was made."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key.id, (key, []))[1].append(future)
        if len(self._waiting) % READ_BATCH_MAX == 1:
            task = asyncio.create_task(self._flush())
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)
        return await future

    async def _flush(self) -> None:
        async with self._gate:
            while self._waiting:
                ids = list(islice(self._waiting, READ_BATCH_MAX))
                await self._answer([self._waiting.pop(key_id) for key_id in ids])

    async def _answer(self, batch: list[tuple[Key, list[asyncio.Future[T]]]]) -> None:
        try:
            values = await self._read([key for key, _ in batch])
        except (Poison, Malformed) as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # one of them is bad: which, is found out by reading them alone
                await self._answer([one])
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            _fail(batch, error)
        else:
            for (_, futures), value in zip(batch, values, strict=True):
                for future in futures:
                    if not future.done():
                        future.set_result(value)


def _fail(batch: Sequence[tuple[Key, list[asyncio.Future[T]]]], error: Exception) -> None:
    for _, futures in batch:
        for future in futures:
            if not future.done():
                future.set_exception(error)
