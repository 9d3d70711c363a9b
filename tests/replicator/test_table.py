"""Keys, batch reads and descriptions of a table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.operations import Absent, AttributeValue, Item, Outcome, Put
from replicator.errors import ConditionFailed, Fatal, Throttled, Transient
from replicator.records import TableDescription, ViewType
from replicator.table import IDLE_ROUNDS_MAX, DynamoTable, describe_table, key_of
from support.clock import VirtualClock
from support.scripted_api import ScriptedApi, Wire

NAMES = ("id",)


def table(api: ScriptedApi, clock: VirtualClock) -> DynamoTable:
    """Put the adapter before a scripted Api."""
    return DynamoTable(api=api, name="orders", marker="_m", key_names=NAMES, sleep=clock.sleep)


def identity(*values: AttributeValue) -> str:
    """Name a key of these attributes."""
    names = [f"k{index}" for index in range(len(values))]
    return key_of(dict(zip(names, values, strict=True)), names).id


@pytest.mark.parametrize(
    "same",
    [
        ["1", "1.0", "1E0", "0.1e1", "+1", "01"],
        ["0", "0.00", "-0", "0E5"],
        ["-1200", "-1.2E3", "-1200.0"],
        ["1E-130", "0.1E-129"],
        [f"{10**37}", "1E37"],
    ],
)
def test_a_number_has_one_identity(same: list[str]) -> None:
    """However a number is written, it names one key."""
    assert len({identity({"N": text}) for text in same}) == 1


def test_numbers_that_differ_in_the_last_of_many_digits_differ() -> None:
    """No digit is rounded away."""
    digits = "1234567890" * 4
    assert identity({"N": digits + "1"}) != identity({"N": digits + "2"})


parts = st.one_of(
    st.text(max_size=4).map(lambda text: ("S", text)),
    st.integers(-99, 99).map(lambda number: ("N", str(number))),
    st.binary(max_size=4).map(lambda data: ("B", data)),
)


@given(st.tuples(parts, parts), st.tuples(parts, parts))
def test_different_keys_have_different_identities(
    left: tuple[tuple[str, object], ...], right: tuple[tuple[str, object], ...]
) -> None:
    """No two keys meet, wherever the border between their two attributes lies."""
    first, second = ([{kind: value} for kind, value in key] for key in (left, right))
    assert (identity(*first) == identity(*second)) == (left == right)


def test_a_key_takes_its_attributes_from_the_image() -> None:
    """The key holds the key attributes alone, in the order of the schema, verbatim."""
    image = {"x": {"S": "no"}, "at": {"N": "1.0"}, "id": {"S": "7"}}
    assert list(key_of(image, ("id", "at")).attributes.items()) == [
        ("id", {"S": "7"}),
        ("at", {"N": "1.0"}),
    ]


@pytest.mark.parametrize("value", [{}, {"BOOL": True}, {"SS": ["a"]}])
def test_what_cannot_be_a_key_is_refused(value: AttributeValue) -> None:
    """Only a string, a number or a binary names a key."""
    with pytest.raises(ValueError, match="string, a number or a binary"):
        identity(value)


def test_no_keys_need_no_call() -> None:
    """Reading nothing asks nothing."""
    clock, api = VirtualClock(), ScriptedApi()
    assert clock.run(table(api, clock).get([])) == []
    assert api.calls == []


def items(*ids: str) -> Wire:
    """Answer a batch read with items."""
    return {"Responses": {"orders": [{"id": {"S": one}, "_m": {"S": one}} for one in ids]}}


def unprocessed(*ids: str) -> Wire:
    """Answer a batch read with keys left over."""
    entry = {"Keys": [{"id": {"S": one}} for one in ids], "ConsistentRead": True}
    return {"UnprocessedKeys": {"orders": entry}}


def test_items_come_in_the_order_of_their_keys() -> None:
    """A batch answer has no order; items are matched to keys by what they hold."""
    clock, api = VirtualClock(), ScriptedApi(items("c", "a"))
    keys = [key_of({"id": {"S": one}}, NAMES) for one in "abc"]
    got = clock.run(table(api, clock).get(keys))
    assert [item and item.marker for item in got] == [{"S": "a"}, None, {"S": "c"}]


def test_unprocessed_keys_are_asked_for_again() -> None:
    """What a batch leaves is asked for until nothing is left, and nothing else is."""
    left = {**items("a"), **unprocessed("b", "c")}
    clock, api = VirtualClock(), ScriptedApi(left, {**items("b"), **unprocessed("c")}, items("c"))
    keys = [key_of({"id": {"S": one}}, NAMES) for one in "abc"]
    assert None not in clock.run(table(api, clock).get(keys))
    asked = [len(request["RequestItems"]["orders"]["Keys"]) for request in api.requests]
    assert asked == [3, 2, 1]
    assert clock.monotonic_s() > 0


def test_keys_that_stay_unprocessed_count_as_throttling() -> None:
    """After so many rounds without one key the read is given up, to be tried again as a whole."""
    clock, api = VirtualClock(), ScriptedApi(*[unprocessed("a")] * IDLE_ROUNDS_MAX)
    with pytest.raises(Throttled, match="BatchGetItem on orders"):
        clock.run(table(api, clock).get([key_of({"id": {"S": "a"}}, NAMES)]))


def test_a_lost_condition_is_an_outcome() -> None:
    """The writer sees what stood, not an error."""
    clock, api = VirtualClock(), ScriptedApi(ConditionFailed({"id": {"S": "a"}, "_m": {"S": "v"}}))
    image = {"id": {"S": "a"}}
    put = Put("eu", key_of(image, NAMES), Item(image, None), Absent())
    assert clock.run(table(api, clock).put(put)) == Outcome(False, Item(image, {"S": "v"}))


def description(**changes: Any) -> Wire:
    """Answer DescribeTable."""
    plain = {
        "TableStatus": "ACTIVE",
        "KeySchema": [
            {"AttributeName": "at", "KeyType": "RANGE"},
            {"AttributeName": "id", "KeyType": "HASH"},
        ],
        "AttributeDefinitions": [
            {"AttributeName": "at", "AttributeType": "N"},
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "indexed", "AttributeType": "B"},
        ],
    }
    return {"Table": {**plain, **changes}}


TTL_ON: Wire = {
    "TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
}
TTL_OFF: Wire = {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}


def described(*answers: Wire | Exception) -> TableDescription:
    """Describe a table from these answers."""
    return VirtualClock().run(describe_table(ScriptedApi(*answers), "orders"))


def test_a_description_names_the_partition_key_first() -> None:
    """The key schema comes in its own order, without the attributes of indexes."""
    got = described(description(), TTL_OFF)
    assert list(got.key_schema.items()) == [("id", ("HASH", "S")), ("at", ("RANGE", "N"))]
    assert (got.stream_arn, got.view_type, got.ttl_attribute) == (None, None, None)


def test_a_description_tells_of_stream_replicas_and_time_to_live() -> None:
    """What the preflight asks for is there."""
    on = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    table = description(
        StreamSpecification=on, LatestStreamArn="arn", Replicas=[{"RegionName": "us-east-1"}]
    )
    got = described(table, TTL_ON)
    assert (got.stream_arn, got.view_type) == ("arn", ViewType.KEYS_ONLY)
    assert got.ttl_attribute == "expires"
    assert got.global_table_regions == ("us-east-1",)


def test_a_stream_that_was_switched_off_is_no_stream() -> None:
    """The ARN of the last stream stays on the table for a day; it is not the table's stream."""
    assert described(description(LatestStreamArn="arn"), TTL_OFF).stream_arn is None


@pytest.mark.parametrize(("status", "active"), [("UPDATING", True), ("CREATING", False)])
def test_a_table_that_is_being_changed_serves(status: str, active: bool) -> None:
    """UPDATING serves reads and writes, CREATING does not."""
    assert described(description(TableStatus=status), TTL_OFF).active is active


def test_a_refused_question_for_the_time_to_live_is_no_obstacle() -> None:
    """An engine without the call, or a policy without it, leaves the attribute unknown."""
    assert described(description(), Fatal("UnknownOperation")).ttl_attribute is None


def test_a_question_that_failed_for_the_moment_is_not_an_answer() -> None:
    """A time-out says nothing about the time to live."""
    with pytest.raises(Transient):
        described(description(), Transient("timed out"))
