"""One segment of a scan: read page by page, bring each page to every target, save the cursor.

Pages are bounded in items and, by DynamoDB, in bytes, and one is held at a time: memory is flat
whatever the table's size. The cursor is saved when a page is settled in every target. For a one-way
table the keys of a page are saved before it is written, see jobs.py, in parts that fit into a row.

This module must not know processes, or how a target is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from conflict.operations import Image, Key, judged
from replicator.backfill.jobs import Jobs
from replicator.backfill.tally import Tally
from replicator.backfill.target import Scanned, Target, scanned
from replicator.backfill.units import item_bytes, scan_units
from replicator.ports import Api
from replicator.rate import Budget
from replicator.requests import TableRequests, Wire
from replicator.view import WHOLE, View
from replicator.writer import Writer

PAGE_ITEMS = 200
"""Some calls' worth of reads and writes. A page has at most 1 MB besides (source: API_Scan), but a
megabyte of small attributes is some twenty of Python objects, so this bounds the memory."""

INTENT_BYTES_MAX = 256 * 1_024
"""Of the keys that are saved together: packed, they fit into a control row with room to spare.
Source: Quotas: an item has up to 400 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The table that is scanned. `limit_us`: how far ahead a version may lie at this moment."""

    api: Api
    region: str
    requests: TableRequests
    key_of: Callable[[Image], Key]
    writer: Writer
    bucket: Budget
    segments: int
    limit_us: Callable[[], int]
    view: View = WHOLE

    async def page(
        self, segment: int, after: Image | None, items_max: int
    ) -> tuple[list[Scanned], Image | None, float]:
        """The items of a page, the key to go on after (None: this was the last), its read units.

        Raises: what is not Transient.
        """
        request: Wire = {
            "TableName": self.requests.table,
            "Segment": segment,
            "TotalSegments": self.segments,
            "Limit": items_max,
        }
        if after is not None:
            request["ExclusiveStartKey"] = dict(after)
        response = await self.writer.patiently(self.region, partial(self.api.call, "Scan", request))
        items: Sequence[Wire] = response["Items"]
        units = scan_units(sum(map(item_bytes, items)))
        await self.bucket.take(units)
        found = [one for wire in items if (one := self._scanned(wire)) is not None]
        return found, response.get("LastEvaluatedKey"), units

    def _scanned(self, wire: Wire) -> Scanned | None:
        """An item as its copies hold it; None for one that is not replicated."""
        item = self.view.item(judged(self.requests.split(wire), self.limit_us()))
        if item is None:
            return None
        return scanned(self.key_of(wire), item, self.requests.marker)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentParts:
    """What a segment's work needs."""

    source: Source
    targets: Mapping[str, Target]
    jobs: Jobs
    job: str
    runner: str
    policed: bool
    progress: Callable[[Tally], None]


async def run_segment(parts: SegmentParts, segment: int) -> Tally:
    """Settle what is left of a segment; its tally since the job began.

    Raises: TakenOver; Fatal where the source refuses to be scanned.
    """
    cursor = await parts.jobs.claim(parts.job, segment, parts.runner)
    if cursor.finished:
        return cursor.tally
    under_way = [parts.source.key_of(key) for key in cursor.intent]
    await asyncio.gather(*(target.look_again(under_way) for target in parts.targets.values()))
    while True:
        items, last, units = await parts.source.page(segment, cursor.after, PAGE_ITEMS)
        settled = Tally(read_units=units)
        for together in [items] if parts.policed else saved_together(items):
            if together and not parts.policed:
                cursor = replace(cursor, intent=tuple(one.key.attributes for one in together))
                await parts.jobs.save(parts.job, cursor, parts.runner)
            settled.add(await _settled(parts, together))
        cursor = replace(
            cursor, after=last, finished=last is None, tally=cursor.tally.plus(settled)
        )
        if parts.policed or cursor.finished:
            cursor = replace(cursor, intent=())
            await parts.jobs.save(parts.job, cursor, parts.runner)
        parts.progress(settled)
        if cursor.finished:
            return cursor.tally


def saved_together(items: Sequence[Scanned]) -> Iterator[Sequence[Scanned]]:
    """A page in parts whose keys fit into a control row."""
    start = size_bytes = 0
    for place, one in enumerate(items):
        more_bytes = item_bytes(one.key.attributes)
        if place > start and size_bytes + more_bytes > INTENT_BYTES_MAX:
            yield items[start:place]
            start, size_bytes = place, 0
        size_bytes += more_bytes
    yield items[start:]


async def _settled(parts: SegmentParts, items: Sequence[Scanned]) -> Tally:
    """Bring some items to every target."""
    counts = await asyncio.gather(*(target.settle(items) for target in parts.targets.values()))
    return Tally(len(items), 0.0, dict(zip(parts.targets, counts, strict=True)))
