"""Tables with one source: the source is never written to, versions come from the records.

Two versions of the same origin are ordered by sequence. Times may disagree with that order, since
nothing durable at the source corrects them; so the version that stands in the target is the floor
(`after_own`).

This module must not know what a view type is; it is told what a record lacks by what is None.
"""

from __future__ import annotations

from dataclasses import replace

from conflict.merge import (
    ATTEMPTS_MAX,
    NOTHING_TO_SHIP,
    Contended,
    Delivery,
    Effect,
    Settlement,
    Shipment,
    Steps,
    beaten,
    newest,
    shipment_of,
    still,
)
from conflict.operations import (
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
)
from conflict.origin import Change
from conflict.resolve import is_beaten, is_buried
from conflict.version import Kind, Version, after_own, order


def settle_one_way(home: str, change: Change) -> Steps[Settlement]:
    """Say what the targets of a one-way table are to hold; the source is at most read.

    A stream whose view type leaves out the new image is completed from the table. What is read
    may be newer than the record; the records that made it so follow and settle it.
    """
    if change.nature.needs_nothing:
        return NOTHING_TO_SHIP
    item: Item | None = change.new
    if item is None and change.nature.is_local_put:
        item = yield Get(home, change.key)  # gone since: so it is in the targets
    time_us = max(change.created_us, change.earliest_us)
    version = Version(time_us, home, change.sequence, Kind.REPLICATED)
    return Settlement(shipment_of(change, version, item.stamped(version) if item else None))


def deliver_one_way(target: str, shipment: Shipment) -> Steps[Delivery]:
    """Bring a shipment into a target whose own stream nobody reads.

    Nobody else polices the place, so the writer looks at the tombstone after a put that filled an
    empty place, and no mark is needed before a delete.
    """
    if shipment.item is None:
        return (yield from _bury_one_way(target, shipment))
    return (yield from _bring_one_way(target, shipment, shipment.item))


def newest_one_way(waiting: Shipment, incoming: Shipment) -> Shipment:
    """The same for a one-way table: by sequence, and no earlier than what it replaces.

    A record that is read again comes after later ones, whose times may be lower than its own.
    """
    if incoming.version.sequence < waiting.version.sequence:
        return _lifted(waiting, incoming.version)
    lifted = _lifted(incoming, waiting.version)
    return newest(waiting, incoming) if lifted is incoming else lifted


def _lifted(later: Shipment, earlier: Version) -> Shipment:
    """A shipment, no earlier than one of a lower sequence, and stamped so."""
    version = after_own(later.version, earlier)
    if version == later.version:
        return later
    item = later.item.stamped(version) if later.item else None
    return replace(later, version=version, item=item)


def _bring_one_way(target: str, shipment: Shipment, item: Item) -> Steps[Delivery]:
    if shipment.fresh:
        return (yield from _settle_in(target, shipment, item, None))
    outcome: Outcome = yield Put(target, shipment.key, item, Older(shipment.version))
    current = outcome.item
    if outcome.done:
        return Delivery(Effect.APPLIED, current.version if current else None, current)
    return (yield from _settle_in(target, shipment, item, current))


def _settle_in(
    target: str, shipment: Shipment, item: Item, current: Item | None
) -> Steps[Delivery]:
    """Put an item where `current` was seen, unless what stands or the tombstone is newer."""
    key, version = shipment.key, shipment.version
    for _ in range(ATTEMPTS_MAX):
        standing = current.version if current else None
        version = after_own(version, standing)
        if is_beaten(version, standing):
            if order(standing) == order(version):
                yield from _look_again(target, key, version)  # our own put, whose answer was lost
            return beaten(current, version)
        if standing is None:
            state: KeyState = yield ReadState(target, key)
            version = after_own(version, state.tombstone)
            if state.tombstone is not None and is_buried(version, state.tombstone):
                if shipment.fresh:  # nothing was looked at yet: our own put may stand there
                    yield Delete(target, key, Older(state.tombstone))
                return Delivery(Effect.STALE)
        outcome: Outcome = yield Put(target, key, item.stamped(version), still(current))
        if outcome.done:
            if standing is None:
                yield from _look_again(target, key, version)
            return Delivery(Effect.APPLIED, standing, current)
        current = outcome.item
    raise Contended


def _look_again(target: str, key: Key, version: Version) -> Steps[None]:
    """A delete may have come between the look at the tombstone and the put."""
    state: KeyState = yield ReadState(target, key)
    tombstone = state.tombstone
    if tombstone is not None and is_buried(after_own(version, tombstone), tombstone):
        yield Delete(target, key, Older(tombstone))


def _bury_one_way(target: str, shipment: Shipment) -> Steps[Delivery]:
    key, version = shipment.key, shipment.version
    for _ in range(ATTEMPTS_MAX):
        higher: Version | None = yield RaiseTombstone(target, key, version)
        if higher is not None and _is_same_write(higher, version):
            version = higher  # run again: this delete was lifted before
        lifted = after_own(version, higher)
        if is_buried(lifted, higher):
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
            effect = Effect.APPLIED if higher is None else Effect.DUPLICATE
            return Delivery(effect, standing, outcome.item)
        lifted = after_own(version, standing)
        if lifted == version:
            return Delivery(Effect.STALE)
        version = lifted
    raise Contended


def _is_same_write(one: Version, other: Version) -> bool:
    return (one.origin, one.sequence) == (other.origin, other.sequence)
