"""Reads one stream with all of its shards, and hands on every page that holds records.

One task per open shard polls it; a further one describes the stream again and again, and every
shard that ends has the stream described at once, so that its children are found. Which shard may
be read, and from where, is decided in shards.py.

Invariants:
  * the pages of a shard are handed on in order and one at a time: the next is not asked for before
    `deliver` has returned, which is how whoever receives them holds the reader back;
  * an empty page is not the end of a shard; only an answer without a next iterator is;
  * what retention took away before it was read is told by `on_gap`, and reading goes on only when
    that has returned: nothing is skipped in silence;
  * there is one retry layer, here. What may pass is tried for as long as it takes, each failure
    reported; everything else, known or not, comes out of `run`;
  * a stop lets what is being handed on be finished, and cuts everything else short.

A position beyond the end of a shard (a checkpoint of a stream that was made anew under the same
name) is not found out here: GetShardIterator takes any number, and some engines then answer with
empty pages for ever. Checkpoints are bound to the stream's ARN for that reason, by their keeper.

This module must not know what is done with a record, when it is settled or where positions are
kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar, assert_never

from replicator.errors import IteratorExpired, ShardGone, Transient, Trimmed
from replicator.ports import Clock, Sleep, StreamSource
from replicator.records import After, Finished, Page, TrimHorizon
from replicator.shards import Anomaly, Lineage

T = TypeVar("T")

DOUBLINGS_MAX = 16
"""Keeps 2 ** failures a number of reasonable size through an outage of days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLimits:
    """How much is asked for, and how often.

    `poll_min_s` is counted from the start of one GetRecords to the start of the next of a shard.
    AWS states no rate for DynamoDB Streams; 0.2 keeps to that of their sibling, Kinesis.
    Source: Kinesis API_GetRecords, "Each shard can support up to five read transactions per
    second". An empty page doubles the interval up to `poll_idle_s`, a record sets it back.

    `describe_interval_s` is far below the limit of the stream's account. Source:
    API_streams_DescribeStream, "at a maximum rate of 10 times per second".
    """

    page_records_max: int = 1000
    """Source: API_streams_GetRecords, Limit: "The upper limit is 1000"."""
    poll_min_s: float = 0.2
    poll_idle_s: float = 1.0
    describe_interval_s: float = 10.0
    backoff_base_s: float = 0.1
    backoff_max_s: float = 10.0


@dataclass(slots=True)
class _Reading:
    """Where the reading of one shard stands. `position`: after the last record handed on."""

    shard: str
    position: TrimHorizon | After
    iterator: str | None = None
    ended: bool = False


