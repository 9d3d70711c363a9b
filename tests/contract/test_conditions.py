"""Conditional writes: each expectation on each thing that may stand, and what comes back.

Which expectation holds on what is stated once, in `_holds`; every write is tried on every pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import pytest

from conflict.operations import (
    Absent,
    AttributeValue,
    Delete,
    Expected,
    Get,
    Holds,
    Item,
    Key,
    Older,
    Outcome,
    Put,
    Stamp,
    marker_of,
)
from conflict.version import Kind, Version
from contract.subject import Subject
from contract.values import EARLIER, INCOMING, LATER, fresh_key, item, raw_item, same_item

STANDING: Mapping[str, AttributeValue | None] = {
    "unmarked": None,
    "earlier": marker_of(EARLIER),
    "lower origin": marker_of(Version(INCOMING.time_us, "eu-west", 101, Kind.REPLICATED)),
    "lower sequence": marker_of(Version(INCOMING.time_us, INCOMING.origin, 99, Kind.SETTLED)),
    "equal, by an application": marker_of(INCOMING.of_kind(Kind.APPLICATION)),
    "equal, settled": marker_of(INCOMING.of_kind(Kind.SETTLED)),
    "equal, replicated": marker_of(INCOMING),
    "equal, removing": marker_of(INCOMING.of_kind(Kind.REMOVING)),
    "higher sequence": marker_of(Version(INCOMING.time_us, INCOMING.origin, 1000, Kind.SETTLED)),
    "higher origin": marker_of(Version(INCOMING.time_us, "us-east-1", 1, Kind.REPLICATED)),
    "later": marker_of(LATER),
    "low garbage": {"S": "#not a version"},
    "high garbage": {"S": "not a version"},
    "empty text": {"S": ""},
    "number": {"N": "7"},
    "binary": {"B": b"\x00"},
    "map": {"M": {"version": {"S": INCOMING.text}}},
}
"""What the marker of a standing item may be. Without one, nothing stands at all."""

ABSENT = "absent"
EXPECTED = ("absent", "unmarked", "just this", "another", "older")


def _expected(name: str, standing: Item | None) -> Expected:
    match name:
        case "absent":
            return Absent()
        case "unmarked":
            return Holds(None)
        case "just this":
            return Holds(standing.marker if standing else marker_of(EARLIER))
        case "another":
            return Holds(marker_of(INCOMING.lifted(INCOMING.time_us + 7)))
        case _:
            return Older(INCOMING)


def _holds(expected: Expected, standing: Item | None) -> bool:
    match expected:
        case Absent():
            return standing is None
        case Holds(marker=marker):
            return standing is not None and standing.marker == marker
        case Older(than=than):
            text = standing.marker.get("S") if standing and standing.marker else None
            return isinstance(text, str) and text < than.order_text
        case _:
            assert_never(expected)


def _stands(subject: Subject, key: Key, standing: str) -> Item | None:
    """Have the application write what is to stand."""
    if standing == ABSENT:
        return None
    placed = raw_item(key, STANDING[standing], text={"S": standing})
    marker = {} if placed.marker is None else {"_replicator": placed.marker}
    subject.application_put({**placed.image, **marker})
    return placed


def _same(one: Outcome, other: Outcome) -> bool:
    return one.done == other.done and same_item(one.item, other.item)


@pytest.mark.parametrize("standing", [ABSENT, *STANDING])
@pytest.mark.parametrize("expected", EXPECTED)
def test_put(subject: Subject, standing: str, expected: str) -> None:
    """A put replaces the item where its condition holds, and tells what stood in either case."""
    key = fresh_key()
    before = _stands(subject, key, standing)
    condition = _expected(expected, before)
    holds = _holds(condition, before)
    incoming = item(key, INCOMING, brought={"S": "along"})

    outcome = subject.perform(Put(subject.region, key, incoming, condition))

    assert _same(outcome, Outcome(holds, before))
    after = subject.perform(Get(subject.region, key))
    assert same_item(after, incoming if holds else before)


@pytest.mark.parametrize("standing", [ABSENT, *STANDING])
@pytest.mark.parametrize("expected", EXPECTED[1:])
def test_stamp(subject: Subject, standing: str, expected: str) -> None:
    """A stamp changes the marker alone and tells what stands now; it never makes an item."""
    key = fresh_key()
    before = _stands(subject, key, standing)
    condition = _expected(expected, before)
    holds = _holds(condition, before)
    after = before.stamped(INCOMING) if before and holds else before

    outcome = subject.perform(Stamp(subject.region, key, INCOMING, condition))

    assert _same(outcome, Outcome(holds, after))
    assert same_item(subject.perform(Get(subject.region, key)), after)


@pytest.mark.parametrize("standing", [ABSENT, *STANDING])
@pytest.mark.parametrize("expected", EXPECTED[1:])
def test_delete(subject: Subject, standing: str, expected: str) -> None:
    """A delete takes the item out where its condition holds, and tells what stood."""
    key = fresh_key()
    before = _stands(subject, key, standing)
    condition = _expected(expected, before)
    holds = _holds(condition, before)

    outcome = subject.perform(Delete(subject.region, key, condition))

    assert _same(outcome, Outcome(holds, before))
    assert same_item(subject.perform(Get(subject.region, key)), None if holds else before)


@pytest.mark.parametrize("kind", list(Kind))
def test_order_text_is_not_above_an_equal_order(subject: Subject, kind: Kind) -> None:
    """An item is never overwritten by its equal, in whatever role either was written."""
    key = fresh_key()
    standing = item(key, INCOMING, text={"S": "first"})
    subject.perform(Put(subject.region, key, standing, Absent()))

    incoming = item(key, INCOMING.of_kind(kind), text={"S": "second"})
    outcome = subject.perform(Put(subject.region, key, incoming, Older(INCOMING.of_kind(kind))))

    assert _same(outcome, Outcome(False, standing))
