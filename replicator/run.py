"""The long-lived process: every pipeline of the named source regions, and the status page.

Composition only: settings in, adapters and pipelines out. SIGTERM and SIGINT stop reading, let
what is under way arrive, and checkpoint; a second signal ends the process at once, which is safe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.applications import Starlette

from replicator import __version__, loop
from replicator.clock import SystemClock
from replicator.compose import build_pipeline, heart, ledger, paces_of, pipeline_stats
from replicator.dashboard.access import Access
from replicator.dashboard.app import create_app
from replicator.dashboard.serving import listen, serve_shared
from replicator.dashboard.switch import LocalSwitch
from replicator.errors import ReplicatorError, spoken
from replicator.exporting import Metrics, Push, otlp_pusher
from replicator.handover.across import Noter
from replicator.ledger import Conflict, Ledger, newest_conflicts
from replicator.mending import Mender
from replicator.pace import Paces
from replicator.parts import unnoted
from replicator.plane import open_region
from replicator.ports import Api, Clock
from replicator.process_metrics import ProcessMetrics, write_by_thread
from replicator.settings import Settings
from replicator.telemetry import (
    PipelineState,
    PipelineStats,
    exposure_by_region,
    overall,
)
from replicator.watchdog import Watchdog
from replicator.writer import first_of

log = logging.getLogger(__name__)

FORCED_EXIT_STATUS = 130
REBUILD_S = 5.0
"""Between two tries to reach a source region that was out of reach at the start."""


def run_service(settings: Settings, sources: frozenset[str], port: int | None) -> int:
    """Replicate out of the named regions until a signal says stop; returns the exit status."""
    with ExitStack() as opened:
        apis = _open_regions(settings, sources, opened)
        return loop.run(_run(settings, sources, apis, port or settings.http.port))


def _open_regions(settings: Settings, sources: frozenset[str], opened: ExitStack) -> dict[str, Api]:
    apis: dict[str, Api] = {}
    tables = [table for table in settings.tables.values() if sources & set(table.sources)]
    for name in dict.fromkeys(region for table in tables for region in table.members):
        api = open_region(settings, name)
        opened.callback(api.close)
        apis[name] = api
    return apis


async def _run(
    settings: Settings, sources: frozenset[str], apis: Mapping[str, Api], port: int
) -> int:
    asyncio.get_running_loop().set_exception_handler(_told)
    stop = _stop_on_signals()
    listener = listen(settings.http.host, port)
    pipelines = [
        pipeline_stats(settings, table, source)
        for table, entry in settings.tables.items()
        for source in entry.sources
        if source in sources
    ]
    ledgers = {region: ledger(settings, region, apis[region]) for region in sorted(sources)}
    snapshot = _snapshot(pipelines, ledgers, SystemClock())
    metrics = Metrics(document=snapshot, pipelines=pipelines, instance=f"{os.getpid()}")
    push = _push(settings, metrics)
    printing = _printing(settings, snapshot, pipelines)
    access = Access(host=settings.http.host, names=settings.http.names, token=settings.http.secret)
    app = create_app(
        lambda: {**snapshot(), "telemetry": {"otlp": push and push.document}},
        access=access,
        conflicts=partial(newest_conflicts, ledgers, pipelines),
        metrics=metrics.prometheus,
        switch=LocalSwitch(settings=settings, apis=apis, access=access, clock=SystemClock()),
    )
    log.info("run.started", extra={"pipelines": len(pipelines), "port": port})
    async with asyncio.TaskGroup() as group:
        server_stop = asyncio.Event()
        group.create_task(_serve_page(app, listener, server_stop))
        if printing is not None:  # till the end, so that what is counted while draining is told
            group.create_task(beside("emf", printing.run, server_stop))
        await _work(settings, apis, pipelines, ledgers, push, stop)
        for each in ledgers.values():  # the last decisions were made while pipelines drained
            await each.write_rest()
        server_stop.set()
    log.info("run.stopped", extra={"pipelines": len(pipelines)})
    return 0


async def _work(
    settings: Settings,
    apis: Mapping[str, Api],
    pipelines: Sequence[PipelineStats],
    ledgers: Mapping[str, Ledger],
    push: Push | None,
    stop: asyncio.Event,
) -> None:
    """The pipelines and what runs beside them, until `stop` and all is drained."""
    paces = paces_of(settings)
    async with asyncio.TaskGroup() as working:
        tasks: dict[int, asyncio.Task[None]] = {}
        for index, stats in enumerate(pipelines):
            note = ledgers[stats.source].note
            replicating = _replicate(settings, apis, stats, stop, note, paces)
            tasks[index] = working.create_task(replicating)
        watchdog = Watchdog(
            pipelines=pipelines,
            tasks=lambda: tasks,
            clock=SystemClock(),
            sleep=asyncio.sleep,
        )
        working.create_task(watchdog.run(stop))
        for each in ledgers.values():
            working.create_task(beside("ledger", each.run, stop))
        if push is not None:
            working.create_task(beside("otlp", push.run, stop))
        for beating in (heart(settings, apis, stats) for stats in pipelines):
            if beating is not None:
                working.create_task(beside("heartbeat", beating.run, stop))
        if settings.mending.enabled:
            mender = Mender(settings=settings, apis=apis, pipelines=pipelines)
            working.create_task(beside("mending", mender.run, stop))
        noter = Noter(
            apis=apis,
            control_table=settings.control_table,
            pipelines=pipelines,
            clock=SystemClock(),
            sleep=asyncio.sleep,
        )
        working.create_task(noter.run(stop))


async def _replicate(
    settings: Settings,
    apis: Mapping[str, Api],
    stats: PipelineStats,
    stop: asyncio.Event,
    note_conflict: Callable[[Conflict], None] = unnoted,
    paces: Paces | None = None,
) -> None:
    """Build a pipeline, as soon as its source can be reached, and run it until `stop`."""
    while not stop.is_set():
        try:
            pipeline = await build_pipeline(settings, apis, stats, note_conflict, paces)
        except ReplicatorError as error:
            stats.state, stats.session_error = PipelineState.RETRYING, spoken(error)
            fields = {"table": stats.table, "region": stats.source, "error": spoken(error)}
            log.error("pipeline.unreachable", extra=fields)  # noqa: TRY400 - said in one line
            await first_of(asyncio.sleep(REBUILD_S), stop.wait())
        else:
            await pipeline.run(stop)


def _told(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited has failed: told by its type, for its words may quote an item."""
    error = context.get("exception")
    log.error("loop.failed", extra={"error": spoken(error) if error else context["message"]})


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(FORCED_EXIT_STATUS)
        log.info("run.stopping")
        stop.set()

    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, on_signal)
    return stop


