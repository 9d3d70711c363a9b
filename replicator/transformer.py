"""From a stream record to the change that the protocol works on: pure.

Here the marker is taken out of the images, the record is classified, times from beyond the bound
are clamped, and records that newer ones of the same key make superfluous are folded into them.

This module must not know shards, targets or I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from conflict.operations import Image, Item, Key, judged
from conflict.origin import Change, Nature, classify
from conflict.version import earliest_after
from replicator.errors import Fatal, Keyless, Poison
from replicator.images import parted
from replicator.records import EventName, Mode, Record, TtlDeletes
from replicator.view import WHOLE, View

_NO_KEY = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError)
"""What making a key of attributes raises that are not there, or are not those of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """Turns the records of one table in one region into changes.

    `key_of` makes the canonical key of an item from its key attributes; `future_bound_us` is how
    far ahead of the clock a version may lie; `view` is what the copies hold of an item.
    """

    home: str
    mode: Mode
    marker: str
    key_of: Callable[[Image], Key]
    ttl_deletes: TtlDeletes = TtlDeletes.REPLICATE
    future_bound_us: int = 60_000_000
    view: View = WHOLE

    def change(self, record: Record, now_us: int) -> Change:
        """What a record means.

        Raises: Poison for a record that says nothing, neither images nor a known event; Keyless
        for one of no item; Fatal for a write without its image where every region writes: it must
        not pass for a delete.
        """
        key = self.key(record)
        created_us = min(record.created_us, now_us + self.future_bound_us)
        limit_us = created_us + self.future_bound_us  # not of now: a replay judges alike
        old = judged(self._item(record.old), limit_us)
        new = judged(self._item(record.new), limit_us)
        change = Change(
            key=key,
            sequence=record.sequence,
            created_us=created_us,
            nature=self._nature(record, old, new),
            old=old,
            new=new,
            fresh=record.event is EventName.INSERT,
        )
        return change if self.view.is_whole else self._viewed(change, key.attributes)

    def key(self, record: Record) -> Key:
        """The key of the item that a record is about, by its images where its keys do not tell.

        Raises: Keyless.
        """
        try:
            return self.key_of(record.keys)
        except _NO_KEY:
            key = self._key_in(record.new) or self._key_in(record.old)
        if key is None:
            raise Keyless("a stream record names no item")
        return key

    def is_ahead(self, record: Record, now_us: int) -> bool:
        """Whether the record claims to be from beyond the bound, and was clamped."""
        return record.created_us > now_us + self.future_bound_us

    def _key_in(self, image: Image | None) -> Key | None:
        try:
            return None if image is None else self.key_of(image)
        except _NO_KEY:
            return None

    def _item(self, image: Image | None) -> Item | None:
        if image is None:
            return None
        content, marker = parted(image, self.marker)
        return Item(content, marker if self.mode is Mode.MULTI_WRITER else None)

    def _viewed(self, change: Change, keys: Image) -> Change:
        """The change as a copy sees it: what was not and is not replicated, has not changed there.

        An item that is not meant any more is deleted in the copies, one that comes to be meant is
        created there. Where every region writes a view looks at keys only (view.wrong_view).
        """
        if self.mode is Mode.MULTI_WRITER:
            unmeant = not self.view.matches(keys)
            return replace(change, nature=Nature.UNCHANGED) if unmeant else change
        old, new = self.view.item(change.old), self.view.item(change.new)
        was_away = change.fresh or (change.old is not None and old is None)
        nature = change.nature
        if nature is Nature.DELETED and was_away:
            nature = Nature.UNCHANGED
        elif nature is Nature.WRITTEN and change.new is not None:
            if new is None:
                nature = Nature.UNCHANGED if was_away else Nature.DELETED
            elif new == old:
                nature = Nature.UNCHANGED
        return replace(change, nature=nature, old=old, new=new, fresh=was_away)

    def _nature(self, record: Record, old: Item | None, new: Item | None) -> Nature:
        if record.event is None and old is None and new is None:
            raise Poison("the record has neither images nor a known event name")
        gone = new is None and record.event in (EventName.REMOVE, None)
        ignored = gone and record.ttl and self.ttl_deletes is TtlDeletes.IGNORE
        if self.mode is Mode.MULTI_WRITER:
            if new is None and not gone:
                raise Fatal("the stream leaves out new images; it must be NEW_AND_OLD_IMAGES")
            nature = classify(self.home, old, new)
            # What was marked is a replicator's delete, whoever came first.
            return Nature.EXPIRED if ignored and nature is Nature.DELETED else nature
        if gone:
            return Nature.UNCHANGED if ignored else Nature.DELETED
        return Nature.UNCHANGED if new is not None and old == new else Nature.WRITTEN


def folds_into(earlier: Change, later: Change) -> bool:
    """Whether `later`, the next change of the same key, makes `earlier` superfluous.

    Only local puts fold: a delete settles what was held, and an echo never replaces a local write.
    """
    forward = earlier.sequence < later.sequence
    return forward and earlier.nature.is_local_put and later.nature.is_local_put


def fold(earlier: Change, later: Change) -> Change:
    """`later`, knowing what `earlier` had seen: it follows it, and overwrote what it overwrote."""
    seen = [item.version for item in (earlier.old, earlier.new) if item is not None]
    # The time that `earlier` would have got; at the same time the higher sequence is the later.
    earliest_us = max(
        earlier.created_us,
        earlier.earliest_us,
        later.earliest_us,
        *(earliest_after(version) for version in seen),
    )
    base = earlier.base or (earlier.old.version if earlier.old else None)
    return replace(later, earliest_us=earliest_us, base=base, fresh=earlier.fresh)
