"""The version of an item: who wrote it when, in an order that every region agrees on.

A version is (time, origin, sequence, kind). The first three are its *order*: total, the same in
every region, and the only thing that last-writer-wins looks at. The kind says which role wrote the
marker and takes no part in the order.

The marker is the text of a version, kept in one attribute of the item. Texts sort exactly as
orders do, so that DynamoDB itself can decide: `marker < :order` compares a standing marker with
the *order text* of an incoming version, which is its text without the kind. A marker of the same
order is longer than that text, hence not less than it: an item is never overwritten by its equal.

This module must not know what a table, a stream or a region's configuration is.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

from conflict.values import value

ORIGIN_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What may name an origin. Every allowed character sorts above SEPARATOR, which keeps a name that
is a prefix of another below it in the text as well."""

SEPARATOR = "#"
TIME_DIGITS = 16
"""Microseconds since 1970 in 16 digits last until the year 2286."""

SEQUENCE_DIGITS_MAX = 40
"""Source: API_streams_StreamRecord, SequenceNumber: 21 to 40 digits."""

_TEXT = re.compile(
    rf"(?P<time>[0-9]{{{TIME_DIGITS}}}){SEPARATOR}(?P<origin>{ORIGIN_PATTERN}){SEPARATOR}"
    r"(?P<digits>[0-9]{2})(?P<sequence>[0-9]{1,40})(?P<kind>[asrx])",
    re.ASCII,
)


_LENGTHS = tuple(f"{length:02d}" for length in range(100))
"""Numbers of digits as they stand before a sequence."""


class Kind(StrEnum):
    """Who put a marker on an item."""

    APPLICATION = "a"
    """An application that stamps its own writes."""
    SETTLED = "s"
    """The origin's replicator, on a write of its own application that carried no version."""
    REPLICATED = "r"
    """A replicator: brought from another region, or put back by its origin."""
    REMOVING = "x"
    """A replicator that is about to delete the item; the REMOVE that follows is an echo."""


Order: TypeAlias = tuple[int, str, int]
LOWEST: Order = (-1, "", -1)
"""The order of what carries no version: below every version."""


@value(frozen=True, slots=True)
class Version:
    """Time in microseconds UTC, origin region, sequence within the origin, and kind."""

    time_us: int
    origin: str
    sequence: int
    kind: Kind

    @property
    def order(self) -> Order:
        """What last-writer-wins compares."""
        return (self.time_us, self.origin, self.sequence)

    @property
    def order_text(self) -> str:
        """The order as text: the right-hand side of `marker < :order`."""
        digits = str(self.sequence)
        time = str(self.time_us).zfill(TIME_DIGITS)
        return f"{time}{SEPARATOR}{self.origin}{SEPARATOR}{_LENGTHS[len(digits)]}{digits}"

    @property
    def text(self) -> str:
        """The marker's text."""
        return self.order_text + self.kind

    def of_kind(self, kind: Kind) -> Version:
        """The same order in another role."""
        if self.kind is kind:
            return self
        return Version(self.time_us, self.origin, self.sequence, kind)

    def lifted(self, floor_us: int) -> Version:
        """The same write, at `floor_us` or later."""
        if self.time_us >= floor_us:
            return self
        return Version(floor_us, self.origin, self.sequence, self.kind)


def order(version: Version | None) -> Order:
    """The order of a version, LOWEST where there is none."""
    return LOWEST if version is None else version.order


@lru_cache(maxsize=65_536)
def parse(text: str) -> Version | None:
    """The version that a marker's text states, None where it states none.

    A marker is data that an application may have written, so anything but the exact form that
    `Version.text` produces counts as no version rather than as an error.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    time, origin, digits, sequence, kind = match.groups()
    if len(sequence) != int(digits) or (sequence[0] == "0" and sequence != "0"):
        return None
    return Version(int(time), origin, int(sequence), Kind(kind))


def local_version(
    *, created_us: int, earliest_us: int, origin: str, sequence: int, kind: Kind
) -> Version:
    """The version of a local write: the hybrid logical clock rule.

    `created_us` is the record's ApproximateCreationDateTime, `earliest_us` the earliest time after
    all that the write is known to have seen (-1 for nothing). A write is always later than what it
    overwrote, whatever the clocks say. Source: API_streams_StreamRecord,
    ApproximateCreationDateTime is rounded down to the closest second, so ties are normal.
    """
    return Version(max(created_us, earliest_us), origin, sequence, kind)


def earliest_after(seen: Version | None) -> int:
    """The earliest time of a write that overwrote that version; -1 for any time."""
    return -1 if seen is None else seen.time_us + 1


def earliest_beside(standing: Version | None, sequence: int) -> int:
    """The earliest time of a write that follows what its own region settled for another record.

    After an earlier record the same time will do, for the sequence decides. So writes that are made
    one after the other are not pushed ahead of the clock, and one that is processed again, alone or
    folded, gets no higher version than before.
    """
    if standing is None:
        return -1
    follows = standing.kind is Kind.SETTLED and standing.sequence < sequence
    return standing.time_us if follows else standing.time_us + 1


def after_own(version: Version, standing: Version | None) -> Version:
    """`version`, lifted over an earlier version of the same origin that claims a later time.

    Two versions of one origin are ordered by sequence. Where only the origin writes (one-way
    tables) nothing durable at the source keeps times in that order, so the target's standing
    version serves as the floor.
    """
    if (
        standing is not None
        and standing.origin == version.origin
        and standing.sequence < version.sequence
    ):
        return version.lifted(standing.time_us)
    return version
