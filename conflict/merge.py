"""Bringing one change into one region's table: puts, deletes, and what both rely on.

A put lands where the standing version is lower, by compare-and-set on the marker; a lost race is
read again. The first attempt is one conditional write, right for the common case of an item that
stands there with an older marker. Only where nothing stands that has a version the tombstone is
asked. A delete writes its tombstone first and takes the item out after; no transaction is needed,
since each region polices its own table.

This module must not know what a record was, nor who carries out an operation.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import field, replace
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from conflict.content import same
from conflict.operations import (
    Absent,
    AnyOperation,
    Delete,
    Get,
    Guard,
    Holds,
    Item,
    Key,
    KeyState,
    Older,
    Outcome,
    Put,
    RaiseTombstone,
    ReadState,
    Stamp,
)
from conflict.origin import Change
from conflict.resolve import is_beaten, is_buried
from conflict.values import value
from conflict.version import Kind, Version, order

T = TypeVar("T")
Steps: TypeAlias = Generator[AnyOperation, Any, T]

ATTEMPTS_MAX = 60
"""Lost races in a row for one key before a step gives up and is run again from its beginning."""


class Contended(Exception):
    """A key was written so often that a step lost ATTEMPTS_MAX races in a row."""


@value(frozen=True, slots=True)
class Shipment:
    """What the targets are to hold: an item under a version, or (item None) its absence.

    `base`: the version that the write overwrote, None where it is not known; `fresh`: the write
    created the item, so that targets most likely have none.
    """

    key: Key
    version: Version
    item: Item | None
    created_us: int
    base: Version | None = None
    fresh: bool = False


@value(frozen=True, slots=True)
class Settlement:
    """The end of `settle`: what to ship, and what remains to be done once it has arrived.

    `conflict`: the write was decided against `rival`, of another region, and stands if it `won`.
    What is told of a rival is evidence for the ledger and takes no part in comparisons.
    """

    shipment: Shipment | None = None
    release: bool = False
    conflict: bool = False
    rival: Item | None = field(default=None, compare=False)
    won: bool = field(default=True, compare=False)


NOTHING_TO_SHIP = Settlement()


class Effect(Enum):
    """What a delivery did."""

    APPLIED = "applied"
    """The target now holds the shipment."""
    DUPLICATE = "duplicate"
    """The target held it already."""
    STALE = "stale"
    """The target holds something newer."""
    YIELDED = "yielded"
    """The region's own application has written since; only at home."""


@value(frozen=True, slots=True)
class Delivery:
    """What a delivery did, and which version it displaced (None: nothing that had one).

    `met`: what stood there, displaced or not, as far as it was seen: evidence for the ledger.
    """

    effect: Effect
    displaced: Version | None = None
    met: Item | None = field(default=None, compare=False)


def shipment_of(change: Change, version: Version, item: Item | None) -> Shipment:
    """What a change ships under a version (item None: a delete)."""
    return Shipment(
        key=change.key,
        version=version,
        item=item,
        created_us=change.created_us,
        base=base_of(change),
        fresh=change.fresh,
    )


def base_of(change: Change) -> Version | None:
    """The version that a change overwrote, as far as it is known."""
    return change.base or (change.old.version if change.old else None)


def deliver(target: str, shipment: Shipment) -> Steps[Delivery]:
    """Bring a shipment into one target: it lands where it is the newest."""
    if shipment.item is None:
        return (yield from bury(target, shipment, own=False))
    return (yield from bring(target, shipment, own=False))


def is_conflict(shipment: Shipment, delivery: Delivery) -> bool:
    """Whether a delivery displaced a write that the shipped write's author had not seen."""
    lost = delivery.displaced
    return (
        lost is not None
        and lost.origin != shipment.version.origin
        and order(lost) != order(shipment.base)
    )


def newest(waiting: Shipment, incoming: Shipment) -> Shipment:
    """Which of two shipments of a key a target still needs: the one that wins there.

    It knows what the replaced one had overwritten, unless it has seen something foreign itself.
    """
    if order(waiting.version) > order(incoming.version):
        return waiting
    base = incoming.base
    if base is None or base.origin == incoming.version.origin:
        base = waiting.base
    return replace(incoming, base=base, fresh=waiting.fresh)


