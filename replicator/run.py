"""The long-lived process: every pipeline of the named source regions, and the status page.

Composition only: settings in, adapters and pipelines out. SIGTERM and SIGINT stop reading, let
what is under way arrive, and checkpoint; a second signal ends the process at once, which is safe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from replicator import __version__
from replicator.control import ControlCheckpoints, ControlKeyStates
from replicator.dashboard.app import create_app, listen, serve_on
from replicator.dynamodb import Boto3Api
from replicator.errors import Fatal, spoken
from replicator.pipeline import Pipeline, PipelineLimits, PipelineParts, PipelineStores
from replicator.ports import Api, StreamSource
from replicator.reader import ReaderLimits
from replicator.settings import Settings
from replicator.stream import DynamoStream
from replicator.table import DynamoTable, describe_table, key_of
from replicator.telemetry import PipelineStats, overall
from replicator.transformer import Transformer
from replicator.waiting import Gaps, Quarantine
from replicator.writer import RegionPort, Writer, WriterLimits

log = logging.getLogger(__name__)

DAY_S = 86_400
FORCED_EXIT_STATUS = 130
POLL_MIN_S = 0.1
"""The shortest time between two reads of a busy shard."""


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class LinkObserver:
    """Writes down how calls to the regions fare, in the figures of one pipeline."""

    stats: PipelineStats

    def failed(self, region: str, error: Exception) -> None:
        link = self.stats.links.get(region)
        if link is None:
            self.stats.error = spoken(error)
            return
        if link.error is None:
            fields = {"table": self.stats.table, "region": region, "error": spoken(error)}
            log.warning("link.failing", extra=fields)
        link.retries += 1
        link.error = spoken(error)

    def recovered(self, region: str) -> None:
        link = self.stats.links.get(region)
        if link is not None and link.error is not None:
            link.error = None
            log.info("link.recovered", extra={"table": self.stats.table, "region": region})


def run_service(settings: Settings, sources: frozenset[str], port: int | None) -> int:
    """Replicate out of the named regions until a signal says stop; returns the exit status."""
    with ExitStack() as opened:
        apis = _open_regions(settings, sources, opened)
        return asyncio.run(_run(settings, sources, apis, port or settings.http.port))


def _open_regions(settings: Settings, sources: frozenset[str], opened: ExitStack) -> dict[str, Api]:
    apis: dict[str, Api] = {}
    tables = [table for table in settings.tables.values() if sources & set(table.sources)]
    for name in dict.fromkeys(region for table in tables for region in table.members):
        region = settings.regions[name]
        api = Boto3Api.open(
            region=region.aws_region,
            endpoint_url=region.endpoint_url,
            profile=region.profile,
            role_arn=region.role_arn,
            threads=settings.writer.concurrency,
        )
        opened.callback(api.close)
        apis[name] = api
    return apis


async def _run(
    settings: Settings, sources: frozenset[str], apis: Mapping[str, Api], port: int
) -> int:
    stop = _stop_on_signals()
    listener = listen(settings.http.host, port)
    pipelines = [
        await build_pipeline(settings, table, source, apis)
        for table, entry in settings.tables.items()
        for source in entry.sources
        if source in sources
    ]
    snapshot = _snapshot(pipelines, SystemClock())
    log.info("run.started", extra={"pipelines": len(pipelines), "port": port})
    async with asyncio.TaskGroup() as group:
        server_stop = asyncio.Event()
        group.create_task(serve_on(create_app(snapshot), listener, server_stop))
        await _until_stopped(pipelines, stop)
        server_stop.set()
    log.info("run.stopped", extra={"pipelines": len(pipelines)})
    return 0


async def _until_stopped(pipelines: list[Pipeline], stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        for pipeline in pipelines:
            group.create_task(pipeline.run(stop))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(FORCED_EXIT_STATUS)
        log.info("run.stopping")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _snapshot(pipelines: list[Pipeline], clock: SystemClock) -> Callable[[], dict[str, Any]]:
    started_us = clock.now_us()

    def snapshot() -> dict[str, Any]:
        now_us = clock.now_us()
        documents = [pipeline.stats.snapshot(now_us) for pipeline in pipelines]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_us": started_us,
            "now_us": now_us,
            "state": overall(documents),
            "pipelines": documents,
        }

    return snapshot


# --- one pipeline -------------------------------------------------------------------------------


async def build_pipeline(
    settings: Settings, table: str, source: str, apis: Mapping[str, Api]
) -> Pipeline:
    """The pipeline of one table and source region, over the given regions' endpoints."""
    entry = settings.tables[table]
    description = await describe_table(apis[source], settings.table_name(table, source))
    key_names = tuple(description.key_schema)
    stats = PipelineStats(
        table=table, source=source, mode=entry.mode.value, targets=entry.targets_of(source)
    )
    clock = SystemClock()
    regions = {
        region: _region_port(settings, table, region, apis[region], key_names, clock)
        for region in entry.members
    }
    writer = Writer(
        regions=regions,
        limits=WriterLimits(concurrency=settings.writer.concurrency),
        observer=LinkObserver(stats),
        sleep=asyncio.sleep,
        rng=Random(),
    )
    return Pipeline(
        PipelineParts(
            find_stream=partial(_find_stream, apis[source], settings.table_name(table, source)),
            transformer=Transformer(
                home=source,
                mode=entry.mode,
                marker=entry.marker,
                key_of=partial(key_of, key_names=key_names),
                ttl_deletes=entry.ttl_deletes,
                future_bound_us=int(settings.future_bound_s * 1e6),
            ),
            writer=writer,
            stores=_stores(settings, apis[source], clock),
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


def _region_port(
    settings: Settings,
    table: str,
    region: str,
    api: Api,
    key_names: tuple[str, ...],
    clock: SystemClock,
) -> RegionPort:
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
    )


def _stores(settings: Settings, api: Api, clock: SystemClock) -> PipelineStores:
    name = settings.control_table
    return PipelineStores(
        checkpoints=ControlCheckpoints(api=api, control_table=name, clock=clock),
        quarantine=Quarantine(api=api, control_table=name),
        gaps=Gaps(api=api, control_table=name),
    )


async def _find_stream(api: Api, table: str) -> tuple[str, StreamSource]:
    description = await describe_table(api, table)
    if description.stream_arn is None:
        raise Fatal(f"table {table} has no stream; run `replicator setup`")
    return description.stream_arn, DynamoStream(api=api, arn=description.stream_arn)
