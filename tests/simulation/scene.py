"""A schedule written by hand: regions in memory, and the protocol driven call by call.

Each record of a region can be settled and delivered in steps, stopped between any two calls, left
unfinished, or run again; `drain` then lets everything else happen, in the order of the streams.

    scene = Scene("A", "B")
    scene.put("A", 100, "v1")            the application of A writes at 100 µs
    step = scene.settle("A", 1)          record 1 of A's stream, as far as a test wants it
    step.before(Stamp)                   ... up to, and not including, its next Stamp
    step.finish()                        ... to its end; returns the result
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from conflict.merge import Delivery, Settlement, Shipment, Steps
from conflict.operations import AnyOperation, Image, Item, marker_of
from conflict.origin import Change
from conflict.version import Kind, Version
from replicator.records import Mode, TtlDeletes, ViewType
from replicator.tasks import PLANS
from replicator.transformer import Transformer
from simulation.region import EXPIRES, Region, believed, key_of
from support.memory import MARKER

T = TypeVar("T")
KEY = key_of({"id": {"S": "k"}})
BOUND_US = 1_000
STAMP_SEQUENCE = 10**6


class Step(Generic[T]):
    """One step of the protocol, between two of its calls."""

    def __init__(self, world: Mapping[str, Region], home: str, steps: Steps[T]) -> None:
        self._world, self._home, self._steps = world, world[home], steps
        self._pending: AnyOperation | None = None
        self._result: T | None = None
        self._over = False
        self._go_on(None)

    def before(self, kind: type[AnyOperation]) -> Step[T]:
        """Make calls until the next one would be of this kind."""
        while not isinstance(self._pending, kind):
            assert not self._over, f"the step ended without a {kind.__name__}"
            self.call()
        return self

    def call(self) -> Step[T]:
        """Make the next call."""
        assert self._pending is not None
        answer = self._world[self._pending.region].execute(self._pending)
        self._go_on(believed(answer, self._home.now_us + BOUND_US))
        return self

    def lose(self) -> Step[T]:
        """Make the next call and lose its answer: it will be made again."""
        assert self._pending is not None
        self._world[self._pending.region].execute(self._pending)
        return self

    def finish(self) -> T:
        """Make all calls that are left."""
        while not self._over:
            self.call()
        assert self._result is not None
        return self._result

    def _go_on(self, answer: object) -> None:
        try:
            self._pending = self._steps.send(answer)
        except StopIteration as end:
            self._pending, self._result, self._over = None, end.value, True


class Scene:
    """Regions with one key, and what each region's replicator does next."""

    def __init__(
        self,
        *names: str,
        source: str | None = None,
        view: ViewType = ViewType.NEW_AND_OLD_IMAGES,
        ttl_deletes: TtlDeletes = TtlDeletes.REPLICATE,
    ) -> None:
        self.world = {name: Region(name, view=view) for name in names}
        self._source = source
        mode = Mode.ONE_WAY if source else Mode.MULTI_WRITER
        self._plan = PLANS[mode]
        self._transformers = {
            name: Transformer(
                home=name,
                mode=mode,
                marker=MARKER,
                key_of=key_of,
                ttl_deletes=ttl_deletes,
                future_bound_us=BOUND_US,
            )
            for name in names
        }
        self._settled = dict.fromkeys([source] if source else names, 0)

    # --- what applications do -----------------------------------------------------------------

    def put(self, region: str, now_us: int, value: str, *, expires: bool = False) -> None:
        """Replace the item; the marker goes."""
        self._write(region, now_us, Item(_image(value, expires), None))

    def put_stamped(
        self, region: str, now_us: int, value: str, stamp_us: int, *, expires: bool = False
    ) -> None:
        """Replace the item by a write that carries its version."""
        version = Version(stamp_us, region, STAMP_SEQUENCE, Kind.APPLICATION)
        self._write(region, now_us, Item(_image(value, expires), marker_of(version)))

    def put_copy(self, region: str, now_us: int, item: Item) -> None:
        """The application puts an item that it read before, with the marker that it had."""
        self._write(region, now_us, item)

    def update(self, region: str, now_us: int, value: str) -> None:
        """Set one attribute; the marker stays."""
        standing = self.world[region].items[KEY.id]
        image = {**standing.image, "a": {"S": value}}
        self._write(region, now_us, Item(image, standing.marker))

    def delete(self, region: str, now_us: int) -> None:
        """Delete the item."""
        self._write(region, now_us, None)

    def expire(self, region: str, now_us: int) -> None:
        """Let the time-to-live service delete the item."""
        self._set_clock(region, now_us)
        self.world[region].expire(KEY)

    def _write(self, region: str, now_us: int, item: Item | None) -> None:
        self._set_clock(region, now_us)
        self.world[region].write(KEY, item)

    def _set_clock(self, region: str, now_us: int) -> None:
        """Set a region's clock, and with it those that nothing has set yet."""
        for name, other in self.world.items():
            if name == region or not other.now_us:
                other.now_us = now_us

    # --- what replicators do ------------------------------------------------------------------

    def change(self, region: str, record: int) -> Change:
        """What a record of a region's stream means; the first is number 1."""
        at_home = self.world[region]
        for shard in at_home.stream.shards:
            for found in shard.records:
                if found.sequence == record:
                    return self._transformers[region].change(found, at_home.now_us)
        raise LookupError(f"{region} has no record {record}")

    def settle(self, region: str, record: int) -> Step[Settlement]:
        """Begin the step at home of one record."""
        return self.settle_change(region, self.change(region, record))

    def settle_change(self, region: str, change: Change) -> Step[Settlement]:
        """Begin the step at home of a change."""
        return Step(self.world, region, self._plan.settle(region, change))

    def deliver(self, target: str, shipment: Shipment | None) -> Step[Delivery]:
        """Begin to bring a shipment to a target."""
        assert shipment is not None, "nothing is shipped"
        return Step(self.world, shipment.version.origin, self._plan.deliver(target, shipment))

    def ship(self, region: str, record: int, *targets: str) -> Shipment:
        """Settle a record and bring what it ships to some targets; returns the shipment."""
        shipment = self.settle(region, record).finish().shipment
        assert shipment is not None, "nothing is shipped"
        for target in targets:
            self.deliver(target, shipment).finish()
        return shipment

    def passed(self, region: str, record: int) -> None:
        """All records of a region up to this one are dealt with: `drain` begins after it."""
        self._settled[region] = record

    def drain(self, *regions: str) -> None:
        """Settle and deliver every record that is left, in order (of some regions alone)."""
        moved = True
        while moved:
            moved = False
            for region in regions or self._settled:
                while self._settled[region] < self.world[region].stream.written:
                    self._settled[region] += 1
                    self._process(region, self.change(region, self._settled[region]))
                    moved = True

    def run(self, region: str, *records: int) -> None:
        """Settle, deliver and release some records."""
        for record in records:
            self._process(region, self.change(region, record))

    def _process(self, region: str, change: Change) -> None:
        settlement = self.settle_change(region, change).finish()
        if settlement.shipment is not None:
            for target in self.world:
                if target != region:
                    self.deliver(target, settlement.shipment).finish()
        if settlement.release:
            for operation in self._plan.release(region, change):
                self.world[region].execute(operation)

    # --- what is there ------------------------------------------------------------------------

    def value(self, region: str) -> str | None:
        """The value that stands in a region, None where no item does."""
        image = self.world[region].image(KEY)
        return None if image is None else str(image["a"]["S"])

    def values(self) -> list[str | None]:
        """What stands in every region."""
        return [self.value(region) for region in self.world]

    def records(self, region: str) -> int:
        """How many records a region's stream has."""
        return self.world[region].stream.written


def _image(value: str, expires: bool) -> Image:
    image: Image = {**KEY.attributes, "a": {"S": value}}
    return {**image, EXPIRES: {"N": "1"}} if expires else image
