"""The reading of a comparison on a Dask cluster: one task for each segment of each region.

A task brings back sums, two numbers per bucket, or the keys of the suspect buckets, each with the
digest of what stands there: of an item no more than its key leaves the worker that has read it. A
task that dies with its worker is made again from the segment's beginning, and nothing of it is
counted twice. What looks different is looked at, and repaired, by the command itself.

This module must not know what becomes of the sums.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from conflict.operations import Key
from replicator import loop
from replicator.clock import SystemClock
from replicator.cluster import Cluster, opened_cluster, shared_budget, shared_rates
from replicator.plane import open_region
from replicator.settings import Settings
from replicator.verify.assembly import VerifyOptions, scanner_of, writer_of
from replicator.verify.digests import Buckets, Suspects
from replicator.verify.patience import Patience
from replicator.verify.reading import Take, summing, suspecting
from replicator.verify.scan import SEGMENTS

T = TypeVar("T")

TASKS_PER_ROOM = 2
"""So that a worker that is done early has something left to do."""

Seen: TypeAlias = list[tuple[bytes, Key, bytes]]
"""The digest of a key, the key, and the digest of what stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOrder:
    """One segment of one region: plain data, which may be sent to another machine.

    `below`: the buckets to sum up; `suspects`: in place of that, the buckets to tell the keys of.
    """

    settings: Settings
    table: str
    region: str
    key_names: tuple[str, ...]
    segment: int
    segments: int
    below: int = 0
    suspects: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """What a segment came to."""

    region: str
    items: int
    units: float
    found: T


@asynccontextmanager
async def reading_there(
    settings: Settings,
    options: VerifyOptions,
    *,
    regions: tuple[str, ...],
    key_names: tuple[str, ...],
) -> AsyncIterator[ReadingThere]:
    """A Reading by the cluster that the options name, or one that is made for as long as this.

    Raises: what `opened_cluster` does; what a region's reader raises.
    """
    rates = dict.fromkeys(regions, options.read_units_per_s)
    async with (
        opened_cluster(workers=options.workers, scheduler=options.scheduler) as cluster,
        shared_rates(cluster.client, rates) as queues,
    ):
        yield ReadingThere(
            cluster=cluster,
            queues=queues,
            settings=settings.without_secrets(),
            table=options.table,
            regions=regions,
            key_names=key_names,
            segments=max(SEGMENTS, -(-TASKS_PER_ROOM * cluster.room // len(regions))),
        )


@dataclass(slots=True, kw_only=True)
class ReadingThere:
    """On the workers of a cluster, as many segments at once as there is room."""

    cluster: Cluster
    queues: Mapping[str, str]
    settings: Settings
    table: str
    regions: tuple[str, ...]
    key_names: tuple[str, ...]
    segments: int
    items: dict[str, int] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)

    async def sums(self, below: int) -> Mapping[str, Buckets]:
        sums = {region: Buckets() for region in self.regions}

        def take(part: Part[Buckets]) -> None:
            self._count(part)
            sums[part.region].merge(part.found)

        await self.cluster.each(_sum, self._orders(below=below), self.queues, take)
        return sums

    async def suspects(self, buckets: Collection[int]) -> list[Key]:
        suspects = Suspects(len(self.regions))

        def take(part: Part[Seen]) -> None:
            self._count(part)
            for seen in part.found:
                suspects.add(*seen)

        orders = self._orders(suspects=frozenset(buckets))
        await self.cluster.each(_suspect, orders, self.queues, take)
        return suspects.keys()

    def _orders(
        self, *, below: int = 0, suspects: frozenset[int] = frozenset()
    ) -> Iterator[SegmentOrder]:
        self.items = dict.fromkeys(self.regions, 0)
        for segment in range(self.segments):
            for region in self.regions:
                yield SegmentOrder(
                    settings=self.settings,
                    table=self.table,
                    region=region,
                    key_names=self.key_names,
                    segment=segment,
                    segments=self.segments,
                    below=below,
                    suspects=suspects,
                )

    def _count(self, part: Part[Any]) -> None:
        self.items[part.region] += part.items
        self.units[part.region] = self.units.get(part.region, 0.0) + part.units


def _sum(order: SegmentOrder, queues: Mapping[str, str]) -> Part[Buckets]:
    """A task of the first reading."""
    sums = Buckets()
    return _read(order, queues, summing(sums, order.below), sums)


def _suspect(order: SegmentOrder, queues: Mapping[str, str]) -> Part[Seen]:
    """A task of a second reading."""
    seen: Seen = []

    def add(named: bytes, key: Key, content: bytes) -> None:
        seen.append((named, key, content))

    return _read(order, queues, suspecting(add, order.suspects), seen)


def _read(order: SegmentOrder, queues: Mapping[str, str], take: Take, found: T) -> Part[T]:
    """Read a segment; `take` fills what was `found`."""

    async def scan() -> Part[T]:
        clock = SystemClock()
        scanner = scanner_of(
            order.settings,
            order.table,
            order.region,
            api,
            order.key_names,
            writer=writer_of(
                order.settings,
                order.table,
                {order.region: api},
                order.key_names,
                clock=clock,
                observer=Patience(clock),
                fences={},
            ),
            budget=shared_budget(queues, order.region),
            segments=order.segments,
        )
        await scanner.scan_segment(order.segment, take)
        return Part(order.region, scanner.stats.items, scanner.stats.units, found)

    with closing(open_region(order.settings, order.region)) as api:
        return loop.run(scan())
