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
  once         a write that was settled before, and is read again, claims no place a second time

Tables with one source (one-way) go through `settle_one_way` and `deliver_one_way`: the source is
never written to, versions come from the records.

This module must not know who carries out an operation, when, or how often.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from conflict.merge import (
    ATTEMPTS_MAX,
    NOTHING_TO_SHIP,
    Contended,
    Delivery,
    Effect,
    Settlement,
    Shipment,
    Steps,
    bring,
    bury,
    is_ours,
    shipment_of,
    take_out,
)
from conflict.operations import (
    Delete,
    Get,
    Guard,
    Hold,
    Holds,
    Item,
    KeyState,
    Outcome,
    RaiseTombstone,
    ReadState,
    Release,
    Stamp,
)
from conflict.origin import Change, Nature
from conflict.resolve import is_beaten, is_buried
from conflict.version import (
    Kind,
    Version,
    earliest_after,
    earliest_beside,
    local_version,
    order,
)

_Adopted: TypeAlias = tuple[Item, Delivery | None]
"""A local write under its version, and how it fared against foreign content in its place."""


def settle(home: str, change: Change) -> Steps[Settlement]:
    """Do at home what the record asks for, and say what is to be shipped to every target."""
    match change.nature:
        case Nature.UNCHANGED | Nature.SETTLED:
            return NOTHING_TO_SHIP
        case Nature.MARKED:
            yield from _finish_taking_out(home, change)
            return NOTHING_TO_SHIP
        case Nature.ARRIVED:
            yield from _police(home, change)
            return (
                (yield from _decide_held(home, change)) if _was_marked(change) else NOTHING_TO_SHIP
            )
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


def release(home: str, change: Change) -> Steps[None]:
    """Forget the held write that the change has decided, now that its outcome is everywhere."""
    yield Release(home, change.key, change.sequence)


def _finish_taking_out(home: str, change: Change) -> Steps[None]:
    """A replicator has marked the item: see the deletion through.

    If the mark was put on a write that had no version yet, the deleter cannot have seen it. If that
    write created the item anew, it follows the delete whose mark this is (a delivery run again), or
    was made beside it: it is to rise above.
    """
    yield Delete(home, change.key, Holds(_new(change).marker))
    mark = _new(change).version
    if mark is None or change.old is None or change.old.version is not None:
        return
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    version = held.version if held else None
    if held is not None and version is not None and version.kind is Kind.SETTLED:
        yield Hold(home, change.key, held.stamped(version.lifted(mark.time_us + 1)))


def _was_marked(change: Change) -> bool:
    """Whether what arrived took the place of a marked item: no REMOVE will tell of that one."""
    before = change.old.version if change.old else None
    return before is not None and before.kind is Kind.REMOVING


def _police(home: str, change: Change) -> Steps[None]:
    """An echo: take it out if it landed beneath a delete that this region knows of."""
    state: KeyState = yield ReadState(home, change.key)
    arrived = _new(change).version
    tombstone = state.tombstone
    if tombstone is not None and is_buried(arrived, tombstone):
        yield from take_out(home, change.key, tombstone, own=True)


def _decide_held(home: str, change: Change) -> Steps[Settlement]:
    """A replicated delete has ended. What it took may have been a local write without a version."""
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    if held is None:
        return NOTHING_TO_SHIP
    shipment = _shipped(change, held)
    delivery = yield from bring(home, shipment, own=True)
    if delivery.effect is Effect.YIELDED:
        return NOTHING_TO_SHIP  # and what is held stays the floor of what took its place
    won = delivery.effect is not Effect.STALE
    return Settlement(shipment, release=True, conflict=True, rival=change.old, won=won)


def _settle_delete(home: str, change: Change) -> Steps[Settlement]:
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    version = local_version(
        created_us=change.created_us,
        earliest_us=_earliest(change, held),
        origin=home,
        sequence=change.sequence,
        kind=Kind.APPLICATION,
    )
    tombstone = state.tombstone
    if tombstone is not None and (tombstone.origin, tombstone.sequence) == (home, change.sequence):
        version = tombstone  # a replay: the version that it was given before
    shipment = shipment_of(change, version, None)
    yield from bury(home, shipment, own=True, deleted=change.old)
    return Settlement(shipment, release=held is not None)


