"""What a seed decides: regions, keys, clocks, pace, faults; and what the application does."""

from __future__ import annotations

import random
from dataclasses import dataclass

from conflict.operations import Image, Item, Key, marker_of
from conflict.version import Kind, Version, order
from replicator.records import ViewType
from simulation.worker import FUTURE_BOUND_US, Faults, key_of
from support.memory import MemoryRegion

START_US = 1_000_000
STAMP_SEQUENCE_BASE = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule, as drawn from a seed."""

    seed: int
    regions: tuple[str, ...]
    keys: tuple[Key, ...]
    source: str | None
    """The one source of a one-way table; None where every region may write."""
    only_writer: str | None
    view: ViewType
    grain_us: int
    skew_us: dict[str, int]
    writes: int
    write_rate: float
    stamping: bool
    far_ahead: bool
    split_rate: float
    page_max: int
    faults: Faults
    reports_unchanged: bool


def draw(seed: int, regions: int | None = None) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    names = tuple("ABCDE"[: regions or rng.choice([2, 2, 3, 3, 3, 4, 5])])
    one_way = seed % 10 == 9
    single = seed % 8 == 0
    views = list(ViewType) if one_way else [ViewType.NEW_AND_OLD_IMAGES]
    wide = 1_000 if rng.random() < 0.1 else 30
    skewed = rng.random() >= 0.3
    crashes = rng.random() < 0.5
    return Schedule(
        seed=seed,
        regions=names,
        keys=tuple(key_of({"id": {"S": f"k{i}"}}) for i in range(rng.choice([1, 1, 2, 3]))),
        source="A" if one_way else None,
        only_writer="A" if one_way or single else None,
        view=rng.choice(views),
        grain_us=rng.choice([1, 10, 100]),
        skew_us={name: rng.randint(-wide, wide) if skewed else 0 for name in names},
        writes=rng.randint(2, 12),
        write_rate=rng.choice([0.02, 0.04, 0.12, 0.25]),
        stamping=rng.random() < 0.4,
        far_ahead=rng.random() < 0.05,
        split_rate=rng.choice([0, 0, 0.005, 0.02]),
        page_max=rng.choice([1, 3, 10]),
        faults=Faults(
            lost_answer=rng.choice([0, 0, 0.05]),
            crash=rng.choice([0.01, 0.03]) if crashes else 0,
            zombie=rng.choice([0, 0, 0.5]) if crashes else 0,
        ),
        reports_unchanged=rng.random() < 0.05,
    )


class Application:
    """The application's writers, which know nothing of replication (or stamp their own writes)."""

    def __init__(self, schedule: Schedule, world: dict[str, MemoryRegion]) -> None:
        self._schedule, self._world = schedule, world
        self.writes = 0
        self.produced: dict[str, list[Image]] = {key.id: [] for key in schedule.keys}
        """Every content that some write produced, by key."""

    def write(self, rng: random.Random, region: str, key: Key) -> None:
        """One random write: put, partial update, delete, or a stamped put."""
        self.writes += 1
        chance = rng.random()
        if chance < 0.35 or (chance >= 0.85 and not self._schedule.stamping):
            self.put(rng, region, key)
        elif chance < 0.65:
            self.update(rng, region, key)
        elif chance < 0.85:
            self.delete(region, key)
        else:
            self._put_stamped(region, key)

    def put(self, rng: random.Random, region: str, key: Key) -> None:
        """Replace the item; the marker goes with what it replaces."""
        self._store(region, key, Item({**key.attributes, "a": self._value()}, None))

    def update(self, rng: random.Random, region: str, key: Key) -> None:
        """Set or remove one attribute; the marker that stands there stays."""
        standing = self._world[region].items.get(key.id)
        name = rng.choice("abc")
        image = dict(standing.image) if standing else dict(key.attributes)
        if name in image and rng.random() < 0.3:
            del image[name]
        else:
            image[name] = self._value()
        self._store(region, key, Item(image, standing.marker if standing else None))

    def delete(self, region: str, key: Key) -> None:
        """Delete the item if there is one."""
        if key.id in self._world[region].items:
            self._world[region].write(key, None)

    def _put_stamped(self, region: str, key: Key) -> None:
        standing = self._world[region].items.get(key.id)
        seen = standing.version if standing else None
        clock_us = self._world[region].now_us
        if self._schedule.far_ahead and self.writes % 2:
            clock_us += 20 * FUTURE_BOUND_US
        if seen is not None and seen.time_us <= clock_us + FUTURE_BOUND_US:
            clock_us = max(clock_us, order(seen)[0] + 1)
        version = Version(clock_us, region, STAMP_SEQUENCE_BASE + self.writes, Kind.APPLICATION)
        image = {**key.attributes, "a": self._value()}
        self._store(region, key, Item(image, marker_of(version)))

    def _value(self) -> dict[str, object]:
        return {"S": f"v{self.writes}"}

    def _store(self, region: str, key: Key, item: Item) -> None:
        self.produced[key.id].append(item.image)
        self._world[region].write(key, item)