class StreamReader:
    """The reading of one stream, once: made with the stored positions, then run."""

    def __init__(
        self,
        *,
        source: StreamSource,
        checkpoints: Mapping[str, After | Finished],
        deliver: Callable[[str, Page], Awaitable[None]],
        ended: Callable[[str], None],
        on_gap: Callable[[str, str], Awaitable[None]],
        on_error: Callable[[str | None, Exception], None],
        on_ok: Callable[[str | None], None],
        on_anomaly: Callable[[Anomaly], None],
        clock: Clock,
        sleep: Sleep,
        rng: Random,
        limits: ReaderLimits,
    ) -> None:
        """Callbacks are given a shard's id; None stands for the stream, where it is described.

        `deliver` is awaited with each page that holds records, `ended` called after the last of
        a shard, `on_gap` awaited with a reason where records were lost to retention. `on_error`
        is told of each failure, `on_ok` of the first success after failures.
        """
        self._source = source
        self._deliver = deliver
        self._on_ended = ended
        self._on_gap = on_gap
        self._on_error = on_error
        self._on_ok = on_ok
        self._on_anomaly = on_anomaly
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._limits = limits
        self._lineage = Lineage(checkpoints)
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str | None, asyncio.Task[None]] = {}
        self._handing_on: set[str] = set()
        self._failing: set[str | None] = set()
        self._answered_s: dict[str | None, float] = {}
        self._describing = asyncio.Lock()
        self._descriptions = 0
        self._behind: set[str] = set()
        self._childless = 0
        self._over = asyncio.Event()
        self._stopping = False

    @property
    def open_shards(self) -> int:
        """How many shards are being read."""
        return self._lineage.open_shards

    @property
    def finished_shards(self) -> int:
        """How many shards have been read to their end, of those that the stream still lists."""
        return self._lineage.ended_shards

    @property
    def failing(self) -> frozenset[str | None]:
        """The shards whose last call failed; None among them: the stream could not be described."""
        return frozenset(self._failing)

    @property
    def behind(self) -> frozenset[str]:
        """The open shards whose last answer held records, or that have not answered yet."""
        return frozenset(self._behind)

    @property
    def unattended(self) -> frozenset[str]:
        """The open shards that no task reads; none in good health."""
        return frozenset(shard for shard in self._lineage.opened_shards if self._is_idle(shard))

    def _is_idle(self, shard: str) -> bool:
        return not self._stopping and shard not in self._tasks

    @property
    def caught_up(self) -> bool:
        """Whether the last answer of every shard that may be read held no records."""
        return self._descriptions > 0 and not self._behind and not self._lineage.waiting_shards

    @property
    def waiting_shards(self) -> int:
        """How many shards are known that may not be read yet: their parents are not at an end."""
        return self._lineage.waiting_shards

    @property
    def last_poll_s(self) -> float | None:
        """Monotonic time up to which all is known to be read; None before the first answer.

        The oldest of the last answers: of each open shard, and of DescribeStream, so that in good
        health it is up to `describe_interval_s` old. A shard that hands on a page does not count:
        it has an answer in hand.
        """
        if None not in self._answered_s:
            return None
        return min(at for shard, at in self._answered_s.items() if shard not in self._handing_on)

    @property
    def last_read_s(self) -> float | None:
        """The same by the shards alone, which are asked far more often than they are listed.

        A list counts only where it is owed: when a shard has ended, until its children are known.
        """
        answers = [
            at
            for shard, at in self._answered_s.items()
            if shard is not None and shard not in self._handing_on
        ]
        if self._childless or not answers:
            return self.last_poll_s
        return min(answers)

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop` is set, or a stream that was turned off is read to its end; once.

        Raises: the first error that is not to be tried again, as it was raised. Those of other
        shards that came with it have been reported, as it has, by `on_error`.
        """
        try:
            async with self._group:
                self._start(None, self._discover)
                self._group.create_task(self._halt(stop))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _halt(self, stop: asyncio.Event) -> None:
        """On a stop, cancel what is only waiting; the rest sees `_stopping` when it is done."""
        ends = [asyncio.ensure_future(event.wait()) for event in (stop, self._over)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        self._stopping = True
        for name, task in self._tasks.items():
            if name not in self._handing_on:
                task.cancel()

    def _start(self, name: str | None, work: Callable[[], Awaitable[None]]) -> None:
        async def watched() -> None:
            try:
                await work()
            except Exception as error:
                self._on_error(name, error)
                raise

        called = f"reader:{name or 'stream'}"
        task = self._tasks[name] = self._group.create_task(watched(), name=called)
        task.add_done_callback(lambda _: self._tasks.pop(name))

    async def _discover(self) -> None:
        while True:
            await self._describe()
            await self._sleep(self._limits.describe_interval_s)

    async def _describe(self) -> None:
        """Describe the stream once more, shared by all who asked before it was begun."""
        begun = self._descriptions
        async with self._describing:
            if self._descriptions > begun:
                return
            self._descriptions += 1
            description = await self._ask(None, self._source.describe)
            for anomaly in self._lineage.observe(description.shards):
                self._on_anomaly(anomaly)
            self._open_ready()
            if not description.enabled and not self._lineage.unread_shards:
                self._over.set()

    def _open_ready(self) -> None:
        if self._stopping:
            return
        for shard, start in self._lineage.ready():
            self._lineage.opened(shard)
            self._answered_s[shard] = self._clock.monotonic_s()
            self._behind.add(shard)
            self._start(shard, partial(self._read, _Reading(shard, start)))

    async def _read(self, reading: _Reading) -> None:
        """Poll one shard to its end: fast while there are records, slower while there are none."""
        limits, interval_s = self._limits, self._limits.poll_min_s
        while True:
            begun_s = self._clock.monotonic_s()
            found = await self._poll(reading)
            if reading.ended:
                await self._end(reading.shard)
                return
            if self._stopping:
                return
            interval_s = limits.poll_min_s if found else min(2 * interval_s, limits.poll_idle_s)
            await self._sleep(max(0.0, begun_s + interval_s - self._clock.monotonic_s()))

    async def _poll(self, reading: _Reading) -> bool:
        """One turn of reading a shard; returns whether there may be more at once."""
        try:
            page = await self._next_page(reading)
        except IteratorExpired as error:
            reading.iterator = None
            self._failed(reading.shard, error)
        except Trimmed:
            await self._gap(reading, "trimmed")
            reading.position, reading.iterator = TrimHorizon(), None
            return True
        except ShardGone:
            await self._gap(reading, "shard gone")
            reading.ended = True
        else:
            if not page.records:
                self._behind.discard(reading.shard)
            else:
                self._behind.add(reading.shard)
                await self._hand_on(reading.shard, self._deliver(reading.shard, page))
                reading.position = After(page.records[-1].sequence)
            reading.iterator = page.next_iterator
            reading.ended = page.next_iterator is None
            return bool(page.records)
        return False

    async def _next_page(self, reading: _Reading) -> Page:
        shard, source = reading.shard, self._source
        if reading.iterator is None:
            ask = partial(source.iterator, shard, reading.position)
            reading.iterator = await self._ask(shard, ask, reads=False)
        limit = self._limits.page_records_max
        return await self._ask(shard, partial(source.records, reading.iterator, limit))

    async def _gap(self, reading: _Reading, what: str) -> None:
        """Have a loss recorded before reading goes on."""
        reason = f"{what}: records may be lost {_spoken(reading.position)}"
        await self._hand_on(reading.shard, self._on_gap(reading.shard, reason))

    async def _hand_on(self, shard: str, work: Awaitable[None]) -> None:
        """Await what a stop must not cut short."""
        self._handing_on.add(shard)
        try:
            await work
        finally:
            self._handing_on.discard(shard)

    async def _end(self, shard: str) -> None:
        self._recovered(shard)
        self._behind.discard(shard)
        del self._answered_s[shard]
        self._childless += 1
        self._lineage.ended(shard)
        self._on_ended(shard)
        self._open_ready()
        if not self._stopping:
            await self._describe()
            self._childless -= 1

    async def _ask(
        self, shard: str | None, call: Callable[[], Awaitable[T]], *, reads: bool = True
    ) -> T:
        """Make a call until it is answered. Raises what is not Transient.

        `reads`: its answer tells what there was. An iterator is a place, and tells nothing.
        """
        failures = 0
        while True:
            asked_s = self._clock.monotonic_s()
            try:
                answer = await call()
            except Transient as error:
                self._failed(shard, error)
                await self._sleep(self._backoff_s(failures))
                failures += 1
            else:
                if reads:
                    self._answered_s[shard] = asked_s  # what came since may not be in the answer
                self._recovered(shard)
                return answer

    def _backoff_s(self, failures: int) -> float:
        """Full jitter. Source: AWS Architecture Blog, "Exponential Backoff And Jitter"."""
        grown_s = self._limits.backoff_base_s * 2.0 ** min(failures, DOUBLINGS_MAX)
        return self._rng.uniform(0.0, min(self._limits.backoff_max_s, grown_s))

    def _failed(self, shard: str | None, error: Exception) -> None:
        self._failing.add(shard)
        self._on_error(shard, error)

    def _recovered(self, shard: str | None) -> None:
        if shard in self._failing:
            self._failing.discard(shard)
            self._on_ok(shard)


def _spoken(position: TrimHorizon | After) -> str:
    match position:
        case TrimHorizon():
            return "from its beginning"
        case After(sequence):
            return f"after sequence {sequence}"
        case _:
            assert_never(position)
