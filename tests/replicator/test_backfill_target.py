"""A page brought into one target: in batches where it can be, one by one where it must be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from conflict.operations import Image, Item, Key, KeyState, RaiseTombstone, marker_of
from conflict.seed import Seeded, Terms
from conflict.version import Kind, Version
from replicator.backfill.inserts import BATCH_STATEMENTS_MAX, Inserts
from replicator.backfill.tally import REFUSED, UNITS
from replicator.backfill.target import (
    SECOND_LOOK_S,
    PaidTable,
    Scanned,
    SeparateStates,
    Target,
    TargetParts,
    scanned,
)
from replicator.backfill.work import Watch
from replicator.errors import Fatal, Malformed, Poison, Throttled
from replicator.rate import Bucket
from replicator.writer import RegionPort, Writer, WriterLimits
from support.adapters import MemoryPorts
from support.clock import VirtualClock
from support.memory import MARKER, MemoryRegion

HOME, AWAY = "us-east-1", "eu-west-1"
SEED = Version(0, HOME, 0, Kind.REPLICATED)
DELETED = Version(10**15, HOME, 9, Kind.APPLICATION)
Wire = dict[str, Any]


def key(number: int) -> Key:
    """A key by number."""
    return Key({"id": {"S": str(number)}}, f"S{number}")


def image(number: int, text: str = "old") -> Image:
    """An image by number."""
    return {**key(number).attributes, "text": {"S": text}}


def page(count: int) -> list[Scanned]:
    """Scanned items that never had a version."""
    return [scanned(key(n), Item(image(n), None), MARKER) for n in range(count)]


class Batches:
    """An Api that inserts into a region in memory; `during`: what happens in between."""

    def __init__(self, region: MemoryRegion) -> None:
        self.region = region
        self.calls = 0
        self.during: Callable[[], None] = lambda: None

    async def call(self, operation: str, request: Mapping[str, Any]) -> Wire:
        assert operation == "BatchExecuteStatement"
        self.calls += 1
        self.during()
        return {"Responses": [self._insert(s["Parameters"]) for s in request["Statements"]]}

    def _insert(self, values: Sequence[Any]) -> Wire:
        number, text, marker = values
        at = key(int(number["S"]))
        if at.id in self.region.items:
            return {"Error": {"Code": "DuplicateItem"}}
        self.region.write(at, Item({**at.attributes, "text": text}, marker))
        return {}


class Scene:
    """A target in memory and in virtual time."""

    def __init__(self, *, policed: bool = True, authority: bool = False, rate: float | None = None):
        self.clock = VirtualClock()
        self.region, self.source = MemoryRegion(AWAY), MemoryRegion(HOME)
        self.ports = MemoryPorts(self.region, sleep=self.clock.sleep)
        self.batches = Batches(self.region)
        self.parked: list[tuple[str, Item, str]] = []
        self.terms = Terms(origin=HOME, overwrite_unstamped=authority, policed=policed)
        self.rate = rate

    def settle(self, *pages: list[Scanned]) -> Counter[str]:
        """Settle pages, one after the other; the counts of all of them."""

        async def main() -> Counter[str]:
            target = self._target()
            total: Counter[str] = Counter()
            for items in pages:
                total += await target.settle(items)
            return total

        return self.clock.run(main())

    def _target(self) -> Target:
        states = SeparateStates(self.ports)
        bucket = Bucket(self.rate, monotonic_s=self.clock.monotonic_s, sleep=self.clock.sleep)
        port = RegionPort(
            table=PaidTable(table=self.ports, bucket=bucket, marker=MARKER),
            states=states,
            concurrency=8,
            limit_us=self.clock.now_us,
        )
        writer = Writer(
            regions={AWAY: port},
            limits=WriterLimits(),
            observer=Watch(asyncio.get_running_loop().create_future()),
            sleep=self.clock.sleep,
            rng=Random(1),
        )
        return Target(
            TargetParts(
                region=AWAY,
                terms=self.terms,
                is_authority=False,
                writer=writer,
                states=states,
                inserts=Inserts(
                    api=self.batches, table="orders", region=AWAY, writer=writer, bucket=bucket
                ),
                join=lambda item: {**item.image, MARKER: item.marker},
                read_again=self._read_again,
                park=self._park,
                written=lambda _: None,
                sleep=self.clock.sleep,
            )
        )

    async def _read_again(self, keys: Sequence[Key]) -> list[Item | None]:
        return [self.source.items.get(at.id) for at in keys]

    async def _park(self, region: str, at: Key, item: Item, reason: str) -> None:
        del region
        self.parked.append((at.id, item, reason))


def test_an_empty_table_is_filled_in_batches() -> None:
    """No item needs a call of its own."""
    scene = Scene()
    assert scene.settle(page(60)) == Counter(written=60, units=60)
    assert scene.batches.calls == 3
    assert scene.ports.writes == []
    assert scene.region.items["S7"] == Item(image(7), marker_of(SEED))


def test_what_was_deleted_is_not_inserted() -> None:
    """The tombstones of a page are read before it is written."""
    scene = Scene()
    scene.region.states["S3"] = KeyState(DELETED)
    assert scene.settle(page(5)) == Counter(written=4, deleted=1, units=4)
    assert "S3" not in scene.region.items


def test_a_delete_between_the_look_and_the_insert_is_seen_after() -> None:
    """In a table that polices itself not; in a one-way target at once."""
    for policed in (True, False):
        scene = Scene(policed=policed, authority=not policed)

        def delete(scene: Scene = scene) -> None:
            scene.region.execute(RaiseTombstone(AWAY, key(2), DELETED))

        scene.batches.during = delete
        counts = scene.settle(page(4))
        assert ("S2" in scene.region.items) is policed
        assert counts[Seeded.WRITTEN.value] == (4 if policed else 3)
        assert counts[Seeded.DELETED.value] == (0 if policed else 1)


def test_what_stands_is_left_to_the_rules() -> None:
    """A live write stays, equal content counts as such."""
    scene = Scene()
    live = Item(image(1, "live"), marker_of(Version(10**15, AWAY, 3, Kind.SETTLED)))
    scene.region.items |= {"S1": live, "S2": Item(image(2), None)}
    assert scene.settle(page(4)) == Counter(written=2, newer=1, equal=1, units=2)
    assert scene.region.items["S1"] == live


def test_a_second_run_does_not_try_to_insert_what_stands() -> None:
    """After a page of which most stood already, the next is looked at first."""
    scene = Scene()
    scene.settle(page(50))
    calls = scene.batches.calls
    scene.settle(page(50), page(50), page(50))
    assert scene.batches.calls == calls + 2
    assert scene.ports.writes == []


def test_a_dispute_is_looked_at_again_after_a_pause() -> None:
    """By then a live write carries its version, and what has gone at the source is gone."""
    scene = Scene()
    scene.region.items |= {f"S{n}": Item(image(n, "own"), None) for n in range(4)}
    scene.source.items |= {f"S{n}": Item(image(n), None) for n in range(3)}

    async def stamp_meanwhile() -> None:
        await scene.clock.sleep(SECOND_LOOK_S / 2)
        version = Version(10**15, AWAY, 3, Kind.SETTLED)
        scene.region.items["S1"] = scene.region.items["S1"].stamped(version)
        scene.region.items["S2"] = Item(image(2), None)

    async def main() -> Counter[str]:
        meanwhile = asyncio.create_task(stamp_meanwhile())
        counts = await scene._target().settle(page(4))
        await meanwhile
        return counts

    counts = scene.clock.run(main())
    assert counts == Counter(disputed=1, newer=1, equal=1, deleted=1)


def test_what_can_never_be_written_is_parked() -> None:
    """With the version that it would have had."""
    scene = Scene()
    scene.batches.during = lambda: (_ for _ in ()).throw(Poison("too large"))
    scene.ports.fail("put", Poison("too large"))
    counts = scene.settle(page(2))
    assert (counts[REFUSED], counts["written"]) == (1, 1)
    ((_, item, reason),) = scene.parked
    assert (item.version, reason) == (SEED, "too large")


def test_single_writes_are_throttled_and_never_dropped() -> None:
    """Each is made until it is answered."""
    scene = Scene()
    wide: Image = {**key(0).attributes, **{"a" * 200 + str(n): {"S": ""} for n in range(50)}}
    scene.ports.fail("put", *[Throttled("slow down")] * 5)
    counts = scene.settle([scanned(key(0), Item(wide, None), MARKER)])
    assert counts["written"] == 1
    assert scene.region.image(key(0)) == wide


def test_the_write_rate_holds_in_both_ways() -> None:
    """Batches and single writes are paid from one bucket."""
    scene = Scene(rate=10.0)
    counts = scene.settle(page(100))
    assert counts[UNITS] == 100
    assert scene.clock.monotonic_s() >= 9.0


def test_what_no_batch_takes_is_paid_for_once() -> None:
    """Where batches are not allowed only the first is paid for in vain, or half the rate is."""
    scene = Scene(rate=10.0)
    scene.batches.during = lambda: (_ for _ in ()).throw(Fatal("AccessDeniedException"))
    counts = scene.settle(page(100), page(200)[100:])
    assert counts[UNITS] == 200
    assert scene.clock.monotonic_s() < (200 + BATCH_STATEMENTS_MAX) / 10.0 + 1.0


def test_a_row_that_cannot_be_read_stops_its_own_key() -> None:
    """It is refused and parked with the reason; every other item is written, in both ways."""
    for policed in (True, False):
        scene = Scene(policed=policed, authority=not policed)
        scene.ports = WithBadRows(scene.region, {"S3", "S77"}, scene.clock)
        counts = scene.settle(page(120))
        assert (counts[Seeded.WRITTEN.value], counts[REFUSED]) == (118, 2)
        assert len(scene.region.items) == 118
        assert sorted(at for at, _, _ in scene.parked) == ["S3", "S77"]
        assert {reason for _, _, reason in scene.parked} == {"its row is malformed"}


def test_a_row_that_cannot_be_read_does_not_hold_up_who_goes_on() -> None:
    """The second look of one that was killed passes it by, and takes out what it may."""
    scene = Scene(policed=False, authority=True)
    scene.ports = WithBadRows(scene.region, {"S3"}, scene.clock)
    scene.region.items |= {f"S{n}": Item(image(n), marker_of(SEED)) for n in range(5)}
    scene.region.states["S4"] = KeyState(DELETED)

    async def look() -> None:
        await scene._target().look_again([key(number) for number in range(5)])

    scene.clock.run(look())
    assert sorted(scene.region.items) == ["S0", "S1", "S2", "S3"]


class WithBadRows(MemoryPorts):
    """A region whose control table holds some rows that cannot be read."""

    def __init__(self, region: MemoryRegion, bad: set[str], clock: VirtualClock) -> None:
        super().__init__(region, sleep=clock.sleep)
        self._bad = bad

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        if any(at.id in self._bad for at in keys):
            raise Malformed("its row is malformed")
        return await super().read(keys)
