"""From a stream record to the change that the protocol works on: pure.

Here the marker is taken out of the images, the record is classified, times from beyond the bound
are clamped, and records that newer ones of the same key make superfluous are folded into them.

This module must not know shards, targets or I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from conflict.operations import Image, Item, Key, believed
from conflict.origin import Change, Nature, classify
from replicator.errors import Poison
from replicator.records import EventName, Mode, Record, TtlDeletes


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """Turns the records of one table in one region into changes.

    `key_of` makes the canonical key of an item from its key attributes; `future_bound_us` is how
    far ahead of the clock a version may lie.
    """

    home: str
    mode: Mode
    marker: str
    key_of: Callable[[Image], Key]
    ttl_deletes: TtlDeletes = TtlDeletes.REPLICATE
    future_bound_us: int = 60_000_000

    def change(self, record: Record, now_us: int) -> Change:
        """What a record means.

        Raises Poison for a record that says nothing: neither images nor a known event.
        """
        limit_us = now_us + self.future_bound_us
        old, new = self._item(record.old), self._item(record.new)
        return Change(
            key=self.key_of(record.keys),
            sequence=record.sequence,
            created_us=min(record.created_us, limit_us),
            limit_us=limit_us,
            nature=self._nature(record, old, new, limit_us),
            old=old,
            new=new,
            fresh=record.event is EventName.INSERT,
        )

    def _item(self, image: Image | None) -> Item | None:
        if image is None:
            return None
        marker = image.get(self.marker)
        if marker is None:
            return Item(image, None)
        bare = {name: value for name, value in image.items() if name != self.marker}
        return Item(bare, marker if self.mode is Mode.MULTI_WRITER else None)

    def _nature(self, record: Record, old: Item | None, new: Item | None, limit_us: int) -> Nature:
        if record.event is None and old is None and new is None:
            raise Poison("the record has neither images nor a known event name")
        gone = new is None and record.event in (EventName.REMOVE, None)
        if gone and record.ttl and self.ttl_deletes is TtlDeletes.IGNORE:
            return Nature.UNCHANGED if self.mode is Mode.ONE_WAY else Nature.EXPIRED
        if self.mode is Mode.MULTI_WRITER:
            return classify(self.home, old, new, limit_us)
        if gone:
            return Nature.DELETED
        return Nature.UNCHANGED if new is not None and old == new else Nature.WRITTEN


def folds_into(earlier: Change, later: Change) -> bool:
    """Whether `later`, the next change of the same key, makes `earlier` superfluous.

    Only local puts fold: a delete settles what was held, and an echo never replaces a local write.
    """
    return earlier.nature.is_local_put and later.nature.is_local_put


def fold(earlier: Change, later: Change) -> Change:
    """`later`, knowing what `earlier` had seen: the floor, and the version overwritten first."""
    seen = [
        believed(item.marker, earlier.limit_us)
        for item in (earlier.old, earlier.new)
        if item is not None
    ]
    floor_us = max(
        earlier.floor_us,
        later.floor_us,
        earlier.created_us,
        *(version.time_us for version in seen if version is not None),
    )
    base = earlier.base or (earlier.old.version if earlier.old else None)
    return replace(later, floor_us=floor_us, base=base, fresh=earlier.fresh)