def bring(region: str, shipment: Shipment, *, own: bool) -> Steps[Delivery]:
    """Bring an item into a region's table if it is the newest there.

    `own`: the region is the origin and puts its own write back; what its application has written
    meanwhile is left, for that write's own record follows.
    """
    key, version, item = shipment.key, shipment.version, _as_replicated(shipment)
    current: Item | None
    if own:
        current = yield Get(region, key)
    elif shipment.fresh:
        current = None
    else:
        outcome: Outcome = yield Put(region, key, item, Older(version))
        current = outcome.item
        if outcome.done:
            return Delivery(Effect.APPLIED, current.version if current else None, current)
    for _ in range(ATTEMPTS_MAX):
        standing = current.version if current else None
        if own and current is not None and is_ours(region, standing):
            return Delivery(Effect.YIELDED)
        if is_beaten(version, standing):
            return beaten(current, version)
        if standing is None:
            state: KeyState = yield ReadState(region, key)
            if is_buried(version, state.tombstone) or _has_ended(version, state, current):
                return Delivery(Effect.STALE)
        outcome = yield Put(region, key, item, still(current))
        if outcome.done:
            return Delivery(Effect.APPLIED, standing, current)
        current = outcome.item
    raise Contended


def _has_ended(version: Version, state: KeyState, current: Item | None) -> bool:
    """Whether this very version stood here and expired, and the region wrote what stands after."""
    return current is not None and order(state.tombstone) == order(version)


def bury(
    region: str, shipment: Shipment, *, own: bool, deleted: Item | None = None
) -> Steps[Delivery]:
    """Tombstone first, then the item: a put that comes between is taken out here, or by the region
    itself when it sees the echo. `deleted`: see take_out."""
    version = shipment.version
    higher: Version | None = yield RaiseTombstone(region, shipment.key, version)
    if is_buried(version, higher):
        return Delivery(Effect.STALE)
    taken = yield from take_out(region, shipment.key, version, own=own, deleted=deleted)
    effect = Effect.APPLIED if higher is None else Effect.DUPLICATE
    return Delivery(effect, taken.version if taken else None, taken)


def take_out(
    region: str, key: Key, version: Version, *, own: bool, deleted: Item | None = None
) -> Steps[Item | None]:
    """Remove what stands beneath a delete, marking it first; returns what it removed.

    `own`: the region is policing itself, and leaves what its own application wrote. `deleted`: what
    that application deleted; where it came from elsewhere it may have been brought again since.
    """
    mark = version.of_kind(Kind.REMOVING)
    current: Item | None = yield Get(region, key)
    for _ in range(ATTEMPTS_MAX):
        if current is None:
            return None
        standing = current.version
        again = deleted is not None and _was_brought_again(deleted, current, version)
        if is_buried(version, standing) or (own and is_ours(region, standing) and not again):
            return None
        if standing != mark:
            guard = Guard(current.image, ()) if again else None
            outcome: Outcome = yield Stamp(region, key, mark, Holds(current.marker), guard)
            if not outcome.done:
                current = outcome.item
                continue
        yield Delete(region, key, Holds({"S": mark.text}))
        return current
    raise Contended


def is_ours(region: str, standing: Version | None) -> bool:
    """Whether the marker stands on content that the region's own application wrote."""
    return standing is None or (
        standing.origin == region and standing.kind in (Kind.SETTLED, Kind.APPLICATION)
    )


def _was_brought_again(deleted: Item, standing: Item, version: Version) -> bool:
    """Whether a deleted foreign item stands once more, under the stamp of a write from before.

    That write changed the item, and changed it back: its stamp, which looks at marker and content,
    cannot tell the same item brought by a delivery that was run again.
    """
    stamp, foreign = standing.version, not is_ours(version.origin, deleted.version)
    if not foreign or stamp is None or stamp.kind is not Kind.SETTLED:
        return False
    earlier = stamp.origin == version.origin and stamp.sequence < version.sequence
    return earlier and same(standing.image, deleted.image)


def _as_replicated(shipment: Shipment) -> Item:
    """Where it arrives it is a replicator's write, whoever stamped it at its origin."""
    assert shipment.item is not None
    if shipment.version.kind is Kind.REPLICATED:
        return shipment.item
    return shipment.item.stamped(shipment.version.of_kind(Kind.REPLICATED))


def still(current: Item | None) -> Absent | Holds:
    """Condition: what was read still stands."""
    return Absent() if current is None else Holds(current.marker)


def beaten(current: Item | None, version: Version) -> Delivery:
    """The outcome for a version that what stands there keeps out."""
    same = order(current.version if current else None) == order(version)
    return Delivery(Effect.DUPLICATE if same else Effect.STALE, met=current)
