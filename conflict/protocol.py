"""The steps that replicate one change, as generators that yield operations and are sent results.

A change of region H goes through `settle` at home, which gives it its version and returns what is
to be shipped; `deliver` brings that to one target; when every target has it, `release` forgets a
held write. Each may be stopped between any two operations and run again from its beginning, any
number of times, by any worker: every write is conditional on what was read.

The rules (switch one off, and the simulation in tests/simulation fails):

  adopt        a write without a version is stamped in its own table before it is shipped
  floor        a version is later than everything that its write is known to have seen
  give way     a write put back by its origin yields to a later local write, and is not shipped
  tombstone    a delete is remembered before the item is taken out; a put to an empty place asks
  lift         an item re-created over a delete rises above its tombstone
  police       each region takes out what arrives beneath its own tombstones
  mark         an item is marked before a replicator deletes it, so that the REMOVE is an echo
  leave        what the region's own application wrote later is not taken out by its own delete
  hold         a write that was gone before it could be stamped is kept for the REMOVE to decide

Tables with one source (one-way) go through `settle_one_way` and `deliver_one_way`: the source is
never written to, versions come from the records.

This module must not know who carries out an operation, when, or how often.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias, TypeVar, assert_never

from conflict.operations import (
    Absent,
    AnyOperation,
    Delete,
    Get,
    Guard,
    Hold,
    Holds,
    Item,
    Key,
    KeyState,
    Older,
    Outcome,
    Put,
    RaiseTombstone,
    ReadState,
    Release,
    Stamp,
    believed,
)
from conflict.origin import Change, Nature
from conflict.version import Kind, Version, after_own, local_version, order

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
    limit_us: int
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


def settle(home: str, change: Change) -> Steps[Settlement]:
    """Do at home what the record asks for, and say what is to be shipped to every target."""
    match change.nature:
        case Nature.UNCHANGED | Nature.SETTLED:
            return NOTHING_TO_SHIP
        case Nature.MARKED:
            yield Delete(home, change.key, Holds(_new(change).marker))
            return NOTHING_TO_SHIP
        case Nature.ARRIVED:
            yield from _police(home, change)
            return NOTHING_TO_SHIP
        case Nature.TAKEN_OUT:
            return (yield from _decide_held(home, change))
        case Nature.DELETED:
            return (yield from _settle_delete(home, change))
        case Nature.EXPIRED:
            return (yield from _settle_expiry(home, change))
        case Nature.WRITTEN | Nature.STAMPED:
            return (yield from _settle_put(home, change))
        case _:
            assert_never(change.nature)


def deliver(target: str, shipment: Shipment) -> Steps[Delivery]:
    """Bring a shipment into one target: it lands where it is the newest."""
    if shipment.item is None:
        return (yield from _bury(target, shipment, own=False))
    return (yield from _bring(target, shipment, own=False))


def release(home: str, change: Change) -> Steps[None]:
    """Forget the held write that the change has decided, now that its outcome is everywhere."""
    yield Release(home, change.key, change.sequence)


def is_conflict(shipment: Shipment, delivery: Delivery) -> bool:
    """Whether a delivery displaced a write that the shipped write's author had not seen."""
    lost = delivery.displaced
    return (
        lost is not None
        and lost.origin != shipment.version.origin
        and order(lost) != order(shipment.base)
    )


def newest(waiting: Shipment, incoming: Shipment) -> Shipment:
    """Which of two shipments of a key a target still needs: the one that wins there."""
    return waiting if order(waiting.version) > order(incoming.version) else incoming


# --- at home ------------------------------------------------------------------------------------


def _police(home: str, change: Change) -> Steps[None]:
    """An echo: take it out if it landed beneath a delete that this region knows of."""
    state: KeyState = yield ReadState(home, change.key)
    arrived = _new(change).version
    tombstone = state.tombstone
    if tombstone is not None and order(tombstone) > order(arrived):
        yield from _take_out(home, change.key, tombstone, change.limit_us, own=True)


def _decide_held(home: str, change: Change) -> Steps[Settlement]:
    """A replicated delete has ended. What it took may have been a local write without a version."""
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    if held is None:
        return NOTHING_TO_SHIP
    shipment = _shipped(change, held)
    delivery = yield from _bring(home, shipment, own=True)
    if delivery.effect is Effect.YIELDED:
        return NOTHING_TO_SHIP  # and what is held stays the floor of what took its place
    return Settlement(shipment, release=True, conflict=True)


