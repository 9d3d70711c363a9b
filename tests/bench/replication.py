"""The replicator as it ships, put together in this process and run until it has caught up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.answers import TABLE
from replicator import loop
from replicator.compose import build_pipeline, pipeline_stats
from replicator.plane import RegionApi, open_region
from replicator.ports import Api
from replicator.records import Mode
from replicator.settings import (
    ClientPlane,
    ClientSettings,
    ReaderSettings,
    RegionSettings,
    Settings,
    TableSettings,
    WriterSettings,
)

HOME, AWAY = "us-east-1", "eu-west-1"
LOOK_EVERY_S = 0.02


def settings_for(
    mode: Mode,
    url: str,
    *,
    concurrency: int = 256,
    table_name: str = TABLE,
    control_table: str = "replicator-control",
    poll_idle_s: float = 0.01,
    plane: ClientPlane = ClientPlane.LEAN,
    aws_regions: tuple[str, str] = (HOME, AWAY),
) -> Settings:
    """One table from HOME to AWAY, both behind one endpoint, which knows them as `aws_regions`."""
    table = (
        TableSettings(source=HOME, targets=(AWAY,))
        if mode is Mode.ONE_WAY
        else TableSettings(regions=(HOME, AWAY))
    )
    return Settings(
        regions={
            name: RegionSettings(aws_region=aws_region, endpoint_url=url)
            for name, aws_region in zip((HOME, AWAY), aws_regions, strict=True)
        },
        tables={table_name: table},
        control_table=control_table,
        client=ClientSettings(plane=plane),
        reader=ReaderSettings(poll_idle_s=poll_idle_s),
        writer=WriterSettings(concurrency=concurrency),
    )


def open_api(region: str, url: str, *, concurrency: int = 32) -> RegionApi:
    """One region's API, as `run` opens it."""
    return open_region(settings_for(Mode.ONE_WAY, url, concurrency=concurrency), region)


@contextmanager
def opened(settings: Settings) -> Iterator[dict[str, RegionApi]]:
    """The API of each region, as `run` opens it: once in the life of a process."""
    with ExitStack() as stack:
        apis = {name: open_region(settings, name) for name in settings.regions}
        for api in apis.values():
            stack.callback(api.close)
        yield apis


@contextmanager
def replicating(settings: Settings, records: int) -> Iterator[Callable[[], int]]:
    """Work that replicates until so many `records` are settled; it counts them."""
    with opened(settings) as apis:

        def work() -> int:
            loop.run(replicate(settings, apis, records))
            return records

        yield work


async def replicate(
    settings: Settings,
    apis: Mapping[str, Api],
    records: int,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the pipeline from HOME until `records` were read and all of them are settled.

    `meanwhile` is run once the stream is being read.
    """
    (table,) = settings.tables
    stats = pipeline_stats(settings, table, HOME)
    pipeline = await build_pipeline(settings, apis, stats)
    stop = asyncio.Event()
    running = asyncio.create_task(pipeline.run(stop))
    if meanwhile is not None:
        while not stats.caught_up:  # noqa: ASYNC110 - figures tell no event
            await asyncio.sleep(LOOK_EVERY_S)
        await meanwhile()
    while stats.records.read < records or stats.progress is None or stats.progress()[0]:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY_S)
    stop.set()
    await running
