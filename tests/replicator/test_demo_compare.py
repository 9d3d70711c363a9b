"""The demo's judge: what counts as equal, what as different, and what it says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from replicator.demo.compare import canonical, describe, differences, key_of, key_text, scan
from replicator.demo.verdict import lost, untouched
from replicator.demo.world import LEDGER, ORDERS


def order(number: int, **attributes: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """An item of the orders table."""
    return {"id": {"S": f"order-{number}"}, **attributes}


def table(*items: Mapping[str, Mapping[str, Any]]) -> dict[Any, Mapping[str, Mapping[str, Any]]]:
    """A region's contents of the orders table."""
    return {key_of(ORDERS, item): item for item in items}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"N": "7"}, {"N": "7.0"}),
        ({"N": "0.7E1"}, {"N": "7"}),
        ({"N": "-0"}, {"N": "0"}),
        ({"SS": ["a", "b"]}, {"SS": ["b", "a"]}),
        ({"NS": ["1", "2.50"]}, {"NS": ["2.5", "1.0"]}),
        ({"BS": [b"", b"x"]}, {"BS": [b"x", b""]}),
        ({"M": {"a": {"N": "1"}, "b": {"L": []}}}, {"M": {"b": {"L": []}, "a": {"N": "1.0"}}}),
    ],
)
def test_forms_of_one_value_are_equal(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """The order within a set or map and the way a number is written mean nothing."""
    assert canonical(order(1, value=left)) == canonical(order(1, value=right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"S": "7"}, {"N": "7"}),
        ({"S": "7"}, {"S": "7.0"}),
        ({"S": ""}, {"NULL": True}),
        ({"B": b"a"}, {"S": "a"}),
        ({"SS": ["1"]}, {"NS": ["1"]}),
        ({"L": [{"N": "1"}, {"N": "2"}]}, {"L": [{"N": "2"}, {"N": "1"}]}),
        ({"L": []}, {"M": {}}),
        ({"N": "1" * 37 + "2"}, {"N": "1" * 38}),
        ({"BOOL": True}, {"N": "1"}),
    ],
)
def test_different_values_differ(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Types, the order of a list and the last of 38 digits all count."""
    assert canonical(order(1, value=left)) != canonical(order(1, value=right))


def test_the_marker_is_no_content() -> None:
    """Items that differ in the marker alone are equal; an attribute of any other name counts."""
    assert canonical(order(1, _replicator={"S": "x"})) == canonical(order(1))
    assert canonical(order(1, _replicated={"S": "x"})) != canonical(order(1))


def test_a_difference_names_the_key_and_every_region() -> None:
    """An item that stands in one region only is a difference, told with what each region has."""
    contents = {"here": table(order(1), order(2, n={"N": "5"})), "there": table(order(1))}
    (found,) = differences(ORDERS, contents)
    assert key_text(found.key) == "order-2"
    assert describe(found, ["n"]) == "orders order-2 | here: n=5 | there: absent"


def test_equal_tables_have_no_differences() -> None:
    """Tables are equal whatever the order in which they were read."""
    contents = {"here": table(order(1), order(2)), "there": table(order(2), order(1))}
    assert differences(ORDERS, contents) == []


def test_a_key_is_one_key_however_its_number_is_written() -> None:
    """Engines may give a numeric key back in another form; it is the same item."""
    one = {"account": {"S": "cash"}, "entry": {"N": "1"}}
    other = {"account": {"S": "cash"}, "entry": {"N": "1.0"}}
    assert key_of(LEDGER, one) == key_of(LEDGER, other)


def test_a_last_write_is_lost_where_any_region_has_something_else() -> None:
    """The expected item must stand everywhere, and a deleted one nowhere."""
    first, second = (key_of(ORDERS, order(number)) for number in (1, 2))
    expected = {first: order(1, n={"N": "1"}), second: None}
    equal = table(order(1, n={"N": "1.0"}))
    assert lost(expected, {"here": equal, "there": equal}) == []
    assert lost(expected, {"here": equal, "there": table(order(1))}) == [first]
    resurrected = table(order(1, n={"N": "1"}), order(2))
    assert lost(expected, {"here": resurrected, "there": resurrected}) == [second]


def test_a_marker_on_the_source_of_a_one_way_table_is_a_touch() -> None:
    """There, the source must hold what its application wrote and not as much as a marker more."""
    assert untouched(table(order(1)), table(order(1)))
    assert not untouched(table(order(1)), table(order(1, _replicator={"S": "x"})))
    assert not untouched(table(order(1)), table(order(1), order(2)))
    assert not untouched(table(order(1), order(2)), table(order(1)))


class PagedTable:
    """An Api that answers Scan in pages of one item."""

    def __init__(self, *items: Mapping[str, Any]) -> None:
        self._items = items

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert operation == "Scan"
        assert request["ConsistentRead"]
        start = request.get("ExclusiveStartKey", {"at": 0})["at"]
        page: dict[str, Any] = {"Items": list(self._items[start : start + 1])}
        if start + 1 < len(self._items):
            page["LastEvaluatedKey"] = {"at": start + 1}
        return page


def test_a_scan_reads_every_page() -> None:
    """A table that is larger than one answer is read to its end."""
    items = [order(number) for number in range(3)]
    assert asyncio.run(scan(PagedTable(*items), ORDERS)) == table(*items)
