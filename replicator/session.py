"""One session of a pipeline: from the stored positions until it is stopped or fails.

    StreamReader ─pages─► Transformer ─changes─► Flow ─tasks─► Writer ─► tables
                                                  └─ positions ─► Keeper

All of it runs on one event loop; a failure that is not tried again in place ends the session, and
with it everything under way.

This module must not know DynamoDB, HTTP or configuration files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from conflict.merge import Delivery, Effect, Settlement, is_conflict
from conflict.origin import Change
from replicator.errors import Poison, spoken
from replicator.flow import DeliverTask, Flow, SetAside, SettleTask, Task
from replicator.keeper import Keeper
from replicator.parking import Parking
from replicator.parts import PipelineParts
from replicator.ports import StreamSource
from replicator.reader import StreamReader
from replicator.records import After, Finished, Page, Record
from replicator.shards import Anomaly
from replicator.writer import first_of

log = logging.getLogger(__name__)


class Session:
    """One run of a pipeline, from the stored positions on."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self._stats, self._stores, self._limits = parts.stats, parts.stores, parts.limits
        self._transformer, self._writer = parts.transformer, parts.writer
        self._flow = Flow(
            home=self._transformer.home, targets=self._stats.targets, mode=self._transformer.mode
        )
        self._group = asyncio.TaskGroup()
        self._performing: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._parking = Parking(parts)
        self.made_progress = False

    async def run(self, stop: asyncio.Event) -> None:
        self._stats.readable = self._stats.caught_up = False
        arn, source = await self._parts.find_stream()
        keeper = self._keeper = Keeper(self._parts, self._flow, arn)
        positions = await keeper.load()
        await self._parking.count()
        reader = self._reader(source, positions)
        self._stats.progress = self._flow.progress
        async with self._group:
            keeping = self._group.create_task(keeper.keep(reader))
            reading = self._group.create_task(reader.run(stop))
            await first_of(asyncio.wait({reading}), stop.wait())
            await self._drain(reading)
            for task in (keeping, reading, *self._performing):
                task.cancel()
        await keeper.save_finally()

    # --- reading ------------------------------------------------------------------------------

    def _reader(
        self, source: StreamSource, positions: Mapping[str, After | Finished]
    ) -> StreamReader:
        parts = self._parts
        return StreamReader(
            source=source,
            checkpoints=positions,
            deliver=self._take_in,
            ended=self._flow.end,
            on_gap=self._keeper.on_loss,
            on_error=self._source_failed,
            on_ok=self._source_recovered,
            on_anomaly=self._report_anomaly,
            clock=parts.clock,
            sleep=parts.sleep,
            rng=parts.rng,
            limits=parts.reader_limits,
        )

    async def _take_in(self, shard: str, page: Page) -> None:
        """Take in a page; returns when there is room for the next."""
        now_us = self._parts.clock.now_us()
        entries: list[Change | SetAside] = []
        for record in page.records:
            try:
                entries.append(self._transformer.change(record, now_us))
            except Poison as poison:
                await self._parking.record(record, poison)
                entries.append(SetAside(record.sequence))
        self._count(entries, page.records, now_us)
        self._keeper.note_page(shard, page.records[-1])
        for task in self._flow.offer(shard, entries):
            self._spawn(task)
        while self._flow.unsettled >= self._limits.unsettled_records_max:
            self._moved.clear()
            await self._moved.wait()

    def _count(
        self, entries: list[Change | SetAside], records: tuple[Record, ...], now_us: int
    ) -> None:
        stats = self._stats.records
        natures = [entry.nature for entry in entries if isinstance(entry, Change)]
        local = sum(nature.is_local_put or nature.is_local_delete for nature in natures)
        ignored = sum(nature.is_ignored for nature in natures)
        stats.read += len(records)
        stats.local += local
        stats.ignored += ignored
        stats.echo += len(natures) - local - ignored
        clamped = sum(map(partial(self._transformer.is_ahead, now_us=now_us), records))
        if clamped:
            stats.clamped += clamped
            log.warning("version.clamped", extra=self._fields(records=clamped))

    # --- performing ---------------------------------------------------------------------------

    def _spawn(self, task: Task) -> None:
        performing = self._group.create_task(self._perform(task))
        self._performing.add(performing)
        self._quiet.clear()
        performing.add_done_callback(self._performed)

    def _performed(self, performing: asyncio.Task[None]) -> None:
        self._performing.discard(performing)
        if not self._performing:
            self._quiet.set()

    async def _perform(self, task: Task) -> None:
        """Run a task, then what it has made ready; further ones get a coroutine of their own."""
        current: Task | None = task
        while current is not None:
            ready = await self._finish(current)
            current = ready[0] if ready else None
            for other in ready[1:]:
                self._spawn(other)
        self._moved.set()
        self.made_progress = True

    async def _finish(self, task: Task) -> list[Task]:
        try:
            if isinstance(task, SettleTask):
                return self._settled(task, await self._writer.run(task))
            if isinstance(task, DeliverTask):
                return self._delivered(task, await self._writer.run(task))
            await self._writer.run(task)
            return self._flow.released(task)
        except Poison as poison:
            await self._parking.task(task, poison)
            return self._flow.parked(task)

    def _settled(self, task: SettleTask, settlement: Settlement) -> list[Task]:
        if settlement.conflict:
            self._stats.records.conflicts += 1
        return self._flow.settled(task, settlement)

    def _delivered(self, task: DeliverTask, delivery: Delivery) -> list[Task]:
        link = self._stats.links[task.region]
        match delivery.effect:
            case Effect.APPLIED:
                link.applied += 1
                link.removed += task.shipment.item is None
                lag_us = self._parts.clock.now_us() - task.shipment.created_us
                link.latencies_ms.append(max(0, lag_us) / 1000)
            case Effect.DUPLICATE:
                link.duplicate += 1
            case Effect.STALE | Effect.YIELDED:
                link.stale += 1
        if is_conflict(task.shipment, delivery) and task.note_conflict():
            self._stats.records.conflicts += 1
        return self._flow.delivered(task)

    async def _drain(self, reading: asyncio.Task[None]) -> None:
        """Let what is under way arrive, for a while; what does not is read again next time."""
        try:
            async with asyncio.timeout(self._limits.drain_s):
                await asyncio.wait({reading})
                await self._quiet.wait()
        except TimeoutError:
            log.warning("pipeline.drain_cut", extra=self._fields(unsettled=self._flow.unsettled))

    # --- what the reader tells ----------------------------------------------------------------

    def _source_failed(self, shard: str | None, error: Exception) -> None:
        self._stats.readable = False
        self._stats.source_error = spoken(error)
        log.warning("reader.failed", extra=self._fields(shard=shard, error=spoken(error)))

    def _source_recovered(self, shard: str | None) -> None:
        self._stats.source_error = None
        log.info("reader.recovered", extra=self._fields(shard=shard))

    def _report_anomaly(self, anomaly: Anomaly) -> None:
        log.warning(
            "stream.anomaly",
            extra=self._fields(kind=anomaly.kind, shard=anomaly.shard, parent=anomaly.parent),
        )

    def _fields(self, **more: object) -> dict[str, object]:
        return {"table": self._stats.table, "region": self._stats.source, **more}
