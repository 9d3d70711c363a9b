"""Making a parked change again, by the steps of replication.

A parked change is a stream record that was processed without success, and any record may be
processed again, at any time, by anybody, beside live replication. So nothing new is decided here:
what was refused by a target is delivered to it, what was refused at home is settled there and then
shipped, and a newer standing item, or a newer delete, wins.

One thing ends: a delete is remembered for as long as tombstones are kept. A change that is older
than that could bring back what was deleted since, so it is not made again; the tables are to be
compared instead (`verify --repair`).

This module must not know where parked changes are kept, nor how one is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar, assert_never

from conflict.merge import Effect, Settlement, Shipment, Steps
from conflict.operations import Get, Image, Item
from conflict.origin import Change, Nature
from conflict.seed import AUTHORITY_US, Seeded, Terms, seed
from replicator.errors import Poison
from replicator.records import Mode, Parked
from replicator.tasks import PLANS, Plan
from replicator.writer import Writer

T = TypeVar("T")

NATURES_MADE_AGAIN = frozenset({Nature.WRITTEN, Nature.STAMPED, Nature.DELETED, Nature.EXPIRED})


class End(StrEnum):
    """How a replay ended."""

    APPLIED = "applied"
    """What it was to do is done, now or already."""
    SUPERSEDED = "superseded"
    """Something newer stands, or its own record will bring it."""
    REFUSED = "refused"
    """It still cannot be applied."""
    TOO_OLD = "too old"
    """Deletes that are newer may be forgotten by now."""
    UNREADABLE = "unreadable"
    """Its record said nothing that could be made again."""

    @property
    def is_dealt_with(self) -> bool:
        """Whether the parked change has served."""
        return self in (End.APPLIED, End.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay ended; for a refusal, who refused and why."""

    end: End
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Work(Generic[T]):
    """One step of the protocol, for the writer."""

    region: str
    begin: Callable[[], Steps[T]]

    def start(self) -> Steps[T]:
        return self.begin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Replays the parked changes of one table. `targets_of`: where changes of a source go."""

    mode: Mode
    writer: Writer
    targets_of: Callable[[str], Sequence[str]]
    tombstone_us: int

    async def run(self, parked: Parked, now_us: int) -> Replayed:
        """Make a parked change again. It may be cut anywhere, and run again."""
        if now_us - _since_us(parked) > self.tombstone_us:
            return Replayed(End.TOO_OLD)
        try:
            if parked.at_home:
                return await self._at_home(parked)
            return await self._in_target(parked)
        except Poison as poison:
            return Replayed(End.REFUSED, str(poison))

    async def _in_target(self, parked: Parked) -> Replayed:
        shipment = await self.writer.run(_Work(parked.source, lambda: self._shipment(parked)))
        if shipment is None:
            return Replayed(End.SUPERSEDED)
        if _is_seed(parked):
            return await self._seed(parked.target, shipment)
        return Replayed(await self._deliver(parked.target, shipment))

    async def _seed(self, target: str, shipment: Shipment) -> Replayed:
        """What a backfill could not bring gives way to whatever is live, as a backfill does."""
        key, item, version = shipment.key, shipment.item, shipment.version
        if item is None:
            return Replayed(End.SUPERSEDED)
        terms = Terms(
            origin=version.origin,
            overwrite_unstamped=version.time_us == AUTHORITY_US,
            policed=self.mode is Mode.MULTI_WRITER,
        )
        scanned = Item(item.image, None)
        seeded = await self.writer.run(_Work(target, lambda: seed(target, key, scanned, terms)))
        match seeded:
            case Seeded.WRITTEN | Seeded.EQUAL:
                return Replayed(End.APPLIED)
            case Seeded.NEWER | Seeded.DELETED:
                return Replayed(End.SUPERSEDED)
            case Seeded.DISPUTED:
                return Replayed(End.REFUSED, f"{target} holds other content of no known age")
            case _:
                assert_never(seeded)

    async def _at_home(self, parked: Parked) -> Replayed:
        if parked.nature not in NATURES_MADE_AGAIN:
            return Replayed(End.UNREADABLE)
        home, plan = parked.source, self._plan
        change = await self.writer.run(_Work(home, lambda: _change(parked)))
        if change is None:
            return Replayed(End.SUPERSEDED)
        settlement: Settlement = await self.writer.run(
            _Work(home, lambda: plan.settle(home, change))
        )
        if settlement.shipment is None:
            return Replayed(End.SUPERSEDED)
        for target in self.targets_of(home):
            await self._deliver(target, settlement.shipment)
        if settlement.release:
            await self.writer.run(_Work(home, lambda: plan.release(home, change)))
        return Replayed(End.APPLIED)

    async def _deliver(self, target: str, shipment: Shipment) -> End:
        delivery = await self.writer.run(
            _Work(target, lambda: self._plan.deliver(target, shipment))
        )
        return End.SUPERSEDED if delivery.effect is Effect.STALE else End.APPLIED

    def _shipment(self, parked: Parked) -> Steps[Shipment | None]:
        """What the target was to hold; None where a later record is to say so.

        An image that was left out is read from the source. What stands there may be newer: where
        every region writes it says so by its version, and a later record brings it; where one does,
        the records that made it so follow.
        """
        image = parked.image
        if parked.image_omitted:
            found: Item | None = yield Get(parked.source, parked.key)
            if self.mode is Mode.MULTI_WRITER and not _stands_for(found, parked):
                return None
            image = found.image if found else None
        item = Item(image, None).stamped(parked.version) if image is not None else None
        return Shipment(
            key=parked.key, version=parked.version, item=item, created_us=parked.version.time_us
        )

    @property
    def _plan(self) -> Plan:
        return PLANS[self.mode]


def _stands_for(found: Item | None, parked: Parked) -> bool:
    """Whether an item is the very write that was parked."""
    standing = None if found is None else found.version
    if _is_seed(parked):
        return found is not None and standing is None
    return standing is not None and standing.order == parked.version.order


def _is_seed(parked: Parked) -> bool:
    """Whether it comes from a backfill and has no time of its own, see conflict.seed."""
    return parked.version.time_us <= AUTHORITY_US


def _change(parked: Parked) -> Steps[Change | None]:
    """The change that was refused at home; None where a later record has replaced it."""
    new = _written(parked, parked.image)
    if parked.image_omitted:
        found: Item | None = yield Get(parked.source, parked.key)
        if found is None or found.marker != parked.marker:
            return None
        new = _written(parked, found.image)
    assert parked.nature is not None
    return Change(
        key=parked.key,
        sequence=parked.version.sequence,
        created_us=parked.version.time_us,
        nature=parked.nature,
        old=None,
        new=new,
        earliest_us=parked.earliest_us,
    )


def _written(parked: Parked, image: Image | None) -> Item | None:
    return None if image is None else Item(image, parked.marker)


def _since_us(parked: Parked) -> int:
    """Since when deletes may have come that this change gives way to."""
    if _is_seed(parked):
        return parked.parked_us
    return min(parked.version.time_us, parked.parked_us)