def _settle_expiry(home: str, change: Change) -> Steps[Settlement]:
    """The time-to-live service deleted the item, and each region is to expire its own copy.

    The delete is not shipped. The version that expired stays here as a tombstone, so that an item
    re-created by this region rises above the copies that stand elsewhere. A write that expired
    before it could be stamped was held, and goes out now: the others expire it themselves.
    """
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    expired = change.old.version if change.old else None
    foreign = not is_ours(home, expired)
    if held is not None and not foreign and order(held.version) > order(expired):
        expired = held.version
    if expired is None:
        return NOTHING_TO_SHIP  # it never had a version, so no copy of it stands anywhere
    carried = expired.kind is Kind.APPLICATION
    kind = Kind.REPLICATED if carried else Kind.APPLICATION  # see _is_later_delete
    yield RaiseTombstone(home, change.key, expired.of_kind(kind))
    if held is None:
        return NOTHING_TO_SHIP
    if foreign:  # it was not the held write that expired
        return (yield from _decide_held(home, change))
    return Settlement(_shipped(change, _expired(change, held)), release=True)


def _expired(change: Change, held: Item) -> Item:
    """What goes out of a write that expired while it was held.

    After a crash what was stamped before may be held beneath its stamp, which was lifted over a
    delete then and is not now. The tombstone is that of the stamp, so nothing less is to go out.
    """
    stamped = change.old
    version = stamped.version if stamped is not None else None
    if stamped is None or version is None or version.kind is Kind.APPLICATION:
        return held
    return stamped if order(version) > order(held.version) else held


def _settle_put(home: str, change: Change) -> Steps[Settlement]:
    if change.again:
        return (yield from _settle_put_again(home, change))
    if _new(change).doubted:
        change = yield from _judge_again(home, change)
    state: KeyState = yield ReadState(home, change.key)
    held = _held_before(state, change)
    carried, version = _version_of_put(home, change, held)
    lift_us = 0
    tombstone = state.tombstone
    if tombstone is not None and is_buried(version, tombstone):
        if _is_later_delete(home, change, tombstone):
            return NOTHING_TO_SHIP  # a replay: this region has deleted it since
        carried, lift_us = None, tombstone.time_us + 1
        if tombstone.origin == home:  # written after this region's own delete
            version, lift_us = Version(lift_us, home, change.sequence, Kind.SETTLED), 0
    if carried is not None:
        return Settlement(_shipped(change, _new(change)), release=held is not None)
    adopted = yield from _adopt(home, change, version, tombstone if lift_us else None)
    if adopted is None:
        return NOTHING_TO_SHIP
    item, against = adopted
    shipment, release = _shipped(change, item), held is not None
    if against is None:
        return Settlement(shipment, release=release)
    won = against.effect is not Effect.STALE
    return Settlement(shipment, release=release, conflict=True, rival=against.met, won=won)


def _settle_put_again(home: str, change: Change) -> Steps[Settlement]:
    """This write was settled before, and its targets may still lack it.

    It is shipped if it stands. If it does not, something newer took its place, and is shipped by
    whoever wrote that. To adopt it once more could bring it back: a delete that is being carried
    out just now has removed what told that it is older.
    """
    current: Item | None = yield Get(home, change.key)
    if current is not None:
        if _is_replay(home, change, current.version):
            return Settlement(_shipped(change, current))
        if change.nature is Nature.STAMPED and current.marker == _new(change).marker:
            return Settlement(_shipped(change, _new(change)))
        return NOTHING_TO_SHIP
    state: KeyState = yield ReadState(home, change.key)
    # Read again it may be folded with others, and so lie above a delete that its first version lay
    # beneath. Hence its lowest counts: what is above the delete even so was written after it.
    _, lowest = _version_of_put(home, replace(change, earliest_us=-1), None)
    if state.tombstone is not None and _is_end_of(state.tombstone, lowest):
        yield Hold(home, change.key, _to_hold(change, lowest))  # it has expired
    elif not is_buried(lowest, state.tombstone):  # it may have expired
        _, version = _version_of_put(home, change, _held_before(state, change))
        yield Hold(home, change.key, _to_hold(change, version))
    return NOTHING_TO_SHIP


