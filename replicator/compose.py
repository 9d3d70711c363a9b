"""Puts one pipeline together: settings and endpoints in, a Pipeline out.

Composition only: what the parts do is theirs. The bound on the future is set here, once for the
region that is read and once for the others (`HOME_SLACK_US`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from replicator.clock import SystemClock
from replicator.control import ControlCheckpoints, ControlKeyStates
from replicator.errors import Fatal, spoken
from replicator.parts import PipelineLimits, PipelineParts, PipelineStores
from replicator.pipeline import Pipeline
from replicator.ports import Api, Clock, StreamSource
from replicator.preflight import wrong_stream
from replicator.reader import ReaderLimits
from replicator.settings import Settings
from replicator.stream import DynamoStream
from replicator.table import DynamoTable, describe_table, key_of
from replicator.telemetry import PipelineStats
from replicator.transformer import Transformer
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
        link = self.stats.links.get(region)
        if link is not None:
            link.retries += 1

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
        table=table, source=source, mode=entry.mode.value, targets=entry.targets_of(source)
    )


async def build_pipeline(
    settings: Settings, apis: Mapping[str, Api], stats: PipelineStats
) -> Pipeline:
    """The pipeline that `stats` are the figures of, over the given regions' endpoints.

    Raises: Transient or Fatal where the source's table cannot be described.
    """
    table, source = stats.table, stats.source
    entry = settings.tables[table]
    description = await describe_table(apis[source], settings.table_name(table, source))
    key_names = tuple(description.key_schema)
    clock = SystemClock()
    bound_us = int(settings.future_bound_s * 1e6)
    regions = {
        region: region_port(
            settings,
            table,
            region,
            apis[region],
            key_names,
            clock=clock,
            bound_us=bound_us + (HOME_SLACK_US if region == source else 0),
        )
        for region in entry.members
    }
    return Pipeline(
        PipelineParts(
            find_stream=partial(_find_stream, settings, table, source, apis[source]),
            transformer=Transformer(
                home=source,
                mode=entry.mode,
                marker=entry.marker,
                key_of=partial(key_of, key_names=key_names),
                ttl_deletes=entry.ttl_deletes,
                future_bound_us=bound_us + HOME_SLACK_US,
            ),
            writer=Writer(
                regions=regions,
                limits=WriterLimits(),
                observer=LinkObserver(stats),
                sleep=asyncio.sleep,
                rng=Random(),
            ),
            stores=stores(settings, apis[source], clock=clock),
            stats=stats,
            limits=PipelineLimits(unsettled_records_max=settings.writer.unsettled_records_max),
            reader_limits=ReaderLimits(
                poll_min_s=min(POLL_MIN_S, settings.reader.poll_idle_s),
                poll_idle_s=settings.reader.poll_idle_s,
                describe_interval_s=settings.reader.describe_interval_s,
            ),
            clock=clock,
            sleep=asyncio.sleep,
            rng=Random(),
        )
    )


def region_port(
    settings: Settings,
    table: str,
    region: str,
    api: Api,
    key_names: tuple[str, ...],
    *,
    clock: Clock,
    bound_us: int,
) -> RegionPort:
    """One table in one region, with its tombstones, for a writer."""
    return RegionPort(
        table=DynamoTable(
            api=api,
            name=settings.table_name(table, region),
            marker=settings.tables[table].marker,
            key_names=key_names,
            sleep=asyncio.sleep,
        ),
        states=ControlKeyStates(
            api=api,
            control_table=settings.control_table,
            table=table,
            clock=clock,
            sleep=asyncio.sleep,
            retention_s=int(settings.tombstone_days * DAY_S),
        ),
        concurrency=settings.writer.concurrency,
        limit_us=lambda: clock.now_us() + bound_us,
    )


def stores(settings: Settings, api: Api, *, clock: Clock) -> PipelineStores:
    """What a pipeline keeps in its source region's control table."""
    name = settings.control_table
    return PipelineStores(
        checkpoints=ControlCheckpoints(api=api, control_table=name, clock=clock),
        quarantine=Quarantine(api=api, control_table=name),
        gaps=Gaps(api=api, control_table=name),
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
