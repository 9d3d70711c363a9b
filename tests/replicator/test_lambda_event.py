"""What a Lambda event is understood to say, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from replicator.errors import Fatal
from replicator.lambda_event import batch_of, decoded
from replicator.records import EventName
from support.event_source_mapping import lambda_record

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-11-23T00:00:00.000"


def raw(sequence: str = "100000000000000000001", **change: Any) -> dict[str, Any]:
    """A record of an event."""
    return {
        "eventName": "INSERT",
        "eventSourceARN": ARN,
        "dynamodb": {
            "ApproximateCreationDateTime": 1479499740.0,
            "Keys": {"id": {"S": "1"}},
            "NewImage": {"id": {"S": "1"}},
            "SequenceNumber": sequence,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **change,
        },
    }


def test_a_batch_is_its_records_in_order_with_their_own_identifiers() -> None:
    """The answer must name a sequence number as the event spelt it, zeros and all."""
    batch = batch_of({"Records": [raw("000000000000000000007"), raw("000000000000000000008")]})

    assert (batch.stream_arn, batch.table) == (ARN, "orders")
    assert [record.sequence for record in batch.records] == [7, 8]
    assert batch.identifiers == {7: "000000000000000000007", 8: "000000000000000000008"}
    assert batch.view_types == {"NEW_AND_OLD_IMAGES"}
    assert batch.state is None
    assert batch.records[0].event is EventName.INSERT


@pytest.mark.parametrize("time", [1479499740, 1479499740.0, 1479499740.25])
def test_a_time_in_seconds_becomes_microseconds(time: float) -> None:
    """Whole, or with a fraction, as JSON has it."""
    batch = batch_of({"Records": [raw(ApproximateCreationDateTime=time)]})
    assert batch.records[0].created_us == int(time * 1_000_000)


BINARIES = {
    "b": {"B": b"\x00\xff"},
    "bs": {"BS": [b"a", b"\xfe\xed"]},
    "deep": {"L": [{"M": {"B": {"B": b"x"}, "s": {"S": "AAEC"}}}, {"N": "1.50"}, {"M": {}}]},
    "null": {"NULL": True},
    "odd": {},
}


def test_binaries_come_in_base64_and_leave_as_bytes() -> None:
    """At any depth; an attribute called B is no binary, and nothing else is touched."""
    image = {"id": {"B": b"key"}, **BINARIES}
    told = {
        "eventName": "MODIFY",
        "dynamodb": {
            "ApproximateCreationDateTime": datetime(2026, 11, 23, tzinfo=UTC),
            "Keys": {"id": {"B": b"key"}},
            "OldImage": image,
            "NewImage": image,
            "SequenceNumber": "1",
        },
    }
    event = json.loads(json.dumps({"Records": [lambda_record(told, ARN, "us-east-1")]}))
    (record,) = batch_of(event).records

    assert record.keys == {"id": {"B": b"key"}}
    assert record.old == record.new == image


def test_a_value_that_is_no_base64_is_refused() -> None:
    """It is not passed on as something else."""
    with pytest.raises(ValueError, match="base64"):
        decoded({"B": "not base64!"})


@pytest.mark.parametrize("names", [("type", "principalId"), ("Type", "PrincipalId")])
def test_a_delete_by_time_to_live_is_known(names: tuple[str, str]) -> None:
    """By its user identity, however the names are spelt."""
    record = raw(NewImage=None, OldImage={"id": {"S": "1"}})
    del record["dynamodb"]["NewImage"]
    record["eventName"] = "REMOVE"
    record["userIdentity"] = dict(zip(names, ("Service", "dynamodb.amazonaws.com"), strict=True))
    assert batch_of({"Records": [record]}).records[0].ttl
    del record["userIdentity"]
    assert not batch_of({"Records": [record]}).records[0].ttl


def test_a_window_has_its_state_handed_back() -> None:
    """Also at its end, when a batch may be empty."""
    window = {"start": "2026-11-23T00:00:00Z", "end": "2026-11-23T00:01:00Z"}
    event = {"Records": [raw()], "window": window, "state": {"1": 282}, "shardId": "s"}
    assert batch_of(event).state == {"1": 282}
    last = {"Records": [], "window": window, "isFinalInvokeForWindow": True, "eventSourceARN": ARN}
    assert batch_of(last).state == {}
    assert batch_of(last).records == ()


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (None, "no list of Records"),
        ([], "no list of Records"),
        ({}, "no list of Records"),
        ({"Records": "x"}, "no list of Records"),
        ({"Records": [{**raw(), "eventSourceARN": "arn:aws:sqs:::queue"}]}, "name no stream"),
        ({"Records": [{"body": "x"}]}, "name no stream"),
        ({"Records": ["x"]}, "name no stream"),
        ({"Records": [raw(), {**raw(), "eventSourceARN": ARN + "1"}]}, "several streams"),
        ({"Records": [raw(), raw(SequenceNumber="x")]}, "record 1 is malformed"),
        ({"Records": [raw(Keys={})]}, "record 0 is malformed"),
        ({"Records": [raw(Keys={"id": "secret"})]}, "record 0 is malformed"),
        ({"Records": [raw(NewImage={"a": {"B": "secret!"}})]}, "record 0 is malformed"),
        ({"Records": [raw(ApproximateCreationDateTime=None)]}, "record 0 is malformed"),
        ({"Records": [{"eventSourceARN": ARN, "dynamodb": None}]}, "record 0 is malformed"),
    ],
)
def test_what_is_no_batch_is_one_clear_error(event: object, words: str) -> None:
    """It names what is wrong and no content; the mapping then keeps the batch."""
    with pytest.raises(Fatal, match=words) as error:
        batch_of(event)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
