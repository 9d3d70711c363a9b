"""Parking: what can never be applied is kept durably, with its image, and holds up nothing.

A change counts as settled only when it is parked; until then it is tried like anything else. The
key goes on meanwhile: a later change of it is tried on its own, and once it has arrived where the
parked one was refused, that one is beaten and is taken out of the quarantine.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TypeAlias

from conflict.operations import AttributeValue, Item, Key
from conflict.origin import Change, Nature
from conflict.version import Kind, Version, earliest_after
from replicator.errors import Poison
from replicator.parts import PipelineParts
from replicator.records import Parked, ParkedNote, Record
from replicator.tasks import DeliverTask, Task

log = logging.getLogger(__name__)

Place: TypeAlias = tuple[str, str]
"""The region that refused a change, and the change's key."""


class Parking:
    """The parked changes of one pipeline; all of its sessions share it."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts, self._stats = parts, parts.stats
        self._waiting: dict[Place, ParkedNote] = {}

    @property
    def waits(self) -> bool:
        """Whether anything is parked."""
        return bool(self._waiting)

    async def count(self) -> None:
        """Take over what is parked: it outlives the process, and others may deal with it."""
        before = dict(self._waiting)
        load = partial(self._parts.stores.quarantine.notes, self._stats.table)
        notes = await self._parts.writer.patiently(self._stats.source, load)
        since = {at: note for at, note in self._waiting.items() if before.get(at) is not note}
        own = (note for note in notes if note.source == self._stats.source)
        self._waiting = {**{(note.target, note.key.id): note for note in own}, **since}
        self._tell()

    async def watch(self) -> None:
        """Count again, as long as there is anything: a person may have replayed or dropped it."""
        while True:
            await self._parts.sleep(self._parts.limits.recount_interval_s)
            if self._waiting:
                await self.count()

    async def task(self, task: Task, poison: Poison) -> None:
        """Park what a task was to do."""
        if isinstance(task, DeliverTask):
            shipment = task.shipment
            await self._park(task.region, shipment.key, shipment.version, shipment.item, poison)
            return
        change = task.entry.change
        version = self._would_be_version(change.created_us, change.sequence)
        await self._park(task.region, change.key, version, change.new, poison, change)

    async def record(self, record: Record, poison: Poison) -> None:
        """Park a record that no change could be made of."""
        key = self._parts.transformer.key(record)
        version = self._would_be_version(record.created_us, record.sequence)
        item = None if record.new is None else Item(record.new, None)
        await self._park(self._stats.source, key, version, item, poison)

    async def done(self, task: Task) -> None:
        """A task has ended well: an older change of its key that waits in that place is beaten."""
        key = task.shipment.key if isinstance(task, DeliverTask) else task.entry.change.key
        note = self._waiting.get((task.region, key.id))
        if note is None:
            return
        if isinstance(task, DeliverTask):
            beaten = task.shipment.version.order > note.version.order
        else:
            change = task.entry.change
            local = change.nature.is_local_put or change.nature.is_local_delete
            beaten = local and change.sequence > note.version.sequence
        if beaten:
            await self._forget(note)

    async def _forget(self, note: ParkedNote) -> None:
        remove = partial(self._parts.stores.quarantine.remove, note)
        await self._parts.writer.patiently(self._stats.source, remove)
        if self._waiting.get((note.target, note.key.id)) is note:
            del self._waiting[note.target, note.key.id]
        self._tell()
        log.info("change.superseded", extra=self._fields(note))

    def _tell(self) -> None:
        """Bring the counts into the figures."""
        regions = [region for region, _ in self._waiting]
        self._stats.records.quarantined = regions.count(self._stats.source)
        for target, link in self._stats.links.items():
            link.quarantined = regions.count(target)

    def _would_be_version(self, created_us: int, sequence: int) -> Version:
        """What orders the parked changes of a key where none got as far as a version."""
        return Version(created_us, self._stats.source, sequence, Kind.APPLICATION)

    async def _park(
        self,
        target: str,
        key: Key,
        version: Version,
        item: Item | None,
        poison: Poison,
        change: Change | None = None,
    ) -> None:
        """Keep a change durably; until it is, the record counts as unsettled.

        `change`: what it was to be at home, so that it can be made again.
        """
        parked = Parked(
            table=self._stats.table,
            source=self._stats.source,
            target=target,
            key=key,
            version=version,
            image=item.image if item else None,
            reason=str(poison),
            parked_us=self._parts.clock.now_us(),
            nature=_nature(change),
            marker=_marker(change),
            earliest_us=_earliest_us(change),
        )
        log.error("change.parked", extra={**self._fields(parked), "reason": parked.reason})
        park = partial(self._parts.stores.quarantine.park, parked)
        await self._parts.writer.patiently(self._stats.source, park)
        place = (target, key.id)
        waiting = self._waiting.get(place)
        if waiting is None or waiting.version.order < version.order:
            self._waiting[place] = parked.note()
        self._tell()

    def _fields(self, note: ParkedNote) -> dict[str, object]:
        return {
            "table": note.table,
            "region": note.source,
            "target": note.target,
            "sequence": note.version.sequence,
        }


def _nature(change: Change | None) -> Nature | None:
    return None if change is None else change.nature


def _marker(change: Change | None) -> AttributeValue | None:
    return None if change is None or change.new is None else change.new.marker


def _earliest_us(change: Change | None) -> int:
    """The earliest time after all that the change is known to have overwritten."""
    if change is None:
        return -1
    return max(change.earliest_us, earliest_after(change.old.version if change.old else None))