def _settle_delete(home: str, change: Change) -> Steps[Settlement]:
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    version = local_version(
        created_us=change.created_us,
        floor_us=_floor(change, held),
        origin=home,
        sequence=change.sequence,
        kind=Kind.APPLICATION,
    )
    tombstone = state.tombstone
    if tombstone is not None and (tombstone.origin, tombstone.sequence) == (home, change.sequence):
        version = tombstone  # a replay: the version that it was given before
    shipment = _shipment(change, version, None)
    yield from _bury(home, shipment, own=True)
    return Settlement(shipment, release=held is not None)


def _settle_expiry(home: str, change: Change) -> Steps[Settlement]:
    """The time-to-live service deleted the item, and each region is to expire its own copy.

    Nothing is shipped. The version that expired stays here as a tombstone, so that an item
    re-created by this region rises above the copies that stand elsewhere.
    """
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    floor_us = _floor(change, held)
    expired = change.old.version if change.old else None
    if expired is None:
        expired = local_version(
            created_us=change.created_us,
            floor_us=floor_us,
            origin=home,
            sequence=change.sequence,
            kind=Kind.APPLICATION,
        )
    yield RaiseTombstone(home, change.key, expired.of_kind(Kind.APPLICATION))
    return Settlement(release=held is not None)


def _settle_put(home: str, change: Change) -> Steps[Settlement]:
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    floor_us = _floor(change, held)
    carried = _carried(change, held)
    version = carried or local_version(
        created_us=change.created_us,
        floor_us=floor_us,
        origin=home,
        sequence=change.sequence,
        kind=Kind.SETTLED,
    )
    lift_us = 0
    tombstone = state.tombstone
    if tombstone is not None and order(tombstone) > order(version):
        if tombstone.origin == home and tombstone.sequence > change.sequence:
            return NOTHING_TO_SHIP  # a replay: this region has deleted it since
        carried, lift_us = None, tombstone.time_us + 1
        if tombstone.origin == home:  # written after this region's own delete
            version, lift_us = Version(lift_us, home, change.sequence, Kind.SETTLED), 0
    if carried is not None:
        return Settlement(_shipped(change, _new(change)), release=held is not None)
    adopted = yield from _adopt(home, change, version, tombstone if lift_us else None)
    if adopted is None:
        return NOTHING_TO_SHIP
    item, conflict = adopted
    return Settlement(_shipped(change, item), release=held is not None, conflict=conflict)


def _adopt(
    home: str, change: Change, version: Version, beneath: Version | None
) -> Steps[tuple[Item, bool] | None]:
    """Give a local write its place in the order, in its own table.

    Returns the item to ship and whether foreign content was contended with, or None where a later
    local record replaces it. `beneath` is a foreign tombstone that the write stands over.
    """
    written = _new(change)
    marker = written.marker
    lift_us = beneath.time_us + 1 if beneath is not None else 0
    for _ in range(ATTEMPTS_MAX):
        standing = believed(marker, change.limit_us)
        as_written = marker == written.marker
        if not as_written and not _ours(home, standing):
            if beneath is not None and order(standing) < order(beneath):
                version = version.lifted(lift_us)
            return (yield from _put_back(home, change, version))
        seen_us = standing.time_us + 1 if standing is not None and not as_written else 0
        stamp = Version(
            max(version.time_us, seen_us, lift_us), home, change.sequence, Kind.SETTLED
        )
        guard = _guard(change) if as_written and marker is not None else None
        outcome: Outcome = yield Stamp(home, change.key, stamp, Holds(marker), guard)
        current = outcome.item
        if outcome.done:
            assert current is not None
            return current, False
        if current is None:  # gone since: the REMOVE that follows will decide
            current = yield from _hold(home, change, version)
            if current is None or believed(current.marker, change.limit_us) is None:
                return None
        elif guard is not None and current.marker == marker:
            return None  # same marker, other content: a later local record follows
        marker = current.marker
        settled = believed(marker, change.limit_us)
        if settled is not None:
            if _is_replay(home, change, settled):
                return current, False
            if _is_superseded(home, change, settled, version):
                return None
    raise Contended


def _hold(home: str, change: Change, version: Version) -> Steps[Item | None]:
    kept = Version(version.time_us, version.origin, change.sequence, Kind.REPLICATED)
    yield Hold(home, change.key, _new(change).stamped(kept))
    current: Item | None = yield Get(home, change.key)
    return current


def _put_back(home: str, change: Change, version: Version) -> Steps[tuple[Item, bool] | None]:
    """Foreign content stands where this write stood: versions decide, and the winner stays."""
    kept = Version(version.time_us, version.origin, change.sequence, Kind.REPLICATED)
    item = _new(change).stamped(kept)
    delivery = yield from _bring(home, _shipped(change, item), own=True)
    return None if delivery.effect is Effect.YIELDED else (item, True)


def _is_replay(home: str, change: Change, settled: Version) -> bool:
    """Whether the standing marker is the one that this very record was given before."""
    by_us = settled.kind in (Kind.SETTLED, Kind.REPLICATED)
    return by_us and settled.origin == home and settled.sequence == change.sequence


