"""The applications of a simulated world: they write to the table of their own region.

They know nothing of replication, or stamp some of their writes. What they wrote is remembered, so
that content which nobody wrote is found out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from conflict.operations import Image, Item, Key, marker_of
from conflict.version import Kind, Version
from simulation.region import EXPIRES, Region, may_expire
from simulation.schedule import FUTURE_BOUND_US, Habits

STAMP_SEQUENCE_BASE = 10**6


class Application:
    """The writers of every region, and the time-to-live services."""

    def __init__(self, habits: Habits, world: Mapping[str, Region], rng: random.Random) -> None:
        self._habits, self._world, self._rng = habits, world, rng
        self.writes = 0
        self._produced: dict[str, list[Image]] = {}

    def has_written(self, key: Key, image: Image) -> bool:
        """Whether some write produced this content."""
        return image in self._produced.get(key.id, ())

    def stock(self, key: Key) -> None:
        """Put an item everywhere that no stream tells of: it stood there before there was one."""
        image = {**key.attributes, "a": {"S": "stock"}}
        self._produced.setdefault(key.id, []).append(image)
        for region in self._world.values():
            region.items[key.id] = Item(image, None)

    def write(self, region: str, key: Key) -> None:
        """One random write: put, partial update, delete, or a stamped put."""
        chance = self._rng.random()
        if chance < 0.35 or (chance >= 0.85 and not self._habits.stamping):
            self.put(region, key)
        elif chance < 0.65:
            self.update(region, key)
        elif chance < 0.85:
            self.delete(region, key)
        else:
            self._put_stamped(region, key)

    def put(self, region: str, key: Key) -> None:
        """Replace the item; the marker goes with what it replaces."""
        self._store(region, key, self._fresh(key), None)

    def update(self, region: str, key: Key) -> None:
        """Set or remove one attribute; the marker that stands there stays."""
        standing = self._world[region].items.get(key.id)
        if standing is None:
            self._store(region, key, self._fresh(key), None)
            return
        name = self._rng.choice(["a", "b", "c", EXPIRES] if may_expire(standing.image) else "abc")
        image = dict(standing.image)
        if name in image and (name == EXPIRES or self._rng.random() < 0.3):
            del image[name]
        else:
            image[name] = self._value()
        self._store(region, key, image, standing)

    def delete(self, region: str, key: Key) -> None:
        """Delete the item if there is one."""
        self.writes += 1
        if key.id in self._world[region].items:
            self._world[region].write(key, None)

    def expire(self, region: str, key: Key, *, early: bool) -> bool:
        """Let the time-to-live service delete the item if it may; whether it did.

        `early`: even though its last write has not been given a version.
        """
        item = self._world[region].items.get(key.id)
        if item is None or not may_expire(item.image):
            return False
        if item.version is None and not early:
            return False
        self.writes += 1
        self._world[region].expire(key)
        return True

    def _put_stamped(self, region: str, key: Key) -> None:
        standing = self._world[region].items.get(key.id)
        seen = standing.version if standing else None
        clock_us = self._world[region].now_us
        if self._habits.ahead_us and self.writes % 2:
            clock_us += self._habits.ahead_us
        if seen is not None and seen.time_us <= clock_us + FUTURE_BOUND_US:
            clock_us = max(clock_us, seen.time_us + 1)
        version = Version(clock_us, region, STAMP_SEQUENCE_BASE + self.writes, Kind.APPLICATION)
        self._store(region, key, self._fresh(key), Item({}, marker_of(version)))

    def _fresh(self, key: Key) -> Image:
        image = {**key.attributes, "a": self._value()}
        if self._habits.expire_rate and self._rng.random() < 0.5:
            image[EXPIRES] = {"N": "1"}
        return image

    def _value(self) -> dict[str, object]:
        return {"S": f"v{self.writes % self._habits.values}"}

    def _store(self, region: str, key: Key, image: Image, marked_as: Item | None) -> None:
        self.writes += 1
        self._produced.setdefault(key.id, []).append(image)
        self._world[region].write(key, Item(image, marked_as.marker if marked_as else None))
