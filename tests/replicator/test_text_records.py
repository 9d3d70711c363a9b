"""Stream records that stay text are the records that the service told of, or no records."""

from __future__ import annotations

import json

import pytest

from replicator.errors import Transient
from replicator.records import EventName, Record
from replicator.requests import page, sequence_text
from replicator.text_records import records_as_text

CHANGE = {
    "ApproximateCreationDateTime": 1.5,
    "Keys": {"id": {"S": "1"}},
    "SequenceNumber": "000000000000000000007",
}


def body(**more: object) -> bytes:
    """An answer of one record, with more in its change."""
    record = {
        "eventName": "REMOVE",
        "dynamodb": {**CHANGE, **more},
        "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
    }
    return json.dumps({"Records": [record], "NextShardIterator": "on"}).encode()


def test_a_page_of_text_is_a_page() -> None:
    """Every field arrives; an image that is not there, or null, is none."""
    read = page(records_as_text(body(OldImage={"id": {"S": "1"}}, NewImage=None)))

    assert read.next_iterator == "on"
    assert read.records == (
        Record(
            sequence=7,
            created_us=1_500_000,
            event=EventName.REMOVE,
            keys={"id": {"S": "1"}},
            old={"id": {"S": "1"}},
            new=None,
            ttl=True,
            size_bytes=len('{"id": {"S": "1"}}null'),
        ),
    )


def test_a_sequence_is_told_as_it_is_written() -> None:
    """With the zeros before it, by which engines look it up."""
    (raw,) = records_as_text(body())["Records"]

    assert sequence_text(raw) == CHANGE["SequenceNumber"]


@pytest.mark.parametrize("keys", [None, {"id": "1"}, {"id": {"S": 1}}, [], "id", 7])
def test_keys_that_are_none_are_left_out_for_their_record_alone(keys: object) -> None:
    """All else of the record stands, and so do the records beside it; its images may tell more."""
    odd, sound = json.loads(body(Keys=keys, OldImage={"id": {"S": "1"}})), json.loads(body())
    answer = {**sound, "Records": [*odd["Records"], *sound["Records"]]}

    read = page(records_as_text(json.dumps(answer).encode()))

    assert read.next_iterator == "on"
    assert [record.keys for record in read.records] == [{}, {"id": {"S": "1"}}]
    assert [record.old for record in read.records] == [{"id": {"S": "1"}}, None]
    assert {(record.sequence, record.event, record.ttl) for record in read.records} == {
        (7, EventName.REMOVE, True)
    }


def test_a_record_may_have_no_keys_at_all() -> None:
    """Nor does that spoil its page."""
    raw = json.loads(body())
    del raw["Records"][0]["dynamodb"]["Keys"]

    (read,) = page(records_as_text(json.dumps(raw).encode())).records

    assert read.keys == {}


def test_keys_in_binary_are_bytes_beside_odd_ones_too() -> None:
    """However the page is decoded."""
    raw = json.loads(body(Keys={"id": {"B": "AP8="}}))
    raw["Records"] += json.loads(body(Keys=7))["Records"]

    first, _ = page(records_as_text(json.dumps(raw).encode())).records

    assert first.keys == {"id": {"B": b"\x00\xff"}}


@pytest.mark.parametrize("image", [7, "{}", [], True])
def test_an_image_that_is_no_object_is_transient(image: object) -> None:
    """It is read again, and never taken for a record without an image."""
    with pytest.raises(Transient):
        page(records_as_text(body(NewImage=image)))