def _is_superseded(home: str, change: Change, settled: Version, version: Version) -> bool:
    """Whether the standing marker tells that a later local record follows this one."""
    written = believed(_new(change).marker, change.limit_us)
    if settled.origin == home and settled.kind is Kind.SETTLED:
        return settled.sequence > change.sequence
    if settled.origin == home and settled.kind is Kind.APPLICATION:
        return settled != written and order(settled) > order(version)
    # Foreign and older than what this write carried: a later local put brought an old stamp along.
    return not _ours(home, settled) and written is not None and order(settled) < order(written)


# --- in any region ------------------------------------------------------------------------------


def _bring(region: str, shipment: Shipment, *, own: bool) -> Steps[Delivery]:
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
        standing = believed(current.marker, shipment.limit_us) if current else None
        if own and current is not None and _ours(region, standing):
            return Delivery(Effect.YIELDED)
        if order(standing) >= order(version):
            return _beaten(standing, version)
        if standing is None:
            state: KeyState = yield ReadState(region, key)
            if order(state.tombstone) > order(version):
                return Delivery(Effect.STALE)
        outcome = yield Put(region, key, item, _still(current))
        if outcome.done:
            return Delivery(Effect.APPLIED, standing)
        current = outcome.item
    raise Contended


def _bury(region: str, shipment: Shipment, *, own: bool) -> Steps[Delivery]:
    """Tombstone first, then the item: a put that comes between is taken out here, or by the region
    itself when it sees the echo."""
    version = shipment.version
    higher: Version | None = yield RaiseTombstone(region, shipment.key, version)
    if higher is not None and order(higher) > order(version):
        return Delivery(Effect.STALE)
    displaced = yield from _take_out(region, shipment.key, version, shipment.limit_us, own=own)
    return Delivery(Effect.APPLIED if higher is None else Effect.DUPLICATE, displaced)


def _take_out(
    region: str, key: Key, deleted: Version, limit_us: int, *, own: bool
) -> Steps[Version | None]:
    """Remove what stands beneath a delete, marking it first; returns the version it removed.

    `own`: the region is policing itself, and leaves what its own application wrote.
    """
    mark = deleted.of_kind(Kind.REMOVING)
    current: Item | None = yield Get(region, key)
    for _ in range(ATTEMPTS_MAX):
        if current is None:
            return None
        standing = believed(current.marker, limit_us)
        if (own and _ours(region, standing)) or order(standing) > order(deleted):
            return None
        if standing != mark:
            outcome: Outcome = yield Stamp(region, key, mark, Holds(current.marker))
            if not outcome.done:
                current = outcome.item
                continue
        yield Delete(region, key, Holds({"S": mark.text}))
        return standing
    raise Contended


# --- one-way tables -----------------------------------------------------------------------------


def settle_one_way(home: str, change: Change) -> Steps[Settlement]:
    """Say what the targets of a one-way table are to hold; the source is at most read.

    A stream whose view type leaves out the new image is completed from the table. What is read
    may be newer than the record; the records that made it so follow and settle it.
    """
    if change.nature.needs_nothing:
        return NOTHING_TO_SHIP
    item: Item | None = change.new
    if item is None and change.nature.is_local_put:
        item = yield Get(home, change.key)
        if item is None:
            return NOTHING_TO_SHIP  # gone since: its REMOVE follows
    time_us = max(change.created_us, change.floor_us)
    version = Version(time_us, home, change.sequence, Kind.REPLICATED)
    return Settlement(_shipment(change, version, item.stamped(version) if item else None))


def deliver_one_way(target: str, shipment: Shipment) -> Steps[Delivery]:
    """Bring a shipment into a target whose own stream nobody reads.

    Nobody else polices the place, so the writer looks at the tombstone after a put that filled an
    empty place, and no mark is needed before a delete.
    """
    if shipment.item is None:
        return (yield from _bury_one_way(target, shipment))
    return (yield from _bring_one_way(target, shipment, shipment.item))


def newest_one_way(waiting: Shipment, incoming: Shipment) -> Shipment:
    """The same for a one-way table: by sequence, and no earlier than what it replaces."""
    version = after_own(incoming.version, waiting.version)
    if version == incoming.version:
        return newest(waiting, incoming)
    item = incoming.item.stamped(version) if incoming.item else None
    return replace(incoming, version=version, item=item)


