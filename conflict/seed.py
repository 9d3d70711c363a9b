"""Seeding: one item that a scan read, brought into one target beside live replication.

A scan sees an item at some moment, in no order with the stream, and by the time its content
arrives the item may have been written or deleted anywhere. So what is seeded claims as little as
it can, and whatever is live wins, whichever comes first:

  carries its version   it is merged under that version, as any shipment is
  carries none          it gets a *seed version*: of time 0, below every live write. It goes into
                        an empty place only, and a tombstone of any age keeps it out

Where both sides hold an item that never had a version, neither is later. Equal content is left as
it is; else the seed is written if the source is the authority, and reported if none was named. An
authority among regions that all write seeds at time 1, above the seeds of the others. There a
standing item without a version may also be a live write that is still to be stamped, so it is not
touched at the first look, only once the lag has passed (`waited`).

An item is always brought as a replicated one (kind `r`), also where its own origin is the target:
under an application's own kind it would look there like a new write, and rise above the delete
that took it out. A region polices its own table when it sees what arrived beneath its tombstone.
The target of a one-way table has nobody who would, so the tombstone is looked at again after the
write; who stops in between leaves that look to the next (`look_again`).

The source of a one-way table is never stamped, and its live versions are made from its records
alone. A marker that stands there all the same is left out of account: it could outrank a later
write.

This module must not know what a scan is, nor who carries out an operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from conflict.content import same
from conflict.merge import ATTEMPTS_MAX, Contended, Steps, still
from conflict.operations import (
    Delete,
    Get,
    Item,
    Key,
    KeyState,
    Older,
    Outcome,
    Put,
    ReadState,
)
from conflict.resolve import is_beaten, is_buried
from conflict.version import Kind, Version

SEED_US, AUTHORITY_US = 0, 1
"""The times of seed versions: of any region, and of the one named as the authority."""


class Seeded(Enum):
    """What became of a scanned item in one target."""

    WRITTEN = "written"
    EQUAL = "equal"
    """The target holds the same content."""
    NEWER = "newer"
    """The target holds a version as high or higher, or what the authority wrote."""
    DELETED = "deleted"
    """It was deleted since, in the target or at the source."""
    DISPUTED = "disputed"
    """Both hold different content of no known age. The target was left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a table is seeded out of one region.

    `overwrite_unstamped`: the source is the authority on items that never had a version. `policed`:
    every target's own stream is read, as it is where all regions write.
    """

    origin: str
    overwrite_unstamped: bool
    policed: bool


def incoming_of(scanned: Item, terms: Terms) -> Item | None:
    """The item as it is to stand in a target; None for one that is being taken out."""
    version = scanned.version if terms.policed else None
    if version is None:
        time_us = AUTHORITY_US if terms.policed and terms.overwrite_unstamped else SEED_US
        return scanned.stamped(Version(time_us, terms.origin, 0, Kind.REPLICATED))
    if version.kind is Kind.REMOVING:
        return None
    return scanned.stamped(version.of_kind(Kind.REPLICATED))


def may_fill(incoming: Item, state: KeyState) -> bool:
    """Whether an item may be put where nothing that has a version stands."""
    version = _version(incoming)
    if _is_seed(version):
        return state.tombstone is None
    return not is_buried(version, state.tombstone)


def seed(
    target: str, key: Key, scanned: Item, terms: Terms, *, waited: bool = True
) -> Steps[Seeded]:
    """Bring a scanned item into one target, where nothing live speaks against it."""
    incoming = incoming_of(scanned, terms)
    if incoming is None:
        return Seeded.DELETED
    seeded = yield from _bring(target, key, incoming, terms, waited=waited)
    if not terms.policed and seeded in (Seeded.WRITTEN, Seeded.EQUAL):
        # EQUAL as well: it may be this very write, whose answer was lost.
        taken_out = yield from look_again(target, key)
        return Seeded.DELETED if taken_out else seeded
    return seeded


def look_again(target: str, key: Key) -> Steps[bool]:
    """Take out what was seeded beneath a delete that came meanwhile; whether something was.

    Only for the target of a one-way table, where nothing live stands beneath its tombstone.
    """
    state: KeyState = yield ReadState(target, key)
    if state.tombstone is None:
        return False
    outcome: Outcome = yield Delete(target, key, Older(state.tombstone))
    return outcome.done


def _bring(target: str, key: Key, incoming: Item, terms: Terms, *, waited: bool) -> Steps[Seeded]:
    current: Item | None = yield Get(target, key)
    for _ in range(ATTEMPTS_MAX):
        standing = current.version if current else None
        if current is not None:
            kept = _kept(incoming, current, standing, terms, waited=waited)
            if kept is not None:
                return kept
        if standing is None:
            state: KeyState = yield ReadState(target, key)
            if not may_fill(incoming, state):
                return Seeded.DELETED if current is None else Seeded.NEWER
        outcome: Outcome = yield Put(target, key, incoming, still(current))
        if outcome.done:
            return Seeded.WRITTEN
        current = outcome.item
    raise Contended


def _kept(
    incoming: Item, current: Item, standing: Version | None, terms: Terms, *, waited: bool
) -> Seeded | None:
    """Why what stands keeps its place; None if it does not."""
    version = _version(incoming)
    if standing is not None and standing.kind is Kind.REMOVING:
        return Seeded.DELETED if is_beaten(version, standing) else None
    if not _is_seed(version):
        if not is_beaten(version, standing):
            return None
        return Seeded.EQUAL if same(incoming.image, current.image) else Seeded.NEWER
    if same(incoming.image, current.image):
        return Seeded.EQUAL
    if standing is None:
        may_overwrite = terms.overwrite_unstamped and (waited or not terms.policed)
        return None if may_overwrite else Seeded.DISPUTED
    return _kept_from_seed(version, standing, terms)


def _kept_from_seed(version: Version, standing: Version, terms: Terms) -> Seeded | None:
    """The same where a seed comes upon an item that has a version."""
    if standing.time_us > version.time_us:
        return Seeded.NEWER
    if standing.time_us < version.time_us:
        return None
    # Two seeds of one rank. Among regions that all write, a marker that stays or goes back would
    # make the replacement look like a write of the target's own application.
    return None if terms.overwrite_unstamped and not terms.policed else Seeded.DISPUTED


def _is_seed(version: Version) -> bool:
    return version.time_us <= AUTHORITY_US


def _version(incoming: Item) -> Version:
    version = incoming.version
    assert version is not None
    return version
