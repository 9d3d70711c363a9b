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
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from conflict.operations import (
    Absent,
    AnyOperation,
    Delete,
    Get,
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
from conflict.version import Kind, Version, order

T = TypeVar("T")
Steps: TypeAlias = Generator[AnyOperation, Any, T]

ATTEMPTS_MAX = 60
"""Lost races in a row for one key before a step gives up and is run again from its beginning."""


class Contended(Exception):
    """A key was written so often that a step lost ATTEMPTS_MAX races in a row."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of `settle`: what to ship, and what remains to be done once it has arrived."""

    shipment: Shipment | None = None
    release: bool = False
    conflict: bool = False


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a delivery did, and which version it displaced (None: nothing that had one)."""

    effect: Effect
    displaced: Version | None = None


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
            return Delivery(Effect.APPLIED, current.version if current else None)
    for _ in range(ATTEMPTS_MAX):
        standing = current.version if current else None
        if own and current is not None and is_ours(region, standing):
            return Delivery(Effect.YIELDED)
        if is_beaten(version, standing):
            return beaten(standing, version)
        if standing is None:
            state: KeyState = yield ReadState(region, key)
            if is_buried(version, state.tombstone):
                return Delivery(Effect.STALE)
        outcome = yield Put(region, key, item, still(current))
        if outcome.done:
            return Delivery(Effect.APPLIED, standing)
        current = outcome.item
    raise Contended


def bury(region: str, shipment: Shipment, *, own: bool) -> Steps[Delivery]:
    """Tombstone first, then the item: a put that comes between is taken out here, or by the region
    itself when it sees the echo."""
    version = shipment.version
    higher: Version | None = yield RaiseTombstone(region, shipment.key, version)
    if is_buried(version, higher):
        return Delivery(Effect.STALE)
    displaced = yield from take_out(region, shipment.key, version, own=own)
    return Delivery(Effect.APPLIED if higher is None else Effect.DUPLICATE, displaced)


def take_out(region: str, key: Key, deleted: Version, *, own: bool) -> Steps[Version | None]:
    """Remove what stands beneath a delete, marking it first; returns the version it removed.

    `own`: the region is policing itself, and leaves what its own application wrote.
    """
    mark = deleted.of_kind(Kind.REMOVING)
    current: Item | None = yield Get(region, key)
    for _ in range(ATTEMPTS_MAX):
        if current is None:
            return None
        standing = current.version
        if (own and is_ours(region, standing)) or is_buried(deleted, standing):
            return None
        if standing != mark:
            outcome: Outcome = yield Stamp(region, key, mark, Holds(current.marker))
            if not outcome.done:
                current = outcome.item
                continue
        yield Delete(region, key, Holds({"S": mark.text}))
        return standing
    raise Contended


def is_ours(region: str, standing: Version | None) -> bool:
    """Whether the marker stands on content that the region's own application wrote."""
    return standing is None or (
        standing.origin == region and standing.kind in (Kind.SETTLED, Kind.APPLICATION)
    )


def _as_replicated(shipment: Shipment) -> Item:
    """Where it arrives it is a replicator's write, whoever stamped it at its origin."""
    assert shipment.item is not None
    if shipment.version.kind is Kind.REPLICATED:
        return shipment.item
    return shipment.item.stamped(shipment.version.of_kind(Kind.REPLICATED))


def still(current: Item | None) -> Absent | Holds:
    """Condition: what was read still stands."""
    return Absent() if current is None else Holds(current.marker)


def beaten(standing: Version | None, version: Version) -> Delivery:
    """The outcome for a version that what stands there keeps out."""
    same = order(standing) == order(version)
    return Delivery(Effect.DUPLICATE if same else Effect.STALE)
