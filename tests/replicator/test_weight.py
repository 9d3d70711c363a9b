"""What a record takes in memory, whichever way it was read: the measure of what is read ahead."""

from __future__ import annotations

import json

from replicator.records import EventName, Record, weight
from replicator.requests import record
from replicator.text_records import records_as_text

IMAGE = {"id": {"S": "1"}, "body": {"S": "x" * 1_000}, "deep": {"M": {"l": {"L": [{"B": "eA=="}]}}}}
CHANGE = {
    "ApproximateCreationDateTime": 1.0,
    "Keys": {"id": {"S": "1"}},
    "SequenceNumber": "7",
    "NewImage": IMAGE,
    "OldImage": IMAGE,
}


def read(change: dict[str, object]) -> Record:
    """A record as the lean plane reads it."""
    body = json.dumps({"Records": [{"eventName": "MODIFY", "dynamodb": change}]}).encode()
    (raw,) = records_as_text(body)["Records"]
    return record(raw)


def test_a_record_read_as_text_weighs_what_its_text_does() -> None:
    """Both images count, also where the service says nothing of their size, or 0."""
    text_bytes = len(json.dumps(IMAGE))
    assert weight(read(CHANGE)) == 2 * text_bytes
    assert weight(read({**CHANGE, "SizeBytes": 0})) == 2 * text_bytes


def test_what_the_stream_says_of_a_size_is_believed() -> None:
    """As the botocore plane reads it."""
    assert weight(record({"eventName": "MODIFY", "dynamodb": {**CHANGE, "SizeBytes": 77}})) == 77


def test_a_size_that_nobody_told_is_estimated() -> None:
    """Names and values of all images, at any depth."""
    plain = Record(
        sequence=1,
        created_us=1,
        event=EventName.INSERT,
        keys={"id": {"S": "1"}},
        new={"id": {"S": "1"}, "deep": {"M": {"l": {"L": [{"B": b"x" * 500}, {"S": "y" * 500}]}}}},
    )
    assert 1_000 < weight(plain) < 1_050
