"""Puts a comparison together: settings and endpoints in, a Comparison out. Composition only."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from conflict.operations import Key
from conflict.repair import Holding, Verdict, compare, compare_one_way
from replicator.backfill.units import item_bytes, write_units
from replicator.compose import fence_of, region_port, stores
from replicator.errors import ConfigurationError, Replaced, ReplicatorError
from replicator.handover.active import Fence
from replicator.keeper import RETENTION_US
from replicator.ports import Api, Clock
from replicator.preflight import (
    ANSWER_WITHIN_S,
    control_subject,
    described,
    remedy,
    table_subject,
)
from replicator.rate import Bucket, Budget
from replicator.records import Mode
from replicator.requests import TableRequests
from replicator.settings import Settings
from replicator.verify.candidates import Judge, Pay
from replicator.verify.comparison import Comparison, ComparisonLimits
from replicator.verify.reading import Reading, ReadingHere
from replicator.verify.scan import SEGMENTS, Scanner
from replicator.view import WHOLE, View, wrong_view
from replicator.writer import Observer, Writer, WriterLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What was asked for. `regions`: all of the table's where left out."""

    table: str
    regions: tuple[str, ...] | None = None
    authority: str | None = None
    repair: bool = False
    sample: float = 1.0
    settle_s: float = 3.0
    read_units_per_s: float | None = None
    write_units_per_s: float | None = None
    """Of repairs, in each region."""
    workers: int | None = None
    scheduler: str | None = None
    """Of a cluster that reads; without either this process does."""


def comparison_of(
    settings: Settings,
    options: VerifyOptions,
    *,
    apis: Mapping[str, Api],
    key_names: tuple[str, ...],
    clock: Clock,
    observer: Observer,
    lost: Collection[str] = (),
    segments: int = SEGMENTS,
    reading: Reading | None = None,
) -> Comparison:
    """The comparison of a table's regions, over their endpoints. `lost`: see `regions_of_loss`.
    `reading`: in place of one by this process, in `segments` of each region.

    A repair out of a source that was replaced is refused before anything is read.
    """
    fences = _fences(settings, options.table, apis)
    writer = writer_of(
        settings, options.table, apis, key_names, clock=clock, observer=observer, fences=fences
    )
    if reading is None:
        rate = options.read_units_per_s
        scanners = {
            region: scanner_of(
                settings,
                options.table,
                region,
                api,
                key_names,
                writer=writer,
                budget=Bucket(rate, monotonic_s=clock.monotonic_s, sleep=asyncio.sleep),
                segments=segments,
            )
            for region, api in apis.items()
        }
        reading = ReadingHere(scanners)
    return Comparison(
        reading=reading,
        writer=writer,
        judge=_judge(settings, options, lost),
        limits=ComparisonLimits(settle_s=options.settle_s, sample=options.sample),
        sleep=asyncio.sleep,
        pay=_payer(options, apis, clock) if options.repair else None,
        admit=partial(_admit, fences, writer) if options.repair else None,
    )


def writer_of(
    settings: Settings,
    table: str,
    apis: Mapping[str, Api],
    key_names: tuple[str, ...],
    *,
    clock: Clock,
    observer: Observer,
    fences: Mapping[str, Fence],
) -> Writer:
    """What makes the calls to some regions, again until they are answered."""
    return Writer(
        regions={
            region: region_port(
                settings,
                table,
                region,
                api,
                key_names,
                clock=clock,
                bound_us=int(settings.future_bound_s * 1e6),
                fence=fences.get(region),
            )
            for region, api in apis.items()
        },
        limits=WriterLimits(),
        observer=observer,
        sleep=asyncio.sleep,
        rng=Random(),
    )


def scanner_of(
    settings: Settings,
    table: str,
    region: str,
    api: Api,
    key_names: tuple[str, ...],
    *,
    writer: Writer,
    budget: Budget,
    segments: int,
) -> Scanner:
    """What reads a table in one region, in so many segments."""
    return Scanner(
        region=region,
        api=api,
        requests=TableRequests(
            table=settings.table_name(table, region),
            marker=settings.tables[table].marker,
            key_names=key_names,
        ),
        writer=writer,
        budget=budget,
        segments=segments,
        view=view_of_scan(settings, table, region),
    )