def _bring_one_way(target: str, shipment: Shipment, item: Item) -> Steps[Delivery]:
    key, version = shipment.key, shipment.version
    current: Item | None = None
    if not shipment.fresh:
        outcome: Outcome = yield Put(target, key, item, Older(version))
        current = outcome.item
        if outcome.done:
            return Delivery(Effect.APPLIED, current.version if current else None)
    for _ in range(ATTEMPTS_MAX):
        standing = current.version if current else None
        version = after_own(version, standing)
        if order(standing) >= order(version):
            return _beaten(standing, version)
        if standing is None:
            state: KeyState = yield ReadState(target, key)
            version = after_own(version, state.tombstone)
            if order(state.tombstone) > order(version):
                return Delivery(Effect.STALE)
        outcome = yield Put(target, key, item.stamped(version), _still(current))
        if outcome.done:
            if standing is None:
                yield from _look_again(target, key, version)
            return Delivery(Effect.APPLIED, standing)
        current = outcome.item
    raise Contended


def _look_again(target: str, key: Key, version: Version) -> Steps[None]:
    """A delete may have come between the look at the tombstone and the put."""
    state: KeyState = yield ReadState(target, key)
    tombstone = state.tombstone
    if tombstone is not None and order(tombstone) > order(version):
        yield Delete(target, key, Older(tombstone))


def _bury_one_way(target: str, shipment: Shipment) -> Steps[Delivery]:
    key, version = shipment.key, shipment.version
    for _ in range(ATTEMPTS_MAX):
        higher: Version | None = yield RaiseTombstone(target, key, version)
        lifted = after_own(version, higher)
        if order(higher) > order(lifted):
            return Delivery(Effect.STALE)
        if lifted != version:
            version = lifted
            continue
        outcome: Outcome = yield Delete(target, key, Older(version))
        standing = outcome.item.version if outcome.item else None
        if not outcome.done and outcome.item is not None and standing is None:
            outcome = yield Delete(target, key, Holds(outcome.item.marker))
            if not outcome.done:
                continue
        if outcome.done or outcome.item is None:
            return Delivery(Effect.APPLIED if higher is None else Effect.DUPLICATE, standing)
        lifted = after_own(version, standing)
        if lifted == version:
            return Delivery(Effect.STALE)
        version = lifted
    raise Contended


# --- small rules --------------------------------------------------------------------------------


def _ours(region: str, standing: Version | None) -> bool:
    """Whether the marker stands on content that the region's own application wrote."""
    return standing is None or (
        standing.origin == region and standing.kind in (Kind.SETTLED, Kind.APPLICATION)
    )


def _held_before(state: KeyState, change: Change) -> Item | None:
    """The held write, unless this is a replay and it belongs to a later record."""
    held = state.held
    version = held.version if held else None
    return held if version is not None and version.sequence <= change.sequence else None


def _floor(change: Change, held: Item | None) -> int:
    """The latest time that a local write is known to have seen; -1 for none."""
    seen = (
        believed(change.old.marker, change.limit_us) if change.old else None,
        believed(change.new.marker, change.limit_us) if change.new else None,
        held.version if held else None,
    )
    return max(change.floor_us, *(v.time_us if v else -1 for v in seen))


def _carried(change: Change, held: Item | None) -> Version | None:
    """The version that a write brought along, None if it brought none that can stand."""
    if change.nature is not Nature.STAMPED:
        return None
    version = _new(change).version
    held_us = held.version.time_us if held and held.version else -1
    if version is None or version.time_us <= max(held_us, change.floor_us):
        return None
    return version


def _guard(change: Change) -> Guard:
    """The content of the record, changed attributes first: it must still stand as written."""
    new, old = _new(change).image, change.old.image if change.old else {}
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    return Guard({**changed, **new}, tuple(name for name in old if name not in new))


def _shipment(change: Change, version: Version, item: Item | None) -> Shipment:
    return Shipment(
        key=change.key,
        version=version,
        item=item,
        created_us=change.created_us,
        limit_us=change.limit_us,
        base=_base(change),
        fresh=change.fresh,
    )


def _shipped(change: Change, item: Item) -> Shipment:
    """The shipment of an item that carries its version already."""
    version = item.version
    assert version is not None
    return _shipment(change, version, item)


def _base(change: Change) -> Version | None:
    return change.base or (change.old.version if change.old else None)


def _as_replicated(shipment: Shipment) -> Item:
    """A settled write becomes a replicated one where it arrives; a carried version stays."""
    assert shipment.item is not None
    if shipment.version.kind is Kind.SETTLED:
        return shipment.item.stamped(shipment.version.of_kind(Kind.REPLICATED))
    return shipment.item


def _still(current: Item | None) -> Absent | Holds:
    return Absent() if current is None else Holds(current.marker)


def _beaten(standing: Version | None, version: Version) -> Delivery:
    same = order(standing) == order(version)
    return Delivery(Effect.DUPLICATE if same else Effect.STALE)


def _new(change: Change) -> Item:
    assert change.new is not None
    return change.new
