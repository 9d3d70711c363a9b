"""Runs protocol steps against the regions' tables: many at once, reads in batches, one retry layer.

A task is driven from its first operation to its end. What may pass (throttling, lost connections,
lost answers) is tried again here and nowhere else: every operation may be made twice. What cannot
pass for this one change parks it; anything else starts the task anew after a pause, loudly, for as
long as it takes. Nothing is given up and nothing is skipped.

This module must not know what a step is for, nor where records come from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, Protocol, TypeVar, assert_never

import tenacity

from conflict.merge import Contended, Steps
from conflict.operations import (
    AnyOperation,
    Delete,
    Get,
    Hold,
    Item,
    Key,
    KeyState,
    Put,
    RaiseTombstone,
    ReadState,
    Release,
    Result,
    Stamp,
)
from replicator.errors import Poison, Throttled, Transient, spoken
from replicator.ports import READ_BATCH_MAX, KeyStates, Sleep, Table

log = logging.getLogger(__name__)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DOUBLINGS_MAX = 16
"""Keeps 2 ** failures a number of reasonable size through an outage of days."""

READ_BATCHES_IN_FLIGHT = 4
"""Batch reads under way per region and kind; what comes meanwhile is gathered behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterLimits:
    """How much may be under way in one region, and how failures are spaced."""

    concurrency: int = 32
    backoff_base_s: float = 0.05
    backoff_max_s: float = 5.0
    restart_base_s: float = 0.5
    restart_max_s: float = 30.0


class Observer(Protocol):
    """Is told how calls to a region fare, so that somebody may look."""

    def failed(self, region: str, error: Exception) -> None: ...

    def recovered(self, region: str) -> None: ...


class Work(Protocol[T_co]):
    """A task: where it happens, and how to begin it, any number of times."""

    @property
    def region(self) -> str: ...

    def start(self) -> Steps[T_co]: ...


class BatchReader(Generic[T]):
    """Gathers reads of single keys into batches, each key once.

    Whatever is asked for while a batch is under way goes into the next, so that batches grow with
    the load and an idle table waits for nothing.
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
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._flush())
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)
        return await future

    async def _flush(self) -> None:
        async with self._gate:
            while self._waiting:
                ids = list(self._waiting)[:READ_BATCH_MAX]
                await self._answer([self._waiting.pop(key_id) for key_id in ids])

    async def _answer(self, batch: list[tuple[Key, list[asyncio.Future[T]]]]) -> None:
        try:
            values = await self._read([key for key, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            for _, futures in batch:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            return
        for (_, futures), value in zip(batch, values, strict=True):
            for future in futures:
                if not future.done():
                    future.set_result(value)


class RegionPort:
    """One table in one region, with what is remembered of its keys; bounded in calls under way."""

    def __init__(self, *, table: Table, states: KeyStates, concurrency: int) -> None:
        self._table, self._states = table, states
        self._gate = asyncio.Semaphore(concurrency)
        self._items: BatchReader[Item | None] = BatchReader(table.get)
        self._key_states: BatchReader[KeyState] = BatchReader(states.read)

    async def execute(self, operation: AnyOperation) -> Result:
        """Carry out one operation; raises what the ports raise."""
        match operation:
            case Get():
                return await self._items.get(operation.key)
            case ReadState():
                return await self._key_states.get(operation.key)
            case _:
                async with self._gate:
                    return await self._write(operation)

    async def _write(
        self, operation: Put | Stamp | Delete | RaiseTombstone | Hold | Release
    ) -> Result:
        match operation:
            case Put():
                return await self._table.put(operation)
            case Stamp():
                return await self._table.stamp(operation)
            case Delete():
                return await self._table.delete(operation)
            case RaiseTombstone():
                return await self._states.raise_tombstone(operation)
            case Hold():
                await self._states.hold(operation)
                return None
            case Release():
                await self._states.release(operation)
                return None
            case _:
                assert_never(operation)


class Writer:
    """Drives tasks to their end."""

    def __init__(
        self,
        *,
        regions: Mapping[str, RegionPort],
        limits: WriterLimits,
        observer: Observer,
        sleep: Sleep,
        rng: Random,
    ) -> None:
        self._regions, self._limits, self._observer = regions, limits, observer
        self._sleep, self._rng = sleep, rng
        self._healed: dict[str, asyncio.Event] = {}

    async def run(self, work: Work[T]) -> T:
        """Run a task to its end, however long it takes.

        Raises Poison where the change can never be applied; the caller parks it.
        """
        restart = tenacity.wait_random_exponential(
            multiplier=self._limits.restart_base_s, max=self._limits.restart_max_s
        )
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_not_exception_type((Poison, asyncio.CancelledError)),
            wait=restart,
            sleep=self._sleep,
            before_sleep=lambda state: self._restarting(work.region, state),
            reraise=True,
        ):
            with attempt:
                return await self._drive(work.start())
        raise AssertionError("retrying has no end but a result or an error")

    async def patiently(self, region: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make an idempotent call until it is answered; raises what is not Transient.

        Failures are spaced further and further apart, with full jitter. The first success after
        an outage wakes whatever else waits for the region, so that a healed link catches up at
        once; where the service asked for fewer calls, the pause is kept.
        """
        failures = 0
        while True:
            try:
                answer = await call()
            except Transient as error:
                self._observer.failed(region, error)
                await self._pause(region, failures, throttled=isinstance(error, Throttled))
                failures += 1
            else:
                self._recovered(region)
                return answer

    def _recovered(self, region: str) -> None:
        self._observer.recovered(region)
        healed = self._healed.pop(region, None)
        if healed is not None:
            healed.set()

    async def _pause(self, region: str, failures: int, *, throttled: bool) -> None:
        limits = self._limits
        grown_s = limits.backoff_base_s * 2.0 ** min(failures, DOUBLINGS_MAX)
        pause_s = self._rng.uniform(0.0, min(limits.backoff_max_s, grown_s))
        if throttled:
            await self._sleep(pause_s)
            return
        healed = self._healed.setdefault(region, asyncio.Event())
        await first_of(self._sleep(pause_s), healed.wait())

    async def _drive(self, steps: Steps[T]) -> T:
        answer: Result = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = await self._execute(operation)

    async def _execute(self, operation: AnyOperation) -> Result:
        """One operation, made until it is answered."""
        region = self._regions[operation.region]
        return await self.patiently(operation.region, lambda: region.execute(operation))

    def _restarting(self, region: str, state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        if isinstance(error, Contended):
            log.warning("writer.contended", extra={"region": region})
            return
        self._observer.failed(region, error)
        log.error(
            "writer.restarting",
            extra={"region": region, "error": spoken(error)},
        )


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of several, and drop the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _error_of(state: tenacity.RetryCallState) -> Exception:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Exception) else RuntimeError("no outcome")
