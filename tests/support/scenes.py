"""Small worlds for the protocol's steps, and every place where one can be cut.

A step is run against regions in memory. `reruns` runs it once from each place where a process can
die: before each operation, and after it took effect, once and twice; each time it is then run again
from its beginning, as the next worker does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from conflict.merge import Shipment, Steps
from conflict.operations import (
    AnyOperation,
    Image,
    Item,
    Key,
    KeyState,
    Outcome,
    Result,
    judged,
    marker_of,
)
from conflict.origin import Change
from conflict.version import Kind, Version
from replicator.records import Mode, Record, TtlDeletes
from replicator.transformer import Transformer
from support.memory import MARKER, MemoryRegion

T = TypeVar("T")

FUTURE_BOUND_US = 1_000
KEY = Key({"id": {"S": "1"}}, "1")


def image(content: str) -> Image:
    """The image of the item of these tests."""
    return {**KEY.attributes, "content": {"S": content}}


def item(content: str, version: Version | None = None) -> Item:
    """An item, under a version if one is given."""
    return Item(image(content), marker_of(version) if version else None)


def at(
    time_us: int, origin: str = "eu", sequence: int = 1, kind: Kind = Kind.REPLICATED
) -> Version:
    """A version."""
    return Version(time_us, origin, sequence, kind)


def shipment(
    version: Version, content: str | None, *, fresh: bool = False, base: Version | None = None
) -> Shipment:
    """What the targets are to hold (content None: the item's absence)."""
    return Shipment(
        key=KEY,
        version=version,
        item=None if content is None else item(content, version),
        created_us=version.time_us,
        base=base,
        fresh=fresh,
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What one region knows of the key, and how much its stream told so far."""

    item: Item | None
    state: KeyState


class World:
    """Regions in memory, with one item, and the clocks that their streams tell.

    `now_us` is the time of the workers, by which they judge what they read.
    """

    def __init__(self, *regions: str) -> None:
        self.regions = {name: MemoryRegion(name) for name in regions}
        self.done: list[AnyOperation] = []
        self.now_us = 0

    def __getitem__(self, name: str) -> MemoryRegion:
        return self.regions[name]

    def facts(self) -> dict[str, Facts]:
        """What is durable."""
        return {
            name: Facts(region.items.get(KEY.id), region.states.get(KEY.id, KeyState()))
            for name, region in self.regions.items()
        }

    def execute(self, operation: AnyOperation) -> Result:
        """One operation, noted; an answer is judged as a RegionPort judges it."""
        self.done.append(operation)
        result = self.regions[operation.region].execute(operation)
        limit_us = self.now_us + FUTURE_BOUND_US
        if isinstance(result, Outcome):
            return Outcome(result.done, judged(result.item, limit_us))
        return judged(result, limit_us) if isinstance(result, Item) else result

    def run(
        self, steps: Steps[T], *, before_each: Callable[[int, AnyOperation], None] | None = None
    ) -> T:
        """A step from its beginning to its end; others may do something before each operation."""
        answer: Result = None
        for number in itertools.count():
            try:
                operation = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if before_each is not None:
                before_each(number, operation)
            answer = self.execute(operation)
        raise AssertionError("a count has no end")

    def cut(self, steps: Steps[T], after: int, *, took_effect: bool) -> bool:
        """A step up to a call whose answer nobody hears; False if it ended before."""
        answer: Result = None
        for number in itertools.count():
            try:
                operation = steps.send(answer)
            except StopIteration:
                return False
            if number == after:
                if took_effect:
                    self.execute(operation)
                steps.close()
                return True
            answer = self.execute(operation)
        raise AssertionError("a count has no end")

    # --- what an application does -------------------------------------------------------------

    def write(self, region: str, written: Item | None, *, now_us: int) -> Record:
        """An application's write or (None) delete; returns its stream record."""
        self.regions[region].now_us = now_us
        self.now_us = max(self.now_us, now_us)
        self.regions[region].write(KEY, written)
        return self.last_record(region)

    def last_record(self, region: str) -> Record:
        """The newest record of a region's stream."""
        (shard,) = self.regions[region].stream.shards
        return shard.records[-1]


def change_of(
    home: str,
    record: Record,
    *,
    mode: Mode = Mode.MULTI_WRITER,
    ttl_deletes: TtlDeletes = TtlDeletes.REPLICATE,
) -> Change:
    """What a record means, read at the time it tells."""
    transformer = Transformer(
        home=home,
        mode=mode,
        marker=MARKER,
        key_of=lambda attributes: Key(attributes, str(attributes["id"]["S"])),
        ttl_deletes=ttl_deletes,
        future_bound_us=FUTURE_BOUND_US,
    )
    return transformer.change(record, record.created_us)


def reruns(
    make: Callable[[], tuple[World, Callable[[], Steps[T]]]], *, cuts_max: int = 2
) -> Iterator[tuple[str, World, T]]:
    """Every way to be cut up to so many times and then run whole.

    Yields what was done to it in words, the world it ended in, and the result of the last run.
    """
    for plan in _plans(make, cuts_max):
        world, start = make()
        if all(world.cut(start(), after, took_effect=effect) for after, effect in plan):
            words = ", then ".join(
                f"cut {'after' if effect else 'before'} operation {after + 1}"
                for after, effect in plan
            )
            yield words, world, world.run(start())


def _plans(
    make: Callable[[], tuple[World, Callable[[], Steps[T]]]], cuts_max: int
) -> Iterator[tuple[tuple[int, bool], ...]]:
    world, start = make()
    world.run(start())
    longest = len(world.done) + 2  # a run that finds its own traces may take other turns
    places = list(itertools.product(range(longest), (False, True)))
    for cuts in range(1, cuts_max + 1):
        yield from itertools.product(places, repeat=cuts)
