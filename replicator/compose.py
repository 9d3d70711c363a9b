"""Puts one pipeline together: settings and endpoints in, a Pipeline out.

Composition only: what the parts do is theirs. The bound on the future is set here, once for the
region that is read and once for the others (`HOME_SLACK_US`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from replicator.clock import SystemClock
from replicator.control import ControlTable
from replicator.errors import Fatal, Throttled, spoken
from replicator.handover.active import Fence, FencedStates, FencedTable, Handovers
from replicator.heartbeats import ControlRow, Heart, Place, TableItem
from replicator.key_states import ControlKeyStates
from replicator.ledger import Conflict, Ledger, Secret
from replicator.pace import Pace, PacedTable, Paces
from replicator.parts import PipelineLimits, PipelineParts, PipelineStores, unnoted
from replicator.pausing import ControlPauses
from replicator.pipeline import Pipeline
from replicator.ports import Api, Clock, KeyStates, StreamSource, Table
from replicator.positions import AT_HOME, ControlCheckpoints, ControlPositions
from replicator.preflight import wrong_stream
from replicator.presence import Presence, instance_name
from replicator.reader import ReaderLimits
from replicator.records import HeartbeatPlace, Mode
from replicator.settings import Settings
from replicator.stream import DynamoStream
from replicator.table import DynamoTable, ViewedTable, describe_table, key_of
from replicator.telemetry import PipelineStats
from replicator.transformer import Transformer
from replicator.view import wrong_view
from replicator.waiting import Gaps, Quarantine
from replicator.writer import RegionPort, Writer, WriterLimits

log = logging.getLogger(__name__)

DAY_S = 86_400
POLL_MIN_S = 0.1
"""The shortest time between two reads of a busy shard."""

HOME_SLACK_US = 10_000_000
"""How much further ahead a stamp is believed by its own region's replicator than by the others.