def _push(settings: Settings, metrics: Metrics) -> Push | None:
    """The push of metrics that the settings ask for."""
    telemetry = settings.telemetry
    if telemetry.otlp_endpoint is None:
        return None
    return Push(
        metrics=metrics,
        pusher=partial(otlp_pusher, telemetry.otlp_endpoint),
        endpoint=telemetry.otlp_endpoint,
        interval_s=telemetry.otlp_interval_s,
        sleep=asyncio.sleep,
    )


def _printing(
    settings: Settings,
    document: Callable[[], Mapping[str, Any]],
    pipelines: Sequence[PipelineStats],
) -> ProcessMetrics | None:
    """The metrics on standard output, if the settings ask for them."""
    if not settings.telemetry.emf:
        return None
    if sys.__stdout__ is None:  # closed from the start: its number may be any file's by now
        log.error("emf.failing", extra={"error": "standard output is closed"})
        return None
    return ProcessMetrics(
        document=document,
        pipelines=pipelines,
        interval_s=settings.telemetry.emf_interval_s,
        write=partial(write_by_thread, sys.__stdout__.fileno()),
        sleep=asyncio.sleep,
    )


async def _serve_page(app: Starlette, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve the page until told to stop; whatever becomes of it, replication goes on."""
    with listener:
        await beside("page", partial(serve_shared, app, listener), stop)


async def beside(
    what: str, work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Keep something going that replication does not depend on, and that must not end it."""
    while not stop.is_set():
        try:
            await work(stop)
        except Exception as error:  # noqa: BLE001 - reported, and begun again
            log.error("beside.failed", extra={"what": what, "error": spoken(error)})  # noqa: TRY400
            await first_of(asyncio.sleep(REBUILD_S), stop.wait())


def _snapshot(
    pipelines: list[PipelineStats], ledgers: Mapping[str, Ledger], clock: Clock
) -> Callable[[], dict[str, Any]]:
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
            "exposure": exposure_by_region(documents),
            "ledger": {region: asdict(each.stats) for region, each in ledgers.items()},
            "pipelines": documents,
        }

    return snapshot
