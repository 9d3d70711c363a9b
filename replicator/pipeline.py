"""One table and source region: read, transform, settle, deliver, checkpoint.

    StreamReader ─pages─► Transformer ─changes─► Flow ─tasks─► Writer ─► tables
                                                  └─ positions ─► Checkpoints

A session runs from the stored positions until it is stopped or something that cannot be tried
again in place goes wrong; then everything under way is dropped and the next session starts, after
a pause, from what is stored. Dropping is safe at any point: every step may be run again.

This module must not know DynamoDB, HTTP or configuration files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from conflict.merge import Delivery, Effect, Settlement, is_conflict
from conflict.operations import Item, Key
from conflict.origin import Change
from conflict.version import Kind, Version
from replicator.errors import Poison, ReplicatorError, spoken
from replicator.flow import DeliverTask, Flow, SettleTask, Task
from replicator.ports import Checkpoints, Clock, Gaps, Quarantine, Sleep, StreamSource
from replicator.reader import ReaderLimits, StreamReader
from replicator.records import WHOLE_STREAM, After, Checkpoint, Finished, Gap, Page, Parked, Record
from replicator.shards import Anomaly
from replicator.telemetry import PipelineState, PipelineStats
from replicator.transformer import Transformer
from replicator.writer import Writer, first_of

log = logging.getLogger(__name__)

CALL_S_MAX = 15.0
"""After this a call has been given up by the adapter's own timeouts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineLimits:
    """Bounds and intervals of one pipeline."""

    unsettled_records_max: int = 10_000
    checkpoint_interval_s: float = 1.0
    drain_s: float = 20.0
    restart_base_s: float = 1.0
    restart_max_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStores:
    """What survives a session: all of it in the source region's control table."""

    checkpoints: Checkpoints
    quarantine: Quarantine
    gaps: Gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What a pipeline is made of. `find_stream` tells the ARN of the table's present stream, and
    opens it."""

    find_stream: Callable[[], Awaitable[tuple[str, StreamSource]]]
    transformer: Transformer
    writer: Writer
    stores: PipelineStores
    stats: PipelineStats
    limits: PipelineLimits
    reader_limits: ReaderLimits
    clock: Clock
    sleep: Sleep
    rng: Random


class Pipeline:
    """The replication of one table out of one region."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self.stats = parts.stats

    async def run(self, stop: asyncio.Event) -> None:
        """Replicate until `stop` is set; then drain and checkpoint."""
        failures = 0
        while not stop.is_set():
            session = _Session(self._parts)
            try:
                await session.run(stop)
            except* Exception as group:  # noqa: BLE001 - reported, and begun again
                failures = 0 if session.made_progress else failures + 1
                self._failed(group.exceptions[0])
            if not stop.is_set():
                await self._pause(stop, failures)
        self.stats.state = PipelineState.STOPPED

    def _failed(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.stats.state = PipelineState.RETRYING
        self.stats.error = spoken(error)
        known = isinstance(error, ReplicatorError)
        log.error(
            "pipeline.restarting",
            extra={
                "table": self.stats.table,
                "region": self.stats.source,
                "error": self.stats.error,
                "known": known,
            },
        )

    async def _pause(self, stop: asyncio.Event, failures: int) -> None:
        limits = self._parts.limits
        grown_s = limits.restart_base_s * 2.0 ** min(failures, 10)
        pause_s = min(limits.restart_max_s, grown_s) * self._parts.rng.uniform(0.5, 1.0)
        await first_of(self._parts.sleep(pause_s), stop.wait())


class _Session:
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
        self._saved: dict[str, After | Finished] = {}
        self._arn = ""
        self.made_progress = False

    async def run(self, stop: asyncio.Event) -> None:
        self._arn, source = await self._parts.find_stream()
        self._saved = await self._load()
        reader = self._reader(source)
        self._stats.progress = self._progress
        async with self._group:
            keeper = self._group.create_task(self._keep(reader))
            reading = self._group.create_task(reader.run(stop))
            await first_of(asyncio.wait({reading}), stop.wait())
            await self._drain(reading)
            for task in (keeper, reading, *self._performing):
                task.cancel()
        await self._save_finally()

    # --- reading ------------------------------------------------------------------------------

    def _reader(self, source: StreamSource) -> StreamReader:
        parts = self._parts
        return StreamReader(
            source=source,
            checkpoints=dict(self._saved),
            deliver=self._take_in,
            ended=self._flow.end,
            on_gap=self._open_gap,
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
        changes: list[Change] = []
        for record in page.records:
            try:
                changes.append(self._transformer.change(record, now_us))
            except Poison as poison:
                await self._park_record(record, poison)
                self._flow.set_aside(shard, record.sequence)
        self._count(changes, len(page.records), page.records)
        for task in self._flow.offer(shard, changes):
            self._spawn(task)
        while self._flow.unsettled >= self._limits.unsettled_records_max:
            self._moved.clear()
            await self._moved.wait()

    def _count(self, changes: list[Change], read: int, records: tuple[Record, ...]) -> None:
        stats = self._stats.records
        local = sum(c.nature.is_local_put or c.nature.is_local_delete for c in changes)
        ignored = sum(c.nature.is_ignored for c in changes)
        stats.read += read
        stats.local += local
        stats.ignored += ignored
        stats.echo += len(changes) - local - ignored
        latest_us = max((record.created_us for record in records), default=0)
        if changes and latest_us > changes[-1].limit_us:
            stats.clamped += sum(record.created_us > changes[-1].limit_us for record in records)
            log.warning("version.clamped", extra=self._fields())

    # --- performing ---------------------------------------------------------------------------

    def _spawn(self, task: Task) -> None:
        performing = self._group.create_task(self._perform(task))
        self._performing.add(performing)
        performing.add_done_callback(self._performing.discard)

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
            await self._park_task(task, poison)
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
        deadline = asyncio.ensure_future(self._parts.sleep(self._limits.drain_s))
        under_way: set[asyncio.Future[None]] = {reading, *self._performing}
        while under_way and not deadline.done():
            await asyncio.wait({deadline, *under_way}, return_when=asyncio.FIRST_COMPLETED)
            under_way = {task for task in (reading, *self._performing) if not task.done()}
        deadline.cancel()
        if under_way:
            log.warning("pipeline.drain_cut", extra=self._fields(unsettled=self._flow.unsettled))

    # --- parking ------------------------------------------------------------------------------

    async def _park_task(self, task: Task, poison: Poison) -> None:
        if isinstance(task, DeliverTask):
            shipment = task.shipment
            self._stats.links[task.region].quarantined += 1
            await self._park(task.region, shipment.key, shipment.version, shipment.item, poison)
            return
        change = task.entry.change
        version = self._would_be_version(change.created_us, change.sequence)
        self._stats.records.quarantined += 1
        await self._park(task.region, change.key, version, change.new, poison)

    async def _park_record(self, record: Record, poison: Poison) -> None:
        key = self._transformer.key_of(record.keys)
        version = self._would_be_version(record.created_us, record.sequence)
        item = None if record.new is None else Item(record.new, None)
        self._stats.records.quarantined += 1
        await self._park(self._stats.source, key, version, item, poison)

    def _would_be_version(self, created_us: int, sequence: int) -> Version:
        """What orders the parked changes of a key where none got as far as a version."""
        return Version(created_us, self._stats.source, sequence, Kind.APPLICATION)

    async def _park(
        self, target: str, key: Key, version: Version, item: Item | None, poison: Poison
    ) -> None:
        """Keep a change durably; until it is, the record counts as unsettled."""
        parked = Parked(
            table=self._stats.table,
            source=self._stats.source,
            target=target,
            key=key,
            version=version,
            image=item.image if item else None,
            reason=str(poison),
            parked_us=self._parts.clock.now_us(),
        )
        log.error(
            "change.parked",
            extra=self._fields(target=target, sequence=version.sequence, reason=str(poison)),
        )
        park = partial(self._stores.quarantine.park, parked)
        await self._writer.patiently(self._stats.source, park)

    # --- positions ----------------------------------------------------------------------------

    async def _load(self) -> dict[str, After | Finished]:
        """The stored positions of the present stream; those of another one make a gap."""
        table, source = self._stats.table, self._stats.source
        self._stats.stream_arn = self._arn
        stored = await self._stores.checkpoints.load(table, source)
        present = {c.shard: c.position for c in stored if c.stream_arn == self._arn}
        if stored and not present:
            await self._open_gap(WHOLE_STREAM, "the table's stream was re-created")
        gaps = await self._stores.gaps.load(table, source)
        self._stats.gap = gaps[0] if gaps else None
        return present

    async def _keep(self, reader: StreamReader) -> None:
        """Save positions, and keep the figures of the reader, again and again."""
        while True:
            await self._parts.sleep(self._limits.checkpoint_interval_s)
            await self._save()
            self._stats.shards_open = reader.open_shards
            self._stats.shards_finished = reader.finished_shards
            self._stats.readable = self._is_readable(reader)
            if self._stats.readable:
                self._stats.state, self._stats.error = PipelineState.RUNNING, None

    def _is_readable(self, reader: StreamReader) -> bool:
        """Whether the source has answered of late: a call that hangs is no good sign either."""
        if reader.last_poll_s is None or reader.failing:
            return False
        age_s = self._parts.clock.monotonic_s() - reader.last_poll_s
        return age_s < self._parts.reader_limits.describe_interval_s + CALL_S_MAX

    async def _save_finally(self) -> None:
        """The last save; if it cannot be made in time, some records will be read again."""
        try:
            async with asyncio.timeout(self._limits.drain_s):
                await self._save()
        except TimeoutError:
            log.warning("pipeline.checkpoint_cut", extra=self._fields())

    async def _save(self) -> None:
        for shard, position in self._flow.positions().items():
            if self._saved.get(shard) == position:
                continue
            checkpoint = Checkpoint(
                table=self._stats.table,
                source=self._stats.source,
                stream_arn=self._arn,
                shard=shard,
                position=position,
            )
            save = partial(self._stores.checkpoints.save, checkpoint)
            await self._writer.patiently(self._stats.source, save)
            self._saved[shard] = position
            if isinstance(position, Finished):
                self._flow.forget(shard)

    async def _open_gap(self, shard: str, reason: str) -> None:
        """Write down that records were lost; reading goes on only when that is durable."""
        gap = Gap(
            table=self._stats.table,
            source=self._stats.source,
            stream_arn=self._arn,
            shard=shard,
            since_us=self._parts.clock.now_us(),
            reason=reason,
        )
        log.error("stream.gap", extra=self._fields(shard=shard, reason=reason))
        await self._writer.patiently(self._stats.source, partial(self._stores.gaps.report, gap))
        self._stats.gap = gap

    # --- what the reader tells ----------------------------------------------------------------

    def _source_failed(self, shard: str | None, error: Exception) -> None:
        self._stats.readable = False
        self._stats.error = spoken(error)
        log.warning("reader.failed", extra=self._fields(shard=shard, error=self._stats.error))

    def _source_recovered(self, shard: str | None) -> None:
        self._stats.error = None
        log.info("reader.recovered", extra=self._fields(shard=shard))

    def _report_anomaly(self, anomaly: Anomaly) -> None:
        log.warning(
            "stream.anomaly",
            extra=self._fields(kind=anomaly.kind, shard=anomaly.shard, parent=anomaly.parent),
        )

    def _progress(self) -> tuple[int, int, dict[str, tuple[int, int | None]]]:
        flow = self._flow
        pending = {target: flow.pending(target) for target in self._stats.targets}
        return flow.unsettled, flow.coalesced, pending

    def _fields(self, **more: object) -> dict[str, object]:
        return {"table": self._stats.table, "region": self._stats.source, **more}