def _is_end_of(tombstone: Version, version: Version) -> bool:
    """Whether a tombstone was left by the expiry of this write: of it, at whatever time."""
    return (tombstone.origin, tombstone.sequence) == (version.origin, version.sequence)


def _version_of_put(home: str, change: Change, held: Item | None) -> tuple[Version | None, Version]:
    """The version that a write carried, if that can stand, and the one that it is to have."""
    carried = _carried(change, held)
    return carried, carried or local_version(
        created_us=change.created_us,
        earliest_us=_earliest(change, held),
        origin=home,
        sequence=change.sequence,
        kind=Kind.SETTLED,
    )


def _is_later_delete(home: str, change: Change, tombstone: Version) -> bool:
    """Whether the region's own application has deleted the item after this write.

    That of a stamp which an application carried is no stream's; the tombstone of its expiry says so
    by its kind.
    """
    by_application = tombstone.origin == home and tombstone.kind is Kind.APPLICATION
    return by_application and tombstone.sequence > change.sequence


def _judge_again(home: str, change: Change) -> Steps[Change]:
    """A stamp that was doubted when the record was read may be credible by now, and to others.

    Then it is a version that this write has to rise above.
    """
    written = _new(change)
    current: Item | None = yield Get(home, change.key)
    if current is None or current.doubted or current.marker != written.marker:
        return change
    return replace(change, new=Item(written.image, written.marker))


def _adopt(
    home: str, change: Change, version: Version, beneath: Version | None
) -> Steps[_Adopted | None]:
    """Give a local write its place in the order, in its own table.

    Returns the item to ship, with how it fared against foreign content if there was any, or None
    where a later local record replaces it. `beneath`: a foreign tombstone that it stands over.
    """
    written = standing_item = _new(change)
    lift_us = beneath.time_us + 1 if beneath is not None else 0
    for _ in range(ATTEMPTS_MAX):
        marker, standing = standing_item.marker, standing_item.version
        as_written = marker == written.marker
        if change.fresh and _is_being_taken_out(version, standing):
            yield Hold(home, change.key, _to_hold(change, version))
            return None  # the REMOVE that follows will decide
        if not as_written and not is_ours(home, standing):
            above = _above(version, beneath, standing)
            return (yield from _put_back(home, change, above, standing_item))
        seen_us = -1 if as_written else earliest_beside(standing, change.sequence)
        stamp = Version(max(version.time_us, seen_us, lift_us), home, change.sequence, Kind.SETTLED)
        guard = _guard(change) if as_written and standing is not None else None
        outcome: Outcome = yield Stamp(home, change.key, stamp, Holds(marker), guard)
        current = outcome.item
        if outcome.done:
            assert current is not None
            return current, None
        if current is None:  # gone since: the REMOVE that follows will decide
            current = yield from _hold(home, change, version)
            if current is None or current.version is None:
                return None
        elif guard is not None and current.marker == marker:
            # Same marker, other content: a later local record follows, and has seen this write.
            yield Hold(home, change.key, _to_hold(change, version))
            return None
        if _is_replay(home, change, current.version):
            return current, None
        if (yield from _is_followed(home, change, current.version, version)):
            return None
        standing_item = current
    raise Contended


def _above(version: Version, beneath: Version | None, standing: Version | None) -> Version:
    """The version of a write to be put back: above the tombstone, if what stands is beneath it."""
    if beneath is None or is_beaten(beneath, standing):
        return version
    return version.lifted(beneath.time_us + 1)


def _hold(home: str, change: Change, version: Version) -> Steps[Item | None]:
    yield Hold(home, change.key, _to_hold(change, version))
    current: Item | None = yield Get(home, change.key)
    return current


def _to_hold(change: Change, version: Version) -> Item:
    """The write as it is held; one that created its item says so by its kind."""
    kind = Kind.SETTLED if change.fresh else Kind.REPLICATED
    return _new(change).stamped(Version(version.time_us, version.origin, change.sequence, kind))