A stamp that another region's replicator believes must not be overruled at home: its clock may be
ahead by this much. The way round does no harm, since what home has believed arrives elsewhere as a
replicator's write.
"""


@dataclass(frozen=True, slots=True)
class LinkObserver:
    """Writes down how calls to the regions fare, in the figures of one pipeline."""

    stats: PipelineStats

    def failed(self, region: str, error: Exception) -> None:
        if self._error(region) is None:
            log.warning("region.failing", extra=self._fields(region, error))
        self._set_error(region, spoken(error))
        throttled = isinstance(error, Throttled)
        link = self.stats.links.get(region)
        if link is None:
            self.stats.home_retries += 1
            self.stats.home_throttles += throttled
        else:
            link.retries += 1
            link.throttles += throttled

    def recovered(self, region: str) -> None:
        if self._error(region) is not None and not self._stuck(region):
            self._set_error(region, None)
            log.info("region.recovered", extra=self._fields(region))

    def stuck(self, region: str, error: Exception, *, first: bool) -> None:
        if first and not self._stuck(region):
            log.error("task.stuck", extra=self._fields(region, error))
        self._count_stuck(region, 1 if first else 0)
        self._set_error(region, spoken(error))

    def freed(self, region: str) -> None:
        self._count_stuck(region, -1)
        if not self._stuck(region):
            self._set_error(region, None)
            log.info("task.freed", extra=self._fields(region))

    def _error(self, region: str) -> str | None:
        link = self.stats.links.get(region)
        return self.stats.home_error if link is None else link.error

    def _set_error(self, region: str, text: str | None) -> None:
        link = self.stats.links.get(region)
        if link is None:
            self.stats.home_error = text
        else:
            link.error = text

    def _stuck(self, region: str) -> int:
        link = self.stats.links.get(region)
        return self.stats.stuck_at_home if link is None else link.stuck

    def _count_stuck(self, region: str, change: int) -> None:
        link = self.stats.links.get(region)
        if link is None:
            self.stats.stuck_at_home += change
        else:
            link.stuck += change

    def _fields(self, region: str, error: Exception | None = None) -> dict[str, object]:
        fields: dict[str, object] = {"table": self.stats.table, "region": region}
        return fields if error is None else {**fields, "error": spoken(error)}


def pipeline_stats(settings: Settings, table: str, source: str) -> PipelineStats:
    """The figures of a pipeline that is yet to be built."""
    entry = settings.tables[table]
    return PipelineStats(
        table=table,
        source=source,
        mode=entry.mode.value,
        targets=entry.targets_of(source),
        lagging_after_s=settings.telemetry.lagging_after_s,
    )


def paces_of(settings: Settings) -> Paces:
    """The paces that all pipelines of a process share."""
    rates = {name: table.write_rate for name, table in settings.tables.items()}
    return Paces(rates=rates, clock=SystemClock(), sleep=asyncio.sleep)


async def build_pipeline(
    settings: Settings,
    apis: Mapping[str, Api],
    stats: PipelineStats,
    note_conflict: Callable[[Conflict], None] = unnoted,
    paces: Paces | None = None,
) -> Pipeline:
    """The pipeline that `stats` are the figures of, over the given regions' endpoints.

    Raises: Transient or Fatal where the source's table cannot be described.
    """
    table, source = stats.table, stats.source
    entry = settings.tables[table]
    description = await describe_table(apis[source], settings.table_name(table, source))
    key_names = tuple(description.key_schema)
    if wrong := wrong_view(entry.view, entry.mode, entry.marker, key_names):
        raise Fatal(f"table {table}: {wrong}")
    clock = SystemClock()
    regions = _region_ports(settings, stats, apis, key_names, clock, paces or paces_of(settings))
    return Pipeline(
        PipelineParts(
            find_stream=partial(_find_stream, settings, table, source, apis[source]),
            transformer=Transformer(
                home=source,
                mode=entry.mode,
                marker=entry.marker,
                key_of=partial(key_of, key_names=key_names),
                ttl_deletes=entry.ttl_deletes,
                future_bound_us=_bound_us(settings) + HOME_SLACK_US,
                view=entry.view,
            ),
            writer=Writer(
                regions=regions,
                limits=WriterLimits(),
                observer=LinkObserver(stats),
                sleep=asyncio.sleep,
                rng=Random(),
            ),
            stores=replace(
                stores(settings, apis[source], clock=clock),
                presence=Presence(
                    api=apis[source],
                    control_table=settings.control_table,
                    instance=instance_name(),
                ),
            ),
            stats=stats,
            limits=PipelineLimits(
                unsettled_records_max=settings.writer.unsettled_records_max,
                performers_max=settings.writer.concurrency,
                unsettled_bytes_max=settings.writer.unsettled_bytes_max,
            ),
            reader_limits=ReaderLimits(
                poll_min_s=min(POLL_MIN_S, settings.reader.poll_idle_s),
                poll_idle_s=settings.reader.poll_idle_s,
                describe_interval_s=settings.reader.describe_interval_s,
            ),
            clock=clock,
            sleep=asyncio.sleep,
            rng=Random(),
            note_conflict=note_conflict,
        )
    )


def _region_ports(
    settings: Settings,
    stats: PipelineStats,
    apis: Mapping[str, Api],
    key_names: tuple[str, ...],
    clock: Clock,
    paces: Paces,
) -> dict[str, RegionPort]:
    table, source = stats.table, stats.source
    return {
        region: region_port(
            settings,
            table,
            region,
            apis[region],
            key_names,
            clock=clock,
            bound_us=_bound_us(settings) + (HOME_SLACK_US if region == source else 0),
            fence=fence_of(settings, table, source, region, apis[region]),
            pace=paces.of(table, region),
        )
        for region in settings.tables[table].members
    }


def _bound_us(settings: Settings) -> int:
    return int(settings.future_bound_s * 1e6)


def region_port(
    settings: Settings,
    table: str,
    region: str,
    api: Api,
    key_names: tuple[str, ...],
    *,
    clock: Clock,
    bound_us: int,
    fence: Fence | None = None,
    pace: Pace | None = None,
) -> RegionPort:
    """One table in one region, with its tombstones, for a writer; behind a fence if there is one.

    Reads pass a fence. What it holds off is the writes of a source that is the source no more.
    """
    data = table_port(settings, table, region, api, key_names)
    states: KeyStates = ControlKeyStates(
        api=api,
        control_table=settings.control_table,
        table=table,
        clock=clock,
        sleep=asyncio.sleep,
        retention_s=int(settings.tombstone_days * DAY_S),
    )
    if fence is not None:  # within the pace, so that nothing waits between the look and the write
        data, states = FencedTable(data, fence), FencedStates(states, fence)
    if pace is not None:
        data = PacedTable(data, pace)
    return RegionPort(
        table=data,
        states=states,
        concurrency=settings.writer.concurrency,
        limit_us=lambda: clock.now_us() + bound_us,
    )


def fence_of(settings: Settings, table: str, source: str, region: str, api: Api) -> Fence | None:
    """What holds off the writes of a source of a one-way table that is the source no more."""
    if settings.tables[table].mode is not Mode.ONE_WAY or region == source:
        return None
    rows = Handovers(api=api, control_table=settings.control_table, sleep=asyncio.sleep)
    return Fence(table=table, source=source, rows=rows, clock=SystemClock())


def table_port(
    settings: Settings, table: str, region: str, api: Api, key_names: tuple[str, ...]
) -> Table:
    """One table in one region; the source of a one-way table as its copies see it."""
    entry = settings.tables[table]
    port = DynamoTable(
        api=api,
        name=settings.table_name(table, region),
        marker=entry.marker,
        key_names=key_names,
        sleep=asyncio.sleep,
    )
    return port if region != entry.source or entry.view.is_whole else ViewedTable(port, entry.view)


def stores(settings: Settings, api: Api, *, clock: Clock) -> PipelineStores:
    """What a pipeline keeps in its source region's control table."""
    name = settings.control_table
    return PipelineStores(
        checkpoints=ControlCheckpoints(api=api, control_table=name, clock=clock),
        at_home=ControlPositions(api=api, control_table=name, clock=clock, kind=AT_HOME),
        quarantine=Quarantine(api=api, control_table=name),
        gaps=Gaps(api=api, control_table=name),
        pauses=ControlPauses(api=api, control_table=name),
    )


