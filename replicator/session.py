"""One session of a pipeline: from the stored positions until it is stopped or fails.

    StreamReader ─pages─► Transformer ─changes─► Flow ─tasks─► Writer ─► tables
                                                  └─ positions ─► Keeper

All of it runs on one event loop; a failure that is not tried again in place ends the session, and
with it everything under way. A link that holds up the others is a matter of bulkhead.py, which lets
a session of this same kind catch it up.

This module must not know DynamoDB, HTTP or configuration files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from operator import attrgetter

from conflict.merge import Delivery, Effect, Settlement, Shipment, is_conflict
from conflict.operations import Item
from conflict.origin import Change, Nature
from conflict.version import Kind
from replicator.bulkhead import Bulkhead
from replicator.errors import Keyless, Poison, Throttled, spoken
from replicator.flow import Flow
from replicator.heartbeats import BEAT, sent_us_of
from replicator.keeper import Keeper
from replicator.ledger import Conflict, sides
from replicator.parking import Parking
from replicator.parts import PipelineParts
from replicator.performers import Performers, StepAside
from replicator.ports import StreamSource
from replicator.reader import StreamReader
from replicator.records import After, Finished, Mode, Page, Record, weight
from replicator.shards import Anomaly
from replicator.tasks import DeliverTask, SetAside, SettleTask, Task
from replicator.telemetry import LinkStats
from replicator.writer import first_of

log = logging.getLogger(__name__)

HALF = 0.5
BEHIND_PER_RECORD = 10
"""What is durable everywhere, but behind a record that is not, takes two numbers and no image: so
many times more of it may be held. One key that one target refuses stops nobody else for long."""
LOCAL = tuple(nature for nature in Nature if nature.is_local_put or nature.is_local_delete)
IGNORED = tuple(nature for nature in Nature if nature.is_ignored)
CREATED = attrgetter("created_us")


class Session:
    """One run of a pipeline, from the stored positions on."""

    def __init__(
        self,
        parts: PipelineParts,
        behind: Bulkhead | None = None,
        parking: Parking | None = None,
    ) -> None:
        """`behind`: this session catches up links of another, whose bulkhead that is, and whose
        `parking` it shares: what either parks, the other may take out."""
        self._parts, self._behind = parts, behind
        self.targets = parts.stats.targets
        self._stats, self._stores, self._limits = parts.stats, parts.stores, parts.limits
        self._transformer, self._writer = parts.transformer, parts.writer
        self._flow = Flow(
            home=self._transformer.home, targets=self._stats.targets, mode=self._transformer.mode
        )
        self._group = asyncio.TaskGroup()
        self._performers: Performers[Task] = Performers(
            perform=self._perform,
            at_once=self._at_once,
            group=self._group,
            per_region=self._limits.performers_max,
        )
        self._settles_elsewhere = self._transformer.mode is not Mode.ONE_WAY
        """Settling takes calls, whatever the record tells."""
        self._held: dict[str, list[Task]] = {}
        self._moved = asyncio.Event()
        self._parking = parking or Parking(parts)
        self._bulkhead = Bulkhead(
            parts,
            self._flow,
            drop=self._drop,
            latest_us=self._read_until,
            session=partial(Session, parking=self._parking),
        )
        self._keeper: Keeper | None = None
        self.made_progress = False

    async def run(self, stop: asyncio.Event) -> None:
        self._stats.readable = self._stats.caught_up = False
        self._stats.kept_s = None
        beginning = asyncio.create_task(self._begin())
        await first_of(asyncio.wait({beginning}), stop.wait())
        if not beginning.done():
            beginning.cancel()
            return
        keeper, reader = beginning.result()
        self._stats.progress = self._progress
        self._stats.read_until = partial(keeper.read_until_us, reader)
        self._stats.in_flight = lambda: len(self._performers)
        async with self._group:
            keeping = self._group.create_task(keeper.keep(reader))
            aside = [
                self._group.create_task(self._bulkhead.run()),
                self._group.create_task(keeper.watch_rivals()),
                self._group.create_task(self._watch_paused()),
            ]
            if self._behind is None:
                aside.append(self._group.create_task(self._parking.watch()))
            reading = self._group.create_task(reader.run(stop))
            await first_of(asyncio.wait({reading}), stop.wait())
            await self._drain(reading)
            self._performers.cancel()
            for task in (keeping, *aside, reading):
                task.cancel()
        self._stats.kept_s = None
        await keeper.save_finally()

    async def _begin(self) -> tuple[Keeper, StreamReader]:
        """Find the stream and what is stored, asked for again until it is answered."""
        find = self._parts.find_stream
        arn, source = await self._writer.patiently(self._stats.source, find)
        keeper = self._keeper = Keeper(self._parts, self._flow, arn, lambda: self._bulkhead.behind)
        positions = await keeper.load()
        if self._behind is None:
            await self._parking.count()
        else:
            self._flow.resume_all()
        return keeper, self._reader(source, keeper, positions)

    # --- reading ------------------------------------------------------------------------------

    def _reader(
        self, source: StreamSource, keeper: Keeper, positions: Mapping[str, After | Finished]
    ) -> StreamReader:
        parts = self._parts
        take_in = partial(self._take_in, keeper)
        return StreamReader(
            source=source,
            checkpoints=positions,
            deliver=take_in,
            ended=self._flow.end,
            on_gap=keeper.on_loss,
            on_error=self._source_failed,
            on_ok=self._source_recovered,
            on_anomaly=self._report_anomaly,
            clock=parts.clock,
            sleep=parts.sleep,
            rng=parts.rng,
            limits=parts.reader_limits,
        )

    async def _take_in(self, keeper: Keeper, shard: str, page: Page) -> None:
        """Take in a page; returns when there is room for the next."""
        if self._behind is not None:
            await self._behind.gate(shard, page.records[-1].sequence)
        now_us = self._parts.clock.now_us()
        entries: list[Change | SetAside] = []
        for record in page.records:
            try:
                entries.append(self._transformer.change(record, now_us))
            except Poison as poison:
                await self._parking.record(record, poison)
                entries.append(SetAside(record.sequence))
            except Keyless as error:
                await keeper.on_keyless(shard, record.sequence, error)
                entries.append(SetAside(record.sequence))
        self._count(entries, page.records, now_us)
        keeper.note_page(shard, page.records[-1])
        sizes_bytes = map(weight, page.records)
        self._performers.take_on(self._flow.offer(shard, entries, sizes_bytes))
        await self._room()

    async def _room(self) -> None:
        """Wait until more may be read. Who catches up has no link to spare."""
        if self._filled() < HALF:
            self._bulkhead.relax()
        while self._filled() >= 1:
            self._moved.clear()
            if self._behind is None:
                await self._bulkhead.relieve(self._moved)
            else:
                await self._moved.wait()

    def _filled(self) -> float:
        """How much of what may be read and unsettled is, by the bound that is closer."""
        flow, limits = self._flow, self._limits
        records = flow.under_way / limits.unsettled_records_max
        behind = flow.unsettled / (limits.unsettled_records_max * BEHIND_PER_RECORD)
        return max(records, behind, flow.unsettled_bytes / limits.unsettled_bytes_max)

    def _count(
        self, entries: list[Change | SetAside], records: tuple[Record, ...], now_us: int
    ) -> None:
        stats = self._stats.records
        changes = [entry for entry in entries if isinstance(entry, Change)]
        natures = [change.nature for change in changes]
        local = sum(map(natures.count, LOCAL))
        ignored = sum(map(natures.count, IGNORED))
        stats.read += len(records)
        stats.local += local
        stats.ignored += ignored
        stats.echo += len(natures) - local - ignored
        is_ahead = partial(self._transformer.is_ahead, now_us=now_us)
        doubted = {change.sequence for change in changes if change.new and change.new.doubted}
        if doubted or is_ahead(max(records, key=CREATED)):
            clamped = sum(record.sequence in doubted or is_ahead(record) for record in records)
            stats.clamped += clamped
            log.warning("version.clamped", extra=self._fields(records=clamped))

    # --- performing ---------------------------------------------------------------------------

    async def _perform(self, task: Task, step_aside: StepAside) -> list[Task]:
        """Run a task to its end; returns what it has made ready."""
        try:
            if isinstance(task, DeliverTask):
                if self._stats.links[task.region].paused_since_us is not None:
                    self._held.setdefault(task.region, []).append(task)
                    return []
                delivery = await self._writer.run(task, step_aside)
                if self._parking.waits:
                    await self._parking.done(task)
                ready = self._delivered(task, delivery)
            elif isinstance(task, SettleTask):
                settlement = await self._writer.run(task, step_aside)
                if self._parking.waits:
                    await self._parking.done(task)
                ready = self._settled(task, settlement)
            else:
                await self._writer.run(task, step_aside)
                ready = self._flow.released(task)
        except Poison as poison:
            await self._parking.task(task, poison)
            ready = self._flow.parked(task)
        self._progressed()
        return ready

    def _at_once(self, task: Task) -> list[Task] | None:
        """What a task makes ready that waits for nothing; None for one that has to be performed.

        That is settling a change of a one-way table whose record tells all: most of them.
        """
        if self._settles_elsewhere or not isinstance(task, SettleTask) or self._parking.waits:
            return None
        ended = self._writer.at_once(task)
        if ended is None:
            return None
        ready = self._settled(task, *ended)
        self._progressed()
        return ready

    def _progressed(self) -> None:
        self.made_progress = True
        if not self._moved.is_set():
            self._moved.set()

    async def _watch_paused(self) -> None:
        """Take on what was held for a paused link, once it is open again."""
        while True:
            await self._parts.sleep(self._limits.pause_look_s)
            for target in tuple(self._held):
                if self._stats.links[target].paused_since_us is None:
                    self._performers.take_on(self._held.pop(target))

    def _settled(self, task: SettleTask, settlement: Settlement) -> list[Task]:
        if settlement.conflict:
            shipment, rival = settlement.shipment, settlement.rival
            self._decided(task.region, shipment, rival, won=settlement.won)
        if self._behind is not None:
            self._behind.read_again(self.targets, len(task.entry.tokens))
        elif settlement.shipment is not None:
            self._bulkhead.settled(len(task.entry.tokens))
        return self._flow.settled(task, settlement)

    def _delivered(self, task: DeliverTask, delivery: Delivery) -> list[Task]:
        link = self._stats.links[task.region]
        shipment = task.shipment
        match delivery.effect:
            case Effect.APPLIED:
                link.applied += 1
                link.removed += shipment.item is None
                now_us = self._parts.clock.now_us()
                lag_us = now_us - written_us(shipment, now_us)
                link.latency.note(lag_us / 1000 if lag_us > 0 else 0.0, now_us)
            case Effect.DUPLICATE:
                link.duplicate += 1
            case Effect.STALE | Effect.YIELDED:
                link.stale += 1
        if is_conflict(shipment, delivery) and task.note_conflict():
            self._decided(task.region, shipment, delivery.met, won=True)
        if shipment.item is not None and BEAT in shipment.item.image:
            self._heard(link, sent_us_of(shipment.item.image))
        return self._flow.delivered(task)

    def _heard(self, link: LinkStats, sent_us: int | None) -> None:
        """A heartbeat that went through the table has arrived."""
        if sent_us is not None:
            link.note_heartbeat(sent_us, self._parts.clock.now_us())
            self._stats.heartbeat_us = max(sent_us, self._stats.heartbeat_us or 0)

    def _decided(
        self, region: str, shipment: Shipment | None, rival: Item | None, *, won: bool
    ) -> None:
        """Concurrent writes were decided: counted, and noted for the ledger."""
        assert shipment is not None
        self._stats.records.conflicts += 1
        winner, loser = sides(shipment, rival, won=won)
        self._parts.note_conflict(
            Conflict(
                at_us=self._parts.clock.now_us(),
                table=self._stats.table,
                source=self._stats.source,
                region=region,
                key=shipment.key,
                winner=winner,
                loser=loser,
            )
        )

    def _drop(self, target: str) -> DeliverTask | None:
        """End what is under way to a target; returns one of it."""
        dropped = [*self._performers.drop(target), *self._held.pop(target, ())]
        return next((task for task in dropped if isinstance(task, DeliverTask)), None)

    async def _drain(self, reading: asyncio.Task[None]) -> None:
        """Let what is under way arrive, for a while; what does not is read again next time."""
        try:
            async with asyncio.timeout(self._limits.drain_s):
                await asyncio.wait({reading})
                await self._performers.wait_until_quiet()
        except TimeoutError:
            log.warning("pipeline.drain_cut", extra=self._fields(unsettled=self._flow.unsettled))

    # --- what the bulkhead asks ---------------------------------------------------------------

    def keep_held(self) -> None:
        """A link that this session does not catch up may still need held writes."""
        self._flow.keep_held(True)

    def owed(self, target: str) -> int:
        """How many records are on their way to a target."""
        return self._flow.owed[target]

    def reached_us(self, target: str) -> int | None:
        """Up to which time a target has everything, as far as is known."""
        _, oldest_us = self._flow.pending(target)
        read_us = self._stats.known_until()
        return read_us if oldest_us is None or read_us is None else min(oldest_us, read_us)

    def _read_until(self) -> int | None:
        return None if self._keeper is None else self._keeper.latest_us

    def _progress(self) -> tuple[int, int, dict[str, tuple[int, int | None]]]:
        unsettled, coalesced, pending = self._flow.progress()
        return unsettled, coalesced, self._bulkhead.pending(pending)

    # --- what the reader tells ----------------------------------------------------------------

    def _source_failed(self, shard: str | None, error: Exception) -> None:
        self._stats.readable = False
        self._stats.read_errors += 1
        self._stats.read_throttles += isinstance(error, Throttled)
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


def written_us(shipment: Shipment, now_us: int) -> int:
    """When a change was written: as its application stamped it, else as its record says.

    A record's time is rounded down, to the second on AWS. A stamp from before its record's time, or
    from ahead of the clock here, comes from a clock that tells less than the record does.
    """
    version = shipment.version
    stamped = version.kind is Kind.APPLICATION
    if stamped and shipment.created_us <= version.time_us <= now_us:
        return version.time_us
    return shipment.created_us
