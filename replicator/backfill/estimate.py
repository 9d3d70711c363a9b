"""What a backfill would cost: a dry run, which reads a few pages and writes nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from replicator.backfill.plan import Plan, Request
from replicator.backfill.preparation import Found
from replicator.backfill.target import scanned
from replicator.backfill.units import EVENTUALLY_CONSISTENT, READ_UNIT_BYTES, item_bytes
from replicator.ports import Api
from replicator.requests import TableRequests, Wire
from replicator.settings import Settings
from replicator.table import key_of
from replicator.view import View

SAMPLE_PAGES = 4
SAMPLE_PAGE_ITEMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """About how much, in each of the targets; seconds are None where no rate bounds it."""

    table: str
    source: str
    targets: tuple[str, ...]
    items: int
    """In the source, those that are not replicated among them: all are read."""
    size_bytes: int
    read_units: float
    write_units_per_target: int
    seconds: float | None

    @property
    def document(self) -> dict[str, Any]:
        """The estimate, ready for JSON."""
        return asdict(self)


async def estimate(
    request: Request, plan: Plan, settings: Settings, found: Found, apis: Mapping[str, Api]
) -> Estimate:
    """Read a sample, and reckon from it and from what DescribeTable says."""
    entry = settings.tables[plan.table]
    requests = TableRequests(
        table=settings.table_name(plan.table, plan.source),
        marker=entry.marker,
        key_names=found.key_names,
    )
    pages = min(SAMPLE_PAGES, plan.segments)
    segments = [number * plan.segments // pages for number in range(pages)]
    sampled = await asyncio.gather(
        *(_sample(apis[plan.source], requests, segment, plan.segments) for segment in segments)
    )
    sample = [wire for page in sampled for wire in page]
    items, size_bytes = found.items, found.size_bytes
    units_each = mean_bytes = 0.0
    if sample:
        mean_bytes = sum(map(item_bytes, sample)) / len(sample)
        units_each = sum(_units(wire, requests, entry.view) for wire in sample) / len(sample)
        items = max(items, len(sample))
        size_bytes = max(size_bytes, round(mean_bytes * len(sample)))
    read_units = math.ceil(size_bytes / READ_UNIT_BYTES) * EVENTUALLY_CONSISTENT
    write_units = math.ceil(items * units_each)
    bounds = [
        units / rate
        for units, rate in ((read_units, request.read_rate), (write_units, request.write_rate))
        if rate is not None
    ]
    return Estimate(
        table=plan.table,
        source=plan.source,
        targets=plan.targets,
        items=items,
        size_bytes=size_bytes,
        read_units=read_units,
        write_units_per_target=write_units,
        seconds=max(bounds) if bounds else None,
    )


async def _sample(api: Api, requests: TableRequests, segment: int, segments: int) -> list[Wire]:
    response = await api.call(
        "Scan",
        {
            "TableName": requests.table,
            "Segment": segment,
            "TotalSegments": segments,
            "Limit": SAMPLE_PAGE_ITEMS,
        },
    )
    items: list[Wire] = response["Items"]
    return items


def _units(wire: Wire, requests: TableRequests, view: View) -> int:
    """What an item costs as its copies hold it; nothing where it is not replicated."""
    item = view.item(requests.split(wire))
    if item is None:
        return 0
    return scanned(key_of(wire, requests.key_names), item, requests.marker).units
