"""One target of a backfill: a page of scanned items, brought into it.

Most places are empty in most backfills. So the tombstones of a page are read in batches, and what
may go into an empty place is inserted in batches; everything else (what stands there already, what
was deleted, what no batch takes) goes through the steps of conflict.seed, one key at a time. The
decision is the same in both ways, and it is made there.

Where all regions write, a difference between two items that never had a version may be a live write
that is still to be stamped. Such differences are looked at again after a pause, all of a page
together, with the source read anew.

A key whose row in the control table cannot be read is refused and parked; no other is the worse
for it.

This module must not know segments or cursors.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from conflict.merge import Steps
from conflict.operations import (
    Delete,
    Hold,
    Item,
    Key,
    KeyState,
    Outcome,
    Put,
    RaiseTombstone,
    Release,
    Stamp,
)
from conflict.seed import Seeded, Terms, incoming_of, look_again, may_fill, seed
from conflict.version import Version
from replicator.backfill.inserts import Inserts
from replicator.backfill.tally import REFUSED, UNITS
from replicator.backfill.units import item_bytes, write_units
from replicator.errors import Malformed, Poison
from replicator.ports import READ_BATCH_MAX, KeyStates, Sleep, Table
from replicator.rate import Budget
from replicator.requests import Wire
from replicator.writer import Writer

log = logging.getLogger(__name__)

SECOND_LOOK_S = 2.0
"""Longer than a replicator that keeps up takes to stamp a write of its region."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """An item as a scan read it, and the write units that it costs in a target."""

    key: Key
    item: Item
    units: int


def scanned(key: Key, item: Item, marker: str) -> Scanned:
    """An item with what it costs once it has a marker."""
    marker_bytes = 0 if item.marker is not None else item_bytes({marker: {"S": "0" * 64}})
    return Scanned(key, item, write_units(item_bytes(item.image) + marker_bytes))


@dataclass(frozen=True, slots=True)
class _SeedWork:
    """A task for the writer."""

    region: str
    scanned: Scanned
    terms: Terms
    waited: bool

    def start(self) -> Steps[Seeded]:
        return seed(
            self.region, self.scanned.key, self.scanned.item, self.terms, waited=self.waited
        )


@dataclass(frozen=True, slots=True)
class _LookWork:
    """A task for the writer."""

    region: str
    key: Key

    def start(self) -> Steps[bool]:
        return look_again(self.region, self.key)


class PaidTable:
    """ports.Table whose puts are paid for before they are made."""

    def __init__(self, *, table: Table, bucket: Budget, marker: str) -> None:
        self._table, self._bucket, self._marker = table, bucket, marker

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        return await self._table.get(keys)

    async def put(self, operation: Put) -> Outcome:
        item = operation.item
        await self._bucket.take(scanned(operation.key, item, self._marker).units)
        return await self._table.put(operation)

    async def stamp(self, operation: Stamp) -> Outcome:
        return await self._table.stamp(operation)

    async def delete(self, operation: Delete) -> Outcome:
        return await self._table.delete(operation)


class SeparateStates:
    """ports.KeyStates where a row that is malformed is Poison: the matter of its one key."""

    def __init__(self, states: KeyStates) -> None:
        self._states = states

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        try:
            return await self._states.read(keys)
        except Malformed as error:
            raise Poison(str(error)) from None

    async def raise_tombstone(self, operation: RaiseTombstone) -> Version | None:
        return await self._states.raise_tombstone(operation)

    async def hold(self, operation: Hold) -> None:
        await self._states.hold(operation)

    async def release(self, operation: Release) -> None:
        await self._states.release(operation)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetParts:
    """What a target is made of.

    `is_authority`: what stands there without a version stays, and is not in dispute. `read_again`:
    the source's items as they stand now. `park`: keep what can never be written, and why.
    """

    region: str
    terms: Terms
    is_authority: bool
    writer: Writer
    states: KeyStates
    inserts: Inserts
    join: Callable[[Item], Wire]
    read_again: Callable[[Sequence[Key]], Awaitable[list[Item | None]]]
    park: Callable[[str, Key, Item, str], Awaitable[None]]
    written: Callable[[str], None]
    sleep: Sleep


class Target:
    """Brings pages of items into one region."""

    def __init__(self, parts: TargetParts) -> None:
        self._parts = parts
        self._mostly_standing = False

    async def settle(self, page: Sequence[Scanned]) -> Counter[str]:
        """Bring a page; returns when every item of it is settled, with the count of each end."""
        counts: Counter[str] = Counter()
        rest = page if self._mostly_standing else await self._fill(page, counts)
        ends = await asyncio.gather(*(self._seed(one, waited=False) for one in rest))
        disputed = []
        for one, end in zip(rest, ends, strict=True):
            if end == Seeded.DISPUTED.value and self._parts.terms.policed:
                disputed.append(one)
            else:
                _note(counts, end, one)
        if disputed:
            await self._look_a_second_time(disputed, counts)
        # A second run finds everything in place: no use in trying to insert it.
        self._mostly_standing = 2 * counts[Seeded.WRITTEN.value] < len(page)
        if counts[Seeded.WRITTEN.value]:
            self._parts.written(self._parts.region)
        return counts

    async def look_again(self, keys: Sequence[Key]) -> None:
        """What a seeder that was killed had still to do for the keys that it was writing."""
        await asyncio.gather(*(self._look_again(key) for key in keys))

    async def _look_again(self, key: Key) -> None:
        try:
            await self._taken_out(key)
        except Poison as poison:  # its item, if it still is at the source, comes by once more
            fields = {"region": self._parts.region, "error": str(poison)}
            log.warning("backfill.not_looked_at", extra=fields)

    async def _fill(self, page: Sequence[Scanned], counts: Counter[str]) -> list[Scanned]:
        """Insert what may go into an empty place; returns the rest."""
        parts = self._parts
        states = await self._states([one.key for one in page])
        bound: dict[int, Wire] = {}
        for place, (one, state) in enumerate(zip(page, states, strict=True)):
            incoming = incoming_of(one.item, parts.terms)
            if incoming is not None and state is not None and may_fill(incoming, state):
                bound[place] = parts.join(incoming)
        units = [page[place].units for place in bound]
        made = await parts.inserts.insert(list(bound.values()), units)
        inserted = {place for place, done in zip(bound, made, strict=True) if done}
        await self._note_inserted([page[place] for place in sorted(inserted)], counts)
        return [one for place, one in enumerate(page) if place not in inserted]

    async def _note_inserted(self, inserted: Sequence[Scanned], counts: Counter[str]) -> None:
        looked_at = [] if self._parts.terms.policed else inserted
        states = dict(
            zip(
                (one.key.id for one in looked_at),
                await self._states([one.key for one in looked_at]),
                strict=True,
            )
        )
        for one in inserted:
            state = states.get(one.key.id)
            buried = state is not None and state.tombstone is not None
            gone = buried and await self._taken_out(one.key)
            _note(counts, (Seeded.DELETED if gone else Seeded.WRITTEN).value, one)

    async def _taken_out(self, key: Key) -> bool:
        return await self._parts.writer.run(_LookWork(self._parts.region, key))

    async def _states(self, keys: Sequence[Key]) -> list[KeyState | None]:
        """Read after this call was made, in batches; None for what cannot be read."""
        batches = [keys[at : at + READ_BATCH_MAX] for at in range(0, len(keys), READ_BATCH_MAX)]
        answers = await asyncio.gather(*map(self._batch, batches))
        return [state for answer in answers for state in answer]

    async def _batch(self, keys: Sequence[Key]) -> list[KeyState | None]:
        parts = self._parts
        try:
            return [*await parts.writer.patiently(parts.region, partial(parts.states.read, keys))]
        except Poison:  # one of them: which, is found out by reading ever fewer
            if len(keys) == 1:
                return [None]
        half = len(keys) // 2
        return await self._batch(keys[:half]) + await self._batch(keys[half:])

    async def _seed(self, one: Scanned, *, waited: bool) -> str:
        parts = self._parts
        try:
            work = _SeedWork(parts.region, one, parts.terms, waited)
            seeded = await parts.writer.run(work)
        except Poison as poison:
            incoming = incoming_of(one.item, parts.terms) or one.item
            await parts.park(parts.region, one.key, incoming, str(poison))
            return REFUSED
        if seeded is Seeded.DISPUTED and parts.is_authority:
            return Seeded.NEWER.value
        return seeded.value

    async def _look_a_second_time(self, disputed: Sequence[Scanned], counts: Counter[str]) -> None:
        await self._parts.sleep(SECOND_LOOK_S)
        items = await self._parts.read_again([one.key for one in disputed])
        ends = await asyncio.gather(
            *(
                self._seed(Scanned(one.key, item, one.units), waited=True)
                for one, item in zip(disputed, items, strict=True)
                if item is not None
            )
        )
        counts[Seeded.DELETED.value] += len(disputed) - len(ends)
        remaining = (one for one, item in zip(disputed, items, strict=True) if item is not None)
        for one, end in zip(remaining, ends, strict=True):
            _note(counts, end, one)


def _note(counts: Counter[str], end: str, one: Scanned) -> None:
    counts[end] += 1
    if end == Seeded.WRITTEN.value:
        counts[UNITS] += one.units
