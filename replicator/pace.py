"""How fast one table in one region is written to: by its setting, and by what it says itself.

A throttled table gets fewer calls at once and slowly more again: a throttle cuts the pace to half
of what has just gone through, and every second without one adds a tenth of that, until the pace
is no bound any more (additive increase, multiplicative decrease). So a backlog drains as fast as
the table lets it, and leaves room for its application.

A configured rate is kept by what is known of the cost, which the table goes by the larger of the
item before and after a write: a write that meets another item than it expected pays for that
afterwards. What a put replaces and what a delete takes out, nobody has seen: a put counts by what
it puts, a delete as one.

All pipelines of a process that write to a table share its pace. Tables do not share: one that is
throttled costs the others nothing.

This module must not know what is written, nor why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from conflict.operations import Delete, Image, Item, Key, Outcome, Put, Stamp
from replicator.backfill.units import item_bytes, write_units
from replicator.errors import Throttled
from replicator.ports import Clock, Sleep, Table

W = TypeVar("W")

BURST_S = 1.0
"""How much of the pace may be saved up while nothing is written."""

CUT_EVERY_S = 1.0
"""Calls that were under way together are throttled together: that is one sign and not many."""

WINDOW_S = 1.0
"""What has just gone through is counted over two of these: the present one, and the one before."""

CUT = 0.5
GROWTH = 0.1
RATE_MIN = 1.0
FREE = 2.0
"""A pace this many times what goes through is no bound."""


class Pace:
    """Write units per second into one table; None: no bound, until it throttles."""

    def __init__(self, rate: float | None, *, clock: Clock, sleep: Sleep) -> None:
        self._configured, self._clock, self._sleep = rate, clock, sleep
        self._limit = rate
        self._paid_until_s = self._grown_s = clock.monotonic_s()
        self._cut_s: float | None = None
        self._step = 0.0
        self._begin_window(self._paid_until_s)

    @property
    def is_counted(self) -> bool:
        """Whether what a write costs matters; else every write counts as one."""
        return self._configured is not None

    @property
    def limit(self) -> float | None:
        """The pace at this moment; None: no bound."""
        return self._limit

    async def take(self, units: float) -> None:
        """Wait until so many units may be written."""
        self._grow()
        if self._limit is None:
            return
        now_s = self._clock.monotonic_s()
        start_s = max(self._paid_until_s, now_s - BURST_S)
        self._paid_until_s = start_s + units / self._limit
        if self._paid_until_s > now_s:
            await self._sleep(self._paid_until_s - now_s)

    def owe(self, units: float) -> None:
        """So many more were taken than were paid for: whoever comes next waits for them."""
        if self._limit is not None:
            self._paid_until_s += units / self._limit

    def passed(self, units: float) -> None:
        """So many units were taken by the table."""
        now_s = self._clock.monotonic_s()
        past_s = now_s - self._window_s
        if past_s >= 2 * WINDOW_S:
            self._begin_window(now_s)
        elif past_s >= WINDOW_S:
            self._begin_window(self._window_s + WINDOW_S, before=self._units, before_s=WINDOW_S)
        self._units += units

    def throttled(self) -> None:
        """The table asked for fewer."""
        now_s = self._clock.monotonic_s()
        if self._cut_s is not None and now_s - self._cut_s < CUT_EVERY_S:
            return
        passing = self._passing(now_s)
        standing = passing if self._limit is None else min(self._limit, max(passing, RATE_MIN))
        self._limit = max(RATE_MIN, CUT * standing)
        self._step = max(RATE_MIN, GROWTH * standing)
        self._cut_s = self._grown_s = now_s
        self._paid_until_s = min(self._paid_until_s, now_s)
        self._begin_window(now_s)

    def _grow(self) -> None:
        """A little more for every second that passed without a throttle."""
        if self._cut_s is None or self._limit is None:
            return
        now_s = self._clock.monotonic_s()
        seconds = now_s - self._grown_s
        if seconds < 1.0:
            return
        self._grown_s = now_s
        self._limit += self._step * int(seconds)
        if self._configured is not None:
            self._limit = min(self._limit, self._configured)
        elif self._limit > FREE * max(self._passing(now_s), RATE_MIN):
            self._limit = self._cut_s = None

    def _begin_window(self, start_s: float, *, before: float = 0.0, before_s: float = 0.0) -> None:
        """Count anew. `before`: the units of the window before; after a pause there is none."""
        self._window_s, self._units = start_s, 0.0
        self._before, self._before_s = before, before_s

    def _passing(self, now_s: float) -> float:
        """Units per second that have just gone through; less than a second counts as one."""
        past_s = self._before_s + now_s - self._window_s
        return (self._before + self._units) / max(past_s, WINDOW_S)


@dataclass(frozen=True, slots=True)
class PacedTable:
    """ports.Table that is written to at a pace. Reads are not: they go in batches."""

    table: Table
    pace: Pace

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        return await self.table.get(keys)

    def put(self, operation: Put) -> Coroutine[Any, Any, Outcome]:
        units = _units(operation.item.image) if self.pace.is_counted else 1
        return self._paced(self.table.put, operation, units)

    def stamp(self, operation: Stamp) -> Coroutine[Any, Any, Outcome]:
        return self._paced(self.table.stamp, operation, 1)

    def delete(self, operation: Delete) -> Coroutine[Any, Any, Outcome]:
        return self._paced(self.table.delete, operation, 1)

    async def _paced(
        self, write: Callable[[W], Awaitable[Outcome]], operation: W, units: int
    ) -> Outcome:
        pace = self.pace
        if pace.limit is not None:
            await pace.take(units)
        try:
            outcome = await write(operation)
        except Throttled:
            pace.throttled()
            raise
        if pace.is_counted and outcome.item is not None:  # stands stamped, or in the way
            standing = _units(outcome.item.image)
            if standing > units:
                pace.owe(standing - units)
                units = standing
        pace.passed(units)
        return outcome


def _units(image: Image) -> int:
    return write_units(item_bytes(image))


@dataclass(slots=True, kw_only=True)
class Paces:
    """The paces of all tables of a process. `rates`: by table, what is configured."""

    rates: Mapping[str, float | None]
    clock: Clock
    sleep: Sleep
    _paces: dict[tuple[str, str], Pace] = field(default_factory=dict)

    def of(self, table: str, region: str) -> Pace:
        """The pace of a table in a region."""
        place = (table, region)
        if place not in self._paces:
            rate = self.rates.get(table)
            self._paces[place] = Pace(rate, clock=self.clock, sleep=self.sleep)
        return self._paces[place]
