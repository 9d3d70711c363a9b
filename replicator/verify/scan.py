"""Reading one region's table from end to end: segments side by side, no faster than allowed.

Reads are eventually consistent, at half the price: whatever looks different is read again,
strongly, before it is called so. A page is handed on in slices, so that whoever shares the event
loop (a replicator that repairs a gap) is not kept waiting.

This module must not know what is done with the items.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from conflict.operations import Image, Key
from replicator.ports import Api
from replicator.rate import Budget
from replicator.requests import TableRequests, Wire
from replicator.table import key_of
from replicator.view import WHOLE, View
from replicator.writer import Writer

SEGMENTS = 4
"""Per region. More would not be faster, for the digests keep a core busy; and each holds a page."""

PAGE_ITEMS = 250
"""A page of 1 MB may be some twenty once it is Python objects; this bounds the memory."""

SLICE_ITEMS = 100

UNITS_OF_A_PAGE = 128.0
"""What a page of 1 MB costs, half a unit per 4 KB; assumed where the engine does not say.
Source: Developer Guide, "Read consistency" and API_Scan, "1 MB"."""


@dataclass(slots=True)
class ScanStats:
    """What reading a region has come to so far."""

    items: int = 0
    units: float = 0.0


@dataclass(slots=True, kw_only=True)
class Scanner:
    """Reads one table of one region."""

    region: str
    api: Api
    requests: TableRequests
    writer: Writer
    budget: Budget
    segments: int = SEGMENTS
    view: View = WHOLE
    stats: ScanStats = field(default_factory=ScanStats)

    async def scan(self, take: Callable[[Key, Image], None]) -> None:
        """Hand on every item that is replicated, as it is and the marker left out."""
        self.stats.items = 0
        async with asyncio.TaskGroup() as group:
            for segment in range(self.segments):
                group.create_task(self.scan_segment(segment, take))

    async def scan_segment(self, segment: int, take: Callable[[Key, Image], None]) -> None:
        """The same of one of the segments, beside whoever reads the others."""
        request: Wire = {
            "TableName": self.requests.table,
            "Segment": segment,
            "TotalSegments": self.segments,
            "Limit": PAGE_ITEMS,
            "ReturnConsumedCapacity": "TOTAL",
        }
        while True:
            page = await self.writer.patiently(self.region, partial(self.api.call, "Scan", request))
            await self._hand_on(page["Items"], take)
            units = float(page.get("ConsumedCapacity", {}).get("CapacityUnits", UNITS_OF_A_PAGE))
            self.stats.units += units
            await self.budget.take(units)
            if not page.get("LastEvaluatedKey"):
                return
            request = {**request, "ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def _hand_on(self, items: Sequence[Image], take: Callable[[Key, Image], None]) -> None:
        names, marker = self.requests.key_names, self.requests.marker
        for start in range(0, len(items), SLICE_ITEMS):
            for wire in items[start : start + SLICE_ITEMS]:
                bare = {name: value for name, value in wire.items() if name != marker}
                image = self.view.image(bare)
                if image is not None:
                    take(key_of(wire, names), image)
            self.stats.items += len(items[start : start + SLICE_ITEMS])
            await asyncio.sleep(0)