def _is_being_taken_out(version: Version, standing: Version | None) -> bool:
    """Whether a delete that beats this write has marked what stands, and is about to end it."""
    marked = standing is not None and standing.kind is Kind.REMOVING
    return marked and is_buried(version, standing)


def _put_back(home: str, change: Change, version: Version, foreign: Item) -> Steps[_Adopted | None]:
    """Foreign content stands where this write stood: versions decide, and the winner stays."""
    kept = Version(version.time_us, version.origin, change.sequence, Kind.REPLICATED)
    item = _new(change).stamped(kept)
    delivery = yield from bring(home, _shipped(change, item), own=True)
    if delivery.effect is not Effect.YIELDED:
        return item, replace(delivery, met=delivery.met or foreign)
    yield Hold(home, change.key, item)  # the floor of what took its place
    return None


def _is_replay(home: str, change: Change, settled: Version | None) -> bool:
    """Whether the standing marker is the one that this very record was given before."""
    if settled is None:
        return False
    by_us = settled.kind in (Kind.SETTLED, Kind.REPLICATED)
    return by_us and settled.origin == home and settled.sequence == change.sequence


def _is_followed(
    home: str, change: Change, standing: Version | None, version: Version
) -> Steps[bool]:
    """Whether the standing marker tells that a later local record replaces this one."""
    if _is_superseded(home, change, standing, version):
        return True
    if not _came_beneath(home, _new(change), standing):
        return False
    yield Hold(home, change.key, _to_hold(change, version))  # the floor of what follows
    return True


def _is_superseded(home: str, change: Change, settled: Version | None, version: Version) -> bool:
    """Whether the standing marker is that of a later local record."""
    if settled is None:
        return False
    written = _new(change).version
    if settled.origin == home and settled.kind is Kind.SETTLED:
        return settled.sequence > change.sequence
    if settled.origin == home and settled.kind is Kind.APPLICATION:
        return settled != written and order(settled) > order(version)
    return False


def _came_beneath(home: str, written: Item, standing: Version | None) -> bool:
    """Whether what stands is foreign and older than the marker that this write carried.

    It cannot have replaced that one: a later local put brought an old stamp along, or a later local
    delete left the place empty. Either has a record that follows, and has seen this write.
    """
    if is_ours(home, standing) or written.version is None:
        return False
    return order(standing) < order(written.version)


def _held_before(state: KeyState, change: Change) -> Item | None:
    """The held write, unless this is a replay and it belongs to a later record."""
    held = state.held
    version = held.version if held else None
    return held if version is not None and version.sequence <= change.sequence else None


def _earliest(change: Change, held: Item | None) -> int:
    """The earliest time after all that a local write is known to have seen; -1 for nothing."""
    # What is held is an own, earlier write: its time will do, for the sequence decides. In a
    # replay it may be this very one, which has not seen itself.
    followed = held.version if held and not _is_itself(held, change) else None
    return max(
        change.earliest_us,
        earliest_after(change.old.version if change.old else None),
        earliest_after(change.new.version if change.new else None),
        followed.time_us if followed else -1,
    )


def _is_itself(held: Item, change: Change) -> bool:
    """Whether this is a replay of the very write that is held."""
    return held.version is not None and held.version.sequence == change.sequence


def _carried(change: Change, held: Item | None) -> Version | None:
    """The version that a write brought along, None if it brought none that can stand."""
    if change.nature is not Nature.STAMPED:
        return None
    version = _new(change).version
    before = held.version if held and not _is_itself(held, change) else None
    held_us = before.time_us if before else -1
    if version is None or version.time_us <= max(held_us, change.earliest_us):
        return None
    return version


def _guard(change: Change) -> Guard:
    """The content of the record, changed attributes first: it must still stand as written."""
    new, old = _new(change).image, change.old.image if change.old else {}
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    return Guard({**changed, **new}, tuple(name for name in old if name not in new))


def _shipped(change: Change, item: Item) -> Shipment:
    """The shipment of an item that carries its version already."""
    version = item.version
    assert version is not None
    return shipment_of(change, version, item)


def _new(change: Change) -> Item:
    assert change.new is not None
    return change.new