def ledger(settings: Settings, source: str, api: Api) -> Ledger:
    """The ledger of the conflicts that the pipelines of one source decide."""
    control = ControlTable(api=api, name=settings.control_table)
    given = settings.conflicts.digest_key
    return Ledger(
        region=source,
        control=control,
        secret=Secret(control, given.get_secret_value() if given else None),
        clock=SystemClock(),
        sleep=asyncio.sleep,
        keys=settings.conflicts.keys,
        images=settings.conflicts.images,
    )


def heart(settings: Settings, apis: Mapping[str, Api], stats: PipelineStats) -> Heart | None:
    """The heartbeats of a pipeline; None where the settings want none."""
    table, source, wanted = stats.table, stats.source, settings.heartbeat
    if wanted.place is HeartbeatPlace.OFF:
        return None

    def row(region: str) -> ControlRow:
        control = ControlTable(api=apis[region], name=settings.control_table)
        return ControlRow(control=control, table=table, source=source)

    place: Place = row(source)
    entry = settings.tables[table]
    in_table = entry.mode is Mode.MULTI_WRITER and entry.view.is_whole  # a filter would keep it out
    if wanted.place is HeartbeatPlace.TABLE and in_table:
        place = TableItem(
            api=apis[source],
            name=settings.table_name(table, source),
            source=source,
            marker=settings.tables[table].marker,
        )
    return Heart(
        stats=stats,
        place=place,
        arrivals={target: row(target) for target in stats.targets},
        interval_s=wanted.interval_s,
        clock=SystemClock(),
        sleep=asyncio.sleep,
    )


async def _find_stream(
    settings: Settings, table: str, source: str, api: Api
) -> tuple[str, StreamSource]:
    """The table's present stream. Raises: Fatal for none, or one that cannot serve the mode."""
    description = await describe_table(api, settings.table_name(table, source))
    wrong = wrong_stream(settings.tables[table].mode, description)
    if wrong or description.stream_arn is None:
        raise Fatal(f"table {table} in {source}: {wrong or 'has no stream; run replicator setup'}")
    return description.stream_arn, DynamoStream(api=api, arn=description.stream_arn)
