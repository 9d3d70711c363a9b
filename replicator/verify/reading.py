"""Reading the tables of all regions from end to end: to sums per bucket, and to suspect keys.

Both ways of it give the same: here, and (cluster.py) on the workers of a cluster. What one reader
makes of one item stands here for both.

This module must not know how a region is reached, nor what becomes of the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeAlias

from conflict.content import digest
from conflict.operations import Image, Key
from replicator.verify.digests import Buckets, Suspects, bucket_of, key_digest
from replicator.verify.scan import Scanner

Take: TypeAlias = Callable[[Key, Image], None]


class Reading(Protocol):
    """Reads some regions' tables, each as often as it is asked to."""

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that are compared."""
        ...

    @property
    def items(self) -> Mapping[str, int]:
        """How many items the present reading, or the last one, has come to in each region."""
        ...

    @property
    def units(self) -> Mapping[str, float]:
        """What all readings have cost in each region, in read units."""
        ...

    async def sums(self, below: int) -> Mapping[str, Buckets]:
        """What each region's items come to, of the buckets below a number."""
        ...

    async def suspects(self, buckets: Collection[int]) -> list[Key]:
        """The keys of these buckets that do not look equal everywhere."""
        ...


def summing(sums: Buckets, below: int) -> Take:
    """Adds each item of a bucket below a number."""

    def take(key: Key, image: Image) -> None:
        bucket = bucket_of(key_digest(key))
        if bucket < below:
            sums.add(bucket, digest(image))

    return take


def suspecting(add: Callable[[bytes, Key, bytes], None], buckets: Collection[int]) -> Take:
    """Hands on the digest, the key and the content's digest of each item of some buckets."""

    def take(key: Key, image: Image) -> None:
        named = key_digest(key)
        if bucket_of(named) in buckets:
            add(named, key, digest(image))

    return take


class ReadingHere:
    """In this process, all regions side by side."""

    def __init__(self, scanners: Mapping[str, Scanner]) -> None:
        self._scanners = scanners

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(self._scanners)

    @property
    def items(self) -> Mapping[str, int]:
        return {region: scanner.stats.items for region, scanner in self._scanners.items()}

    @property
    def units(self) -> Mapping[str, float]:
        return {region: scanner.stats.units for region, scanner in self._scanners.items()}

    async def sums(self, below: int) -> Mapping[str, Buckets]:
        sums = {region: Buckets() for region in self._scanners}
        await self._scan({region: summing(sums[region], below) for region in sums})
        return sums

    async def suspects(self, buckets: Collection[int]) -> list[Key]:
        suspects = Suspects(len(self._scanners))
        await self._scan(dict.fromkeys(self._scanners, suspecting(suspects.add, buckets)))
        return suspects.keys()

    async def _scan(self, takes: Mapping[str, Take]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for region, scanner in self._scanners.items():
                tasks.create_task(scanner.scan(takes[region]))
