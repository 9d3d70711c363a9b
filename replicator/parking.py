"""Parking: what can never be applied is kept durably, with its image, and holds up nothing.

A change counts as settled only when it is parked; until then it is tried like anything else.
"""

from __future__ import annotations

import logging
from functools import partial

from conflict.operations import Item, Key
from conflict.version import Kind, Version
from replicator.errors import Poison
from replicator.flow import DeliverTask, Task
from replicator.parts import PipelineParts
from replicator.records import Parked, Record

log = logging.getLogger(__name__)


class Parking:
    """The parked changes of one pipeline."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts, self._stats = parts, parts.stats

    async def count(self) -> None:
        """Take over the count of what is parked: it outlives the process."""
        stats = self._stats
        parked = await self._parts.stores.quarantine.load(stats.table)
        own = [change.target for change in parked if change.source == stats.source]
        stats.records.quarantined = own.count(stats.source)
        for target, link in stats.links.items():
            link.quarantined = own.count(target)

    async def task(self, task: Task, poison: Poison) -> None:
        """Park what a task was to do."""
        if isinstance(task, DeliverTask):
            shipment = task.shipment
            self._stats.links[task.region].quarantined += 1
            await self._park(task.region, shipment.key, shipment.version, shipment.item, poison)
            return
        change = task.entry.change
        version = self._would_be_version(change.created_us, change.sequence)
        self._stats.records.quarantined += 1
        await self._park(task.region, change.key, version, change.new, poison)

    async def record(self, record: Record, poison: Poison) -> None:
        """Park a record that no change could be made of."""
        key = self._parts.transformer.key_of(record.keys)
        version = self._would_be_version(record.created_us, record.sequence)
        item = None if record.new is None else Item(record.new, None)
        self._stats.records.quarantined += 1
        await self._park(self._stats.source, key, version, item, poison)

    def _would_be_version(self, created_us: int, sequence: int) -> Version:
        """What orders the parked changes of a key where none got as far as a version."""
        return Version(created_us, self._stats.source, sequence, Kind.APPLICATION)

    async def _park(
        self, target: str, key: Key, version: Version, item: Item | None, poison: Poison
    ) -> None:
        """Keep a change durably; until it is, the record counts as unsettled."""
        parked = Parked(
            table=self._stats.table,
            source=self._stats.source,
            target=target,
            key=key,
            version=version,
            image=item.image if item else None,
            reason=str(poison),
            parked_us=self._parts.clock.now_us(),
        )
        log.error(
            "change.parked",
            extra={
                "table": parked.table,
                "region": parked.source,
                "target": target,
                "sequence": version.sequence,
                "reason": parked.reason,
            },
        )
        park = partial(self._parts.stores.quarantine.park, parked)
        await self._parts.writer.patiently(self._stats.source, park)
