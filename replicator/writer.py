"""Runs protocol steps against the regions' tables: many at once, reads in batches, one retry layer.

A task is driven from its first operation to its end. What may pass (throttling, lost connections,
lost answers) is tried again here and nowhere else: every operation may be made twice. What cannot
pass for this one change parks it; anything else starts the task anew after a pause, loudly, for as
long as it takes. Nothing is given up and nothing is skipped.

This module must not know what a step is for, nor where records come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Protocol, TypeVar, assert_never

from conflict.merge import Steps
from conflict.operations import (
    AnyOperation,
    Delete,
    Get,
    Hold,
    Item,
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
from replicator.batch_reader import BatchReader
from replicator.errors import Poison, Throttled, Transient
from replicator.gate import Gate
from replicator.ports import KeyStates, Sleep, Table

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DOUBLINGS_MAX = 16
"""Keeps 2 ** failures a number of reasonable size through an outage of days."""

BREAK_AFTER = 8
"""Failures in a row, over all calls to a region, after which only one call at a time tries it."""

PROBE_S_MAX = 2.0
"""The longest pause between two tries of a broken region."""


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
        self._gate = Gate(concurrency)
        self._items: BatchReader[Item | None] = BatchReader(table.get)
        self._key_states: BatchReader[KeyState] = BatchReader(states.read)

    async def execute(
        self, operation: AnyOperation, may_call: Callable[[], bool] = lambda: True
    ) -> Result:
        """Carry out one operation; raises what the ports raise, and Withheld.

        A write may wait here for long; `may_call` is asked when its turn has come.
        """
        if isinstance(operation, ReadState):
            return await self._key_states.get(operation.key)
        if isinstance(operation, Get):
            return judged(await self._items.get(operation.key), self._limit_us())
        gate = self._gate
        if not gate.enter():
            await gate.wait()
        try:
            if not may_call():
                raise Withheld
            match operation:
                case Put():
                    outcome = await self._table.put(operation)
                case Stamp():
                    outcome = await self._table.stamp(operation)
                case Delete():
                    outcome = await self._table.delete(operation)
                case _:
                    return await self._write_state(operation)
        finally:
            gate.leave()
        item = judged(outcome.item, self._limit_us())
        return outcome if item is outcome.item else Outcome(outcome.done, item)

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


class Withheld(Exception):
    """A call was not made: its region broke while it waited for its turn."""


@dataclass(slots=True)
class _Health:
    """How one region fares. It is broken after BREAK_AFTER failures in a row.

    While it is, whoever has a call for it stands behind the gate, and one at a time tries again:
    ten thousand waiting changes cost a dead region, and this process, one call now and then. The
    first success opens the gate for all.
    """

    failures: int = 0
    troubled: bool = False
    """A call has failed since the last that was answered."""
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def broken(self) -> bool:
        return self.failures >= BREAK_AFTER

    def may_call(self) -> bool:
        """Whether who has waited for its turn at the port may still call."""
        return not self.broken

    def note_failure(self) -> None:
        self.failures += 1
        if self.broken:
            self.healed.clear()

    def note_success(self) -> None:
        self.failures, self.troubled = 0, False
        self.healed.set()


def _nobody() -> None:
    """Tell nobody."""


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

    async def run(self, work: Work[T], in_trouble: Callable[[], None] = _nobody) -> T:
        """Run a task to its end, however long it takes; `in_trouble` is told that it may be long.

        Raises Poison where the change can never be applied; the caller parks it.
        """
        try:
            return await self._drive(work.start(), in_trouble)
        except Poison:
            raise
        except Exception as error:  # noqa: BLE001 - told, and begun again
            return await self._run_again(work, error, in_trouble)

    def at_once(self, work: Work[T]) -> tuple[T] | None:
        """The end of a task, alone in a tuple, that asks for no operation; None for any other.

        None as well for one that fails: `run` tells of it.
        """
        try:
            work.start().send(None)
        except StopIteration as end:
            return (end.value,)
        except Exception:  # noqa: BLE001 - comes again in `run`
            return None
        return None

    async def _run_again(
        self, work: Work[T], error: Exception, in_trouble: Callable[[], None]
    ) -> T:
        """Begin a task that has failed again and again, after ever longer pauses."""
        failures, limits = 0, self._limits
        try:
            while True:
                self._observer.stuck(work.region, error, first=failures == 0)
                in_trouble()
                await self._sleep(
                    self._jittered(limits.restart_base_s, limits.restart_max_s, failures)
                )
                failures += 1
                try:
                    return await self._drive(work.start(), in_trouble)
                except Poison:
                    raise
                except Exception as another:  # noqa: BLE001 - told, and begun again
                    error = another
        finally:
            self._observer.freed(work.region)

    async def patiently(
        self,
        region: str,
        call: Callable[[], Awaitable[T]],
        in_trouble: Callable[[], None] = _nobody,
    ) -> T:
        """Make an idempotent call until it is answered; raises what is not Transient."""
        return await self._until_answered(region, lambda _: call(), in_trouble)

    async def _drive(self, steps: Steps[T], in_trouble: Callable[[], None]) -> T:
        answer: Result = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            region = operation.region
            port, health = self._regions[region], self._health[region]
            failed: Transient | None = None
            if not health.broken:  # the common way
                try:
                    answer = await port.execute(operation, health.may_call)
                except Transient as error:
                    failed = error
                except Withheld:
                    pass
                else:
                    if health.troubled:
                        self._recovered(region, health)
                    continue
            execute = partial(port.execute, operation)
            answer = await self._until_answered(region, execute, in_trouble, failed)

    async def _until_answered(
        self,
        region: str,
        call: Callable[[Callable[[], bool]], Awaitable[T]],
        in_trouble: Callable[[], None],
        failed: Transient | None = None,
    ) -> T:
        """The same for a call that asks, when its turn has come, whether it may be made.

        `failed`: how it failed when it was made before this.
        """
        health = self._health[region]
        failures = 0
        while True:
            if failed is not None:
                health.troubled = True
                in_trouble()
                self._observer.failed(region, failed)
                if not isinstance(failed, Throttled):
                    health.note_failure()
                if not health.broken:
                    limits = self._limits
                    await self._sleep(
                        self._jittered(limits.backoff_base_s, limits.backoff_max_s, failures)
                    )
                failures += 1
            try:
                answer = await (
                    self._in_turn(health, call) if health.broken else call(health.may_call)
                )
            except Withheld:
                failed = None  # and stand behind the gate
            except Transient as error:
                failed = error
            else:
                if health.troubled:  # all else goes without a word
                    self._recovered(region, health)
                return answer

    def _recovered(self, region: str, health: _Health) -> None:
        health.note_success()
        self._observer.recovered(region)

    async def _in_turn(
        self, health: _Health, call: Callable[[Callable[[], bool]], Awaitable[T]]
    ) -> T:
        """Make a call; to a broken region alone, after a pause that its recovery cuts short."""
        if health.broken:
            async with health.gate:
                if health.broken:
                    beyond = health.failures - BREAK_AFTER
                    pause_s = self._jittered(self._limits.backoff_base_s, PROBE_S_MAX, beyond)
                    await first_of(self._sleep(pause_s), health.healed.wait())
                if health.broken:
                    return await call(lambda: True)
        return await call(health.may_call)

    def _jittered(self, base_s: float, max_s: float, failures: int) -> float:
        """Full jitter. Source: AWS Architecture Blog, "Exponential Backoff And Jitter"."""
        return self._rng.uniform(0.0, min(max_s, base_s * 2.0 ** min(failures, DOUBLINGS_MAX)))


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of several, and drop the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
