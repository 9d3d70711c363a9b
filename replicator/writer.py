"""Runs protocol steps against the regions' tables: many at once, reads in batches, one retry layer.

A task is driven from its first operation to its end. What may pass (throttling, lost connections,
lost answers) is tried again here and nowhere else: every operation may be made twice. What cannot
pass for this one change parks it; anything else starts the task anew after a pause, loudly, for as
long as it takes. Nothing is given up and nothing is skipped.

This module must not know what a step is for, nor where records come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Generic, Protocol, TypeVar, assert_never

from conflict.merge import Steps
from conflict.operations import (
    AnyOperation,
    Delete,
    Get,
    Hold,
    Item,
    Key,
    KeyState,
    Outcome,
    Put,
    RaiseTombstone,
    ReadState,
    Release,
    Result,
    Stamp,
    judged,
)
from conflict.version import Version
from replicator.errors import Poison, Throttled, Transient
from replicator.ports import READ_BATCH_MAX, KeyStates, Sleep, Table

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DOUBLINGS_MAX = 16
"""Keeps 2 ** failures a number of reasonable size through an outage of days."""

BREAK_AFTER = 8
"""Failures in a row, over all calls to a region, after which only one call at a time tries it."""

PROBE_S_MAX = 2.0
"""The longest pause between two tries of a broken region."""

READ_BATCHES_IN_FLIGHT = 4
"""Batch reads under way per region and kind; what comes meanwhile is gathered behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterLimits:
    """How failures are spaced."""

    backoff_base_s: float = 0.05
    backoff_max_s: float = 5.0
    restart_base_s: float = 0.5
    restart_max_s: float = 30.0


class Observer(Protocol):
    """Is told how calls to a region fare, so that somebody may look."""

    def failed(self, region: str, error: Exception) -> None:
        """A call failed and will be made again."""
        ...

    def recovered(self, region: str) -> None:
        """A call was answered."""
        ...

    def stuck(self, region: str, error: Exception, *, first: bool) -> None:
        """A task failed and will be begun again; `first`: it had not failed before."""
        ...

    def freed(self, region: str) -> None:
        """A task that was stuck has ended."""
        ...


class Work(Protocol[T_co]):
    """A task: where it happens, and how to begin it, any number of times."""

    @property
    def region(self) -> str: ...

    def start(self) -> Steps[T_co]: ...


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
        except Poison as error:
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


class RegionPort:
    """One table in one region, with what is remembered of its keys; bounded in calls under way."""

    def __init__(
        self,
        *,
        table: Table,
        states: KeyStates,
        concurrency: int,
        limit_us: Callable[[], int],
    ) -> None:
        """`limit_us` tells how far ahead a version may lie at this moment (operations.judged)."""
        self._table, self._states, self._limit_us = table, states, limit_us
        self._gate = asyncio.Semaphore(concurrency)
        self._items: BatchReader[Item | None] = BatchReader(table.get)
        self._key_states: BatchReader[KeyState] = BatchReader(states.read)

    async def execute(self, operation: AnyOperation) -> Result:
        """Carry out one operation; raises what the ports raise."""
        match operation:
            case Get():
                return judged(await self._items.get(operation.key), self._limit_us())
            case ReadState():
                return await self._key_states.get(operation.key)
            case Put() | Stamp() | Delete():
                async with self._gate:
                    outcome = await self._write_item(operation)
                return Outcome(outcome.done, judged(outcome.item, self._limit_us()))
            case _:
                async with self._gate:
                    return await self._write_state(operation)

    async def _write_item(self, operation: Put | Stamp | Delete) -> Outcome:
        match operation:
            case Put():
                return await self._table.put(operation)
            case Stamp():
                return await self._table.stamp(operation)
            case Delete():
                return await self._table.delete(operation)
            case _:
                assert_never(operation)

    async def _write_state(self, operation: RaiseTombstone | Hold | Release) -> Version | None:
        match operation:
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


@dataclass(slots=True)
class _Health:
    """How one region fares. It is broken after BREAK_AFTER failures in a row.

    While it is, whoever has a call for it stands behind the gate, and one at a time tries again:
    ten thousand waiting changes cost a dead region, and this process, one call now and then. The
    first success opens the gate for all.
    """

    failures: int = 0
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def broken(self) -> bool:
        return self.failures >= BREAK_AFTER

    def note_failure(self) -> None:
        self.failures += 1
        if self.broken:
            self.healed.clear()

    def note_success(self) -> None:
        self.failures = 0
        self.healed.set()


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
        self._health = {region: _Health() for region in regions}

    async def run(self, work: Work[T]) -> T:
        """Run a task to its end, however long it takes.

        Raises Poison where the change can never be applied; the caller parks it.
        """
        failures, stuck = 0, False
        try:
            while True:
                try:
                    return await self._drive(work.start())
                except Poison:
                    raise
                except Exception as error:  # noqa: BLE001 - told, and begun again
                    self._observer.stuck(work.region, error, first=not stuck)
                    stuck = True
                limits = self._limits
                await self._sleep(
                    self._jittered(limits.restart_base_s, limits.restart_max_s, failures)
                )
                failures += 1
        finally:
            if stuck:
                self._observer.freed(work.region)

    async def patiently(self, region: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make an idempotent call until it is answered; raises what is not Transient."""
        health = self._health[region]
        failures = 0
        while True:
            try:
                answer = await self._in_turn(health, call)
            except Transient as error:
                self._observer.failed(region, error)
                if not isinstance(error, Throttled):
                    health.note_failure()
                if not health.broken:
                    limits = self._limits
                    await self._sleep(
                        self._jittered(limits.backoff_base_s, limits.backoff_max_s, failures)
                    )
                failures += 1
            else:
                health.note_success()
                self._observer.recovered(region)
                return answer

    async def _in_turn(self, health: _Health, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call; to a broken region alone, after a pause that its recovery cuts short."""
        if health.broken:
            async with health.gate:
                if health.broken:
                    beyond = health.failures - BREAK_AFTER
                    pause_s = self._jittered(self._limits.backoff_base_s, PROBE_S_MAX, beyond)
                    await first_of(self._sleep(pause_s), health.healed.wait())
                if health.broken:
                    return await call()
        return await call()

    def _jittered(self, base_s: float, max_s: float, failures: int) -> float:
        """Full jitter. Source: AWS Architecture Blog, "Exponential Backoff And Jitter"."""
        return self._rng.uniform(0.0, min(max_s, base_s * 2.0 ** min(failures, DOUBLINGS_MAX)))

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


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of several, and drop the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
