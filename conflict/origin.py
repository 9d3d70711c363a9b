"""What a stream record is: an echo of replication, or a write by this region's own application.

Loop breaking rests on this alone. Whether a marker is *present* tells nothing: an application's
UpdateItem keeps the marker that it found, and its PutItem drops it. What tells is whether the
marker *moved*: a record is an echo exactly when its new marker differs from its old one, did not
go back, and was not put there by this region's own application.

    old marker   new marker                         the record is
    any          the same, gone, or an older one    WRITTEN   a local write without a version
    any          newer, own origin, kind a          STAMPED   a local write that carries its version
    any          newer, own origin, kind s          SETTLED   our stamp on a local write
    any          newer, kind x                      MARKED    a replicator is taking the item out
    any          newer, anything else               ARRIVED   brought or put back by a replicator
    kind x       item gone                          TAKEN_OUT the end of MARKED
    any other    item gone                          DELETED   a local delete
    images equal                                    UNCHANGED (some engines tell such; AWS does not)

This module must not know tables, shards or clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from conflict.operations import Item, Key
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

    @property
    def is_local_put(self) -> bool:
        """A write of the region's own application that left an item."""
        return self in (Nature.WRITTEN, Nature.STAMPED)

    @property
    def is_local_delete(self) -> bool:
        """A delete by the region's own application, or by its time-to-live."""
        return self in (Nature.DELETED, Nature.EXPIRED)

    @property
    def is_ignored(self) -> bool:
        """A record that stands for no change."""
        return self is Nature.UNCHANGED

    @property
    def needs_nothing(self) -> bool:
        """A record that no step has to follow."""
        return self in (Nature.UNCHANGED, Nature.SETTLED)


@dataclass(frozen=True, slots=True)
class Change:
    """One stream record, ready for the protocol.

    `created_us` is the record's time, already bounded; `fresh`: the write created the item;
    `earliest_us` and `base` come from the records that this one replaces (coalescing): the
    earliest time after them, and the version that the first of them overwrote.
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
    return _nature_of_moved(home, after)


def _nature_of_moved(home: str, marker: Version) -> Nature:
    if marker.kind is Kind.REMOVING:
        return Nature.MARKED
    if marker.origin == home and marker.kind is Kind.APPLICATION:
        return Nature.STAMPED
    if marker.kind is Kind.SETTLED:
        return Nature.SETTLED
    return Nature.ARRIVED