def _fences(settings: Settings, table: str, apis: Mapping[str, Api]) -> dict[str, Fence]:
    """What stands before the targets of a one-way table."""
    source = settings.tables[table].sources[0]
    found = {region: fence_of(settings, table, source, region, apis[region]) for region in apis}
    return {region: fence for region, fence in found.items() if fence is not None}


async def _admit(fences: Mapping[str, Fence], writer: Writer) -> None:
    for region, fence in fences.items():
        try:
            await writer.patiently(region, fence.check)
        except Replaced as error:
            raise ConfigurationError(str(error)) from None


async def regions_of_loss(
    settings: Settings, table: str, apis: Mapping[str, Api], clock: Clock
) -> frozenset[str]:
    """The regions whose stream has lost records of the table: a gap is stored, or nobody has read
    it for longer than it holds."""
    sources = [region for region in settings.tables[table].sources if region in apis]
    losses = await asyncio.gather(
        *(_has_lost(settings, table, region, apis[region], clock) for region in sources)
    )
    return frozenset(region for region, lost in zip(sources, losses, strict=True) if lost)


async def _has_lost(settings: Settings, table: str, source: str, api: Api, clock: Clock) -> bool:
    kept = stores(settings, api, clock=clock)
    if await kept.gaps.load(table, source):
        return True
    read_us = await kept.checkpoints.last_read(table, source)
    return read_us is not None and clock.now_us() - read_us > RETENTION_US


async def key_names_of(settings: Settings, table: str, apis: Mapping[str, Api]) -> tuple[str, ...]:
    """The key attributes of a table. Raises: ConfigurationError where a region is not ready."""
    answers = await asyncio.gather(
        *(_key_schema(settings, table, region, api) for region, api in apis.items())
    )
    wrong = [answer for answer in answers if isinstance(answer, str)]
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    schemas = [answer for answer in answers if not isinstance(answer, str)]
    for region, schema in zip(apis, schemas, strict=True):
        if list(schema.items()) != list(schemas[0].items()):
            subject = table_subject(settings, table, region)
            raise ConfigurationError(f"{subject}: has other keys than in {next(iter(apis))}")
    entry = settings.tables[table]
    if text := wrong_view(entry.view, entry.mode, entry.marker, schemas[0]):
        raise ConfigurationError(f"table {table}: {text}")
    return tuple(schemas[0])


async def _key_schema(
    settings: Settings, table: str, region: str, api: Api
) -> Mapping[str, tuple[str, str]] | str:
    """The keys of a table in a region whose control table is there too; else what is wrong."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            control = await described(api, settings.control_table)
            description = await described(api, settings.table_name(table, region))
    except TimeoutError:
        return f"region {region}: no answer; check endpoint_url and the network"
    except ReplicatorError as error:
        return f"region {region}: {error}; {remedy(error)}"
    if description is None:
        return (
            f"{table_subject(settings, table, region)}: does not exist; create it, or set its name"
        )
    if control is None:
        subject = control_subject(settings.control_table, region)
        return f"{subject}: does not exist; run `replicator setup`"
    return description.key_schema


def view_of_scan(settings: Settings, table: str, region: str) -> View:
    """How what a region holds is compared: a source of copies as these see it.

    Where every region writes, what is not replicated is left out everywhere.
    """
    entry = settings.tables[table]
    return entry.view if region in entry.sources else WHOLE


def _payer(options: VerifyOptions, regions: Collection[str], clock: Clock) -> Pay:
    """Holds repairs to the write rate of each region."""
    buckets = {
        region: Bucket(
            options.write_units_per_s, monotonic_s=clock.monotonic_s, sleep=asyncio.sleep
        )
        for region in regions
    }

    async def pay(verdict: Verdict) -> None:
        for region, shipment in verdict.shipments.items():
            image = shipment.item.image if shipment.item is not None else {}
            await buckets[region].take(write_units(item_bytes(image)))
        for region, (item, _) in verdict.stamps.items():
            await buckets[region].take(write_units(item_bytes(item.image)))

    return pay


def _judge(settings: Settings, options: VerifyOptions, lost: Collection[str]) -> Judge:
    entry = settings.tables[options.table]
    if entry.mode is Mode.MULTI_WRITER:
        return partial(compare, authority=options.authority, lost=lost)
    source = entry.sources[0]

    def judge(key: Key, holdings: Mapping[str, Holding]) -> Verdict:
        return compare_one_way(key, source, holdings)

    return judge
