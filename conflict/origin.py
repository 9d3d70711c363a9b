"""What a stream record is: an echo of replication, or a write by this region's own application.

Loop breaking rests on this alone. Whether a marker is *present* tells nothing: an application's
UpdateItem keeps the marker that it found, and its PutItem drops it. What tells is whether the
marker *moved*: a record is an echo exactly when its new marker differs from its old one, did not
go back, and was not put there by this region's own application. A replicator brings a write under
kind r, so that kind a is an application's in any name.

    old marker   new marker                         the record is
    any          the same, gone, or an older one    WRITTEN   a local write without a version
    any          newer, own origin, kind a          STAMPED   a local write that carries its version
    any          newer, other origin, kind a        WRITTEN   stamped in the name of another region
    any          newer, own origin, kind s          SETTLED   our stamp on a local write
    any          newer, kind x                      MARKED    a replicator is taking the item out
    any          newer, anything else               ARRIVED   brought or put back by a replicator
    kind x       item gone                          TAKEN_OUT the end of MARKED
    any other    item gone                          DELETED   a local delete
    no item      any, of kind s or x                WRITTEN   a copy: no replicator creates such
    images equal                                    UNCHANGED (some engines tell such; AWS does not)

This module must not know tables, shards or clocks.
"""

from __future__ import annotations

from enum import Enum

from conflict.operations import Item, Key
from conflict.values import value
from conflict.version import Kind, Version, order


class Nature(Enum):
    """What a stream record is, see the table above."""

    UNCHANGED = "unchanged"
    WRITTEN = "written"
    STAMPED = "stamped"
    DELETED = "deleted"
    EXPIRED = "expired"
    """A delete by the time-to-live service that is not to be replicated; told by the caller."""
    SETTLED = "settled"
    ARRIVED = "arrived"
    MARKED = "marked"
    TAKEN_OUT = "taken_out"

    def __init__(self, name: str) -> None:
        """Work out once what is asked of every record."""
        self.is_local_put = name in ("written", "stamped")
        """A write of the region's own application that left an item."""
        self.is_local_delete = name in ("deleted", "expired")
        """A delete by the region's own application, or by its time-to-live."""
        self.is_ignored = name == "unchanged"
        """A record that stands for no change."""
        self.needs_nothing = name in ("unchanged", "settled")
        """A record that no step has to follow."""


@value(frozen=True, slots=True)
class Change:
    """One stream record, ready for the protocol.

    `created_us` is the record's time, already bounded; `fresh`: the write created the item;
    `earliest_us` and `base` come from the records that this one replaces (coalescing): the
    earliest time after them, and the version that the first of them overwrote. `again`: it is on
    record that this change was settled at home before.
    """

    key: Key
    sequence: int
    created_us: int
    nature: Nature
    old: Item | None
    new: Item | None
    fresh: bool = False
    earliest_us: int = -1
    base: Version | None = None
    again: bool = False


_OF_STANDING_ITEMS = (Kind.SETTLED, Kind.REMOVING)
"""The kinds of marker that a replicator puts on items that stand, and never creates one with."""


def moved(old: Version | None, new: Version | None) -> bool:
    """Whether the marker changed and did not go back or away."""
    return new is not None and new != old and (old is None or order(new) >= order(old))


def classify(home: str, old: Item | None, new: Item | None) -> Nature:
    """Tell what a record of region `home` is by its images (None: there was or is no item)."""
    if new is None:
        before = None if old is None else old.version
        taken_out = before is not None and before.kind is Kind.REMOVING
        return Nature.TAKEN_OUT if taken_out else Nature.DELETED
    if old is not None and old.marker == new.marker and old.image == new.image:
        return Nature.UNCHANGED
    after = new.version
    if after is None or not moved(old.version if old else None, after):
        return Nature.WRITTEN
    if old is None and after.kind in _OF_STANDING_ITEMS:
        return Nature.WRITTEN
    return _nature_of_moved(home, after)


def _nature_of_moved(home: str, marker: Version) -> Nature:
    if marker.kind is Kind.REMOVING:
        return Nature.MARKED
    if marker.kind is Kind.APPLICATION:
        return Nature.STAMPED if marker.origin == home else Nature.WRITTEN
    if marker.kind is Kind.SETTLED:
        return Nature.SETTLED
    return Nature.ARRIVED
