"""Guards: a stamp that lands only while the content is what the record said."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from conflict.operations import (
    Absent,
    AttributeValue,
    Get,
    Guard,
    Holds,
    Image,
    Item,
    Key,
    Outcome,
    Put,
    Stamp,
)
from contract.subject import Subject
from contract.values import INCOMING, fresh_key, item, same_item

CONTENT: Mapping[str, AttributeValue] = {
    "count": {"N": "3"},
    "tags": {"SS": ["a", "b"]},
    "nested": {"M": {"deep": {"L": [{"BOOL": True}, {"NULL": True}]}}},
    "blob": {"B": b"\x00\xff"},
}


def _standing(subject: Subject, content: Image = CONTENT) -> tuple[Key, Item]:
    key = fresh_key()
    standing = item(key, None, **content)
    subject.perform(Put(subject.region, key, standing, Absent()))
    return key, standing


def _stamp(subject: Subject, key: Key, guard: Guard) -> Outcome:
    return subject.perform(Stamp(subject.region, key, INCOMING, Holds(None), guard))


@pytest.mark.parametrize(
    "guard",
    [
        pytest.param(Guard({}), id="nothing"),
        pytest.param(Guard(CONTENT), id="every attribute"),
        pytest.param(Guard({"tags": {"SS": ["b", "a"]}}), id="a set in another order"),
        pytest.param(Guard({"count": {"N": "3.0"}}), id="a number in another form"),
        pytest.param(Guard(CONTENT, ("gone", "also gone")), id="some missing"),
        pytest.param(Guard({}, ("size", "a.b", "#m", ":v", "ключ")), id="odd names missing"),
    ],
)
def test_a_guard_that_holds_lets_the_stamp_land(subject: Subject, guard: Guard) -> None:
    """A stamp lands while the attributes of its guard stand as they were."""
    key, standing = _standing(subject)

    outcome = _stamp(subject, key, guard)

    assert outcome.done
    assert same_item(outcome.item, standing.stamped(INCOMING))


@pytest.mark.parametrize(
    "guard",
    [
        pytest.param(Guard({**CONTENT, "count": {"N": "4"}}), id="another number"),
        pytest.param(Guard({"count": {"S": "3"}}), id="another type"),
        pytest.param(Guard({"tags": {"SS": ["a"]}}), id="a smaller set"),
        pytest.param(Guard({"nested": {"M": {"deep": {"L": []}}}}), id="another map"),
        pytest.param(Guard({"gone": {"S": "x"}}), id="an attribute that is gone"),
        pytest.param(Guard({}, ("count",)), id="an attribute that came"),
    ],
)
def test_a_guard_that_fails_keeps_the_stamp_out(subject: Subject, guard: Guard) -> None:
    """A stamp changes nothing once one attribute of its guard differs, and tells what stands."""
    key, standing = _standing(subject)

    outcome = _stamp(subject, key, guard)

    assert not outcome.done
    assert same_item(outcome.item, standing)
    assert same_item(subject.perform(Get(subject.region, key)), standing)


def test_a_guard_takes_any_attribute_name(subject: Subject) -> None:
    """Reserved words, dots, blanks and placeholders are names like any other."""
    odd = {name: {"S": name} for name in ("size", "a.b", "#m", ":v", "with blank", "ключ", "a[0]")}
    key, standing = _standing(subject, odd)

    outcome = _stamp(subject, key, Guard(standing.image))

    assert outcome.done
    assert same_item(outcome.item, standing.stamped(INCOMING))


def test_a_guard_of_a_wide_item_is_accepted(subject: Subject) -> None:
    """An item of 250 attributes is guarded without passing the limits of an expression."""
    wide = {f"attribute-with-a-long-name-{number}": {"N": str(number)} for number in range(250)}
    key, standing = _standing(subject, wide)

    outcome = _stamp(subject, key, Guard(standing.image, tuple(f"gone-{n}" for n in range(250))))

    assert outcome.done


def test_a_guard_does_not_make_an_item(subject: Subject) -> None:
    """A guard of missing attributes holds on nothing: a stamp never makes an item."""
    key = fresh_key()

    outcome = _stamp(subject, key, Guard({}, ("gone",)))

    assert outcome == Outcome(False, None)
    assert subject.perform(Get(subject.region, key)) is None
