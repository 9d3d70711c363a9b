"""The long-lived process: every pipeline of the named source regions, and the status page.

Composition only: settings in, adapters and pipelines out. SIGTERM and SIGINT stop reading, let
what is under way arrive, and checkpoint; a second signal ends the process at once, which is safe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from replicator import __version__
from replicator.clock import SystemClock
from replicator.compose import build_pipeline, pipeline_stats
from replicator.dashboard.app import create_app, listen, serve_on
from replicator.dynamodb import Boto3Api
from replicator.errors import ReplicatorError, spoken
from replicator.mending import Mender
from replicator.ports import Api, Clock
from replicator.settings import Settings
from replicator.telemetry import PipelineState, PipelineStats, overall
from replicator.writer import first_of

log = logging.getLogger(__name__)

FORCED_EXIT_STATUS = 130
REBUILD_S = 5.0
"""Between two tries to reach a source region that was out of reach at the start."""


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
        pipeline_stats(settings, table, source)
        for table, entry in settings.tables.items()
        for source in entry.sources
        if source in sources
    ]
    snapshot = _snapshot(pipelines, SystemClock())
    log.info("run.started", extra={"pipelines": len(pipelines), "port": port})
    async with asyncio.TaskGroup() as group:
        server_stop = asyncio.Event()
        group.create_task(serve_on(create_app(snapshot), listener, server_stop))
        async with asyncio.TaskGroup() as working:
            for stats in pipelines:
                working.create_task(_replicate(settings, apis, stats, stop))
            if settings.mending.enabled:
                mender = Mender(settings=settings, apis=apis, pipelines=pipelines)
                working.create_task(mender.run(stop))
        server_stop.set()
    log.info("run.stopped", extra={"pipelines": len(pipelines)})
    return 0


async def _replicate(
    settings: Settings, apis: Mapping[str, Api], stats: PipelineStats, stop: asyncio.Event
) -> None:
    """Build a pipeline, as soon as its source can be reached, and run it until `stop`."""
    while not stop.is_set():
        try:
            pipeline = await build_pipeline(settings, apis, stats)
        except ReplicatorError as error:
            stats.state, stats.session_error = PipelineState.RETRYING, spoken(error)
            fields = {"table": stats.table, "region": stats.source, "error": spoken(error)}
            log.error("pipeline.unreachable", extra=fields)  # noqa: TRY400 - said in one line
            await first_of(asyncio.sleep(REBUILD_S), stop.wait())
        else:
            await pipeline.run(stop)


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


def _snapshot(pipelines: list[PipelineStats], clock: Clock) -> Callable[[], dict[str, Any]]:
    started_us = clock.now_us()

    def snapshot() -> dict[str, Any]:
        now_us = clock.now_us()
        documents = [stats.snapshot(now_us) for stats in pipelines]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_us": started_us,
            "now_us": now_us,
            "state": overall(documents),
            "pipelines": documents,
        }

    return snapshot
