"""What requests say, and what is read from answers and records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from conflict.operations import (
    Absent,
    Delete,
    Expected,
    Guard,
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
from replicator.records import EventName
from replicator.requests import (
    GUARD_ATTRIBUTES_MAX,
    TableRequests,
    batch_get_request,
    microseconds,
    page,
    record,
)

REQUESTS = TableRequests(table="orders", marker="_m", key_names=("id", "at"))
VERSION = Version(17, "eu-west-1", 4, Kind.REPLICATED)
MARKER = marker_of(VERSION)
KEY = Key({"id": {"S": "7"}, "at": {"N": "1"}}, "7/1")
IMAGE = {**KEY.attributes, "total": {"N": "1.50"}}

EXPRESSION_BYTES_MAX = 4096
OPERATORS_MAX = 300


def put(expected: Expected, marker: Any = MARKER) -> dict[str, Any]:
    """Make a put under a condition."""
    return REQUESTS.put(Put("eu", KEY, Item(IMAGE, marker), expected))


def stamp(expected: Expected, guard: Guard | None = None) -> dict[str, Any]:
    """Make a stamp under a condition."""
    return REQUESTS.stamp(Stamp("eu", KEY, VERSION, expected, guard))


def test_absent_asks_for_no_item() -> None:
    """Absent holds where the partition key does not exist, and needs no values."""
    request = put(Absent())
    assert request["ConditionExpression"] == "attribute_not_exists(#pk)"
    assert request["ExpressionAttributeNames"] == {"#pk": "id"}
    assert "ExpressionAttributeValues" not in request


def test_holding_no_marker_asks_for_an_item_without_one() -> None:
    """Holds(None) needs an item to stand: an update under it makes none."""
    request = put(Holds(None))
    condition = "attribute_exists(#pk) AND attribute_not_exists(#m)"
    assert request["ConditionExpression"] == condition
    assert request["ExpressionAttributeNames"] == {"#pk": "id", "#m": "_m"}


@pytest.mark.parametrize("marker", [MARKER, {"N": "3"}, {"M": {}}, {"NULL": True}])
def test_holding_a_marker_asks_for_exactly_that_value(marker: dict[str, object]) -> None:
    """Holds compares the raw value, whatever type an application has put there."""
    request = put(Holds(marker))
    assert request["ConditionExpression"] == "#m = :m"
    assert request["ExpressionAttributeValues"] == {":m": marker}


def test_older_compares_the_order_text() -> None:
    """Older leaves the kind out, so that a marker of the same order is not less."""
    request = put(Older(VERSION))
    assert request["ConditionExpression"] == "#m < :order"
    assert request["ExpressionAttributeValues"] == {":order": {"S": VERSION.order_text}}


def test_every_write_asks_for_what_stood() -> None:
    """A lost condition answers with the item, so that no read is needed after it."""
    delete = REQUESTS.delete(Delete("eu", KEY, Holds(MARKER)))
    for request in (put(Absent()), stamp(Holds(None)), delete):
        assert request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert put(Absent())["ReturnValues"] == "ALL_OLD"
    assert delete["ReturnValues"] == "ALL_OLD"
    assert stamp(Holds(None))["ReturnValues"] == "ALL_NEW"


def test_a_put_writes_the_marker_among_the_attributes() -> None:
    """The item is written verbatim, with its marker, and without one where it has none."""
    assert put(Absent())["Item"] == {**IMAGE, "_m": MARKER}
    assert put(Absent(), marker=None)["Item"] == IMAGE


def test_a_stamp_sets_nothing_but_the_marker() -> None:
    """The update expression names the marker alone."""
    request = stamp(Holds(MARKER))
    assert request["UpdateExpression"] == "SET #m = :v"
    assert request["Key"] == KEY.attributes
    assert request["ExpressionAttributeValues"] == {":m": MARKER, ":v": {"S": VERSION.text}}


@pytest.mark.parametrize("expected", [Holds(None), Holds(MARKER), Older(VERSION)])
def test_no_stamp_may_make_an_item(expected: Expected) -> None:
    """Each condition of a stamp is false where no item stands, so the update never upserts."""
    condition = stamp(expected)["ConditionExpression"]
    assert condition.startswith(("attribute_exists(#pk) AND ", "#m = ", "#m < "))


def test_absent_is_refused_for_stamp_and_delete() -> None:
    """What changes a standing item cannot expect that none stands."""
    with pytest.raises(TypeError):
        stamp(Absent())
    with pytest.raises(TypeError):
        REQUESTS.delete(Delete("eu", KEY, Absent()))


def test_a_guard_compares_what_stands_and_what_does_not() -> None:
    """A guard adds one term per attribute; the key needs none."""
    request = stamp(Holds(None), Guard(IMAGE, ("gone", "left")))
    assert request["ConditionExpression"] == (
        "attribute_exists(#pk) AND attribute_not_exists(#m) AND #g0 = :g0"
        " AND attribute_not_exists(#h0) AND attribute_not_exists(#h1)"
    )
    names = request["ExpressionAttributeNames"]
    assert (names["#g0"], names["#h0"], names["#h1"]) == ("total", "gone", "left")
    assert request["ExpressionAttributeValues"][":g0"] == {"N": "1.50"}


@pytest.mark.parametrize(("equal", "missing"), [(150, 150), (0, 150), (60, 60)])
def test_a_guard_stays_within_the_limits_of_an_expression(equal: int, missing: int) -> None:
    """However many attributes it has, the expression keeps to 4 KB and 300 operators."""
    guard = Guard({f"a{i}": {"S": "x"} for i in range(equal)}, tuple(map(str, range(missing))))
    request = stamp(Holds(None), guard)
    condition = request["ConditionExpression"]
    assert len(condition) <= EXPRESSION_BYTES_MAX
    assert condition.count("AND") + condition.count("(") + condition.count("=") <= OPERATORS_MAX
    guarded = [name for name in request["ExpressionAttributeNames"] if name[1] in "gh"]
    assert len(guarded) == min(equal + missing, GUARD_ATTRIBUTES_MAX)
    assert guarded[:equal] == [f"#g{i}" for i in range(min(equal, GUARD_ATTRIBUTES_MAX))]


def test_reading_keys_is_strongly_consistent() -> None:
    """A batch read names each key once, by its key attributes alone."""
    assert REQUESTS.read([KEY]) == batch_get_request("orders", [KEY.attributes])
    assert REQUESTS.read([KEY])["RequestItems"]["orders"] == {
        "Keys": [KEY.attributes],
        "ConsistentRead": True,
    }


def test_an_outcome_keeps_the_marker_beside_the_image() -> None:
    """What an answer holds is split into image and marker; no attributes mean no item."""
    wire = {**IMAGE, "_m": MARKER}
    assert REQUESTS.done({"Attributes": wire}) == Outcome(True, Item(IMAGE, MARKER))
    assert REQUESTS.done({}) == Outcome(True, None)
    assert REQUESTS.refused(wire) == Outcome(False, Item(IMAGE, MARKER))
    assert REQUESTS.refused(IMAGE) == Outcome(False, Item(IMAGE, None))
    assert REQUESTS.refused(None) == Outcome(False, None)


def raw_record(**changes: Any) -> dict[str, Any]:
    """Make a stream record as the client library presents it."""
    change = {
        "Keys": {"id": {"S": "7"}},
        "NewImage": {"id": {"S": "7"}, "empty": {}},
        "SequenceNumber": "000000000000000000042",
        "ApproximateCreationDateTime": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return {"eventName": "INSERT", "dynamodb": change, **changes}


def test_a_record_is_read_verbatim() -> None:
    """Images pass through, also an attribute value without a type; sequences are numbers."""
    got = record(raw_record())
    assert got.sequence == 42
    assert got.event is EventName.INSERT
    assert got.new == {"id": {"S": "7"}, "empty": {}}
    assert got.old is None
    assert not got.ttl


@pytest.mark.parametrize("more", [{}, {"Keys": None}, {"Keys": {}}])
def test_a_record_without_keys_is_a_record(more: dict[str, Any]) -> None:
    """What is done about it is decided where its images are looked into."""
    raw = raw_record()
    del raw["dynamodb"]["Keys"]
    raw["dynamodb"] |= more
    assert record(raw).keys == {}


def test_an_unknown_event_is_no_event() -> None:
    """A name that this version does not know fails nothing."""
    assert record(raw_record(eventName="UNKNOWN_TO_SDK_VERSION")).event is None


@pytest.mark.parametrize(
    ("identity", "ttl"),
    [
        ({"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}, True),
        ({"type": "Service", "principalId": "dynamodb.amazonaws.com"}, True),
        ({"Type": "Service", "PrincipalId": "replication.dynamodb.amazonaws.com"}, False),
        (None, False),
    ],
)
def test_a_delete_by_time_to_live_is_told(identity: dict[str, str] | None, ttl: bool) -> None:
    """The time-to-live service is known by both its type and its name."""
    assert record(raw_record(userIdentity=identity)).ttl is ttl


@pytest.mark.parametrize(
    "time",
    [datetime(2026, 1, 1, 0, 0, 1, 250_000, tzinfo=UTC), 1_767_225_601.25],
)
def test_times_are_microseconds(time: datetime | float) -> None:
    """The client library's datetime and Lambda's seconds are the same moment."""
    assert microseconds(time) == 1_767_225_601_250_000


def test_a_page_without_an_iterator_is_the_last() -> None:
    """Only a missing iterator ends a shard."""
    assert page({"Records": [], "NextShardIterator": "next"}).next_iterator == "next"
    last = page({"Records": [raw_record()]})
    assert last.next_iterator is None
    assert [one.sequence for one in last.records] == [42]
