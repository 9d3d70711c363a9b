"""Items pass verbatim: every attribute type, at the limits that DynamoDB sets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import pytest

from conflict.operations import (
    Absent,
    AttributeValue,
    Delete,
    Get,
    Holds,
    Item,
    Key,
    Outcome,
    Put,
)
from contract.subject import MakeSubject, Subject
from contract.values import INCOMING, fresh_key, item, named_key, same_item
from replicator.ports import READ_BATCH_MAX
from replicator.records import TrimHorizon

ITEM_BYTES_MAX = 409_600
"""Source: Developer Guide, "Quotas in Amazon DynamoDB": 400 KB, names included."""

DEPTH_MAX = 32
"""Source: Developer Guide, "Quotas in Amazon DynamoDB": nested attributes up to 32 levels."""


def _nested(depth: int) -> AttributeValue:
    """Return lists and maps in turns, `depth` levels with the text inside."""
    inner: AttributeValue = {"S": "inmost"}
    return reduce(
        lambda value, level: {"L": [value]} if level % 2 else {"M": {"in": value}},
        range(depth - 1),
        inner,
    )


VALUES: Mapping[str, AttributeValue] = {
    "empty text": {"S": ""},
    "unicode": {"S": "Grüße, 世界, \U0001f30d, \u202e, \u0000, e\u0301"},
    "38 digits": {"N": "12345678901234567890123456789012345678"},
    "38 digits below zero": {"N": "-0.12345678901234567890123456789012345678"},
    "largest": {"N": "9.9999999999999999999999999999999999999E+125"},
    "smallest": {"N": "1E-130"},
    "trailing zeros": {"N": "007.500"},
    "many zeros": {"N": "100000000000000000000000000000000000000000"},
    "empty binary": {"B": b""},
    "binary": {"B": bytes(range(256))},
    "true": {"BOOL": True},
    "null": {"NULL": True},
    "text set": {"SS": ["b", "a", "世"]},
    "number set": {"NS": ["3", "-1", "2.50", "12345678901234567890123456789012345678"]},
    "binary set": {"BS": [b"\x00", b"\xff\xfe"]},
    "empty list": {"L": []},
    "empty map": {"M": {}},
    "empty in empty": {"L": [{"M": {}}, {"L": []}, {"S": ""}, {"B": b""}]},
    "odd names": {"M": {"base64": {"S": "x"}, "a.b": {"S": "x"}, "#a": {"M": {":v": {"N": "1"}}}}},
    "32 deep": _nested(DEPTH_MAX),
}


def _round_trip(subject: Subject, sent: Item, key: Key) -> None:
    assert subject.perform(Put(subject.region, key, sent, Absent())) == Outcome(True, None)
    assert same_item(subject.perform(Get(subject.region, key)), sent)
    assert subject.get([key])[0] is not None


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_value_comes_back_as_it_was_put(subject: Subject, value: AttributeValue) -> None:
    """Every type of attribute value is written and read without loss."""
    key = fresh_key()
    _round_trip(subject, item(key, INCOMING, value=value), key)


def test_a_stream_record_carries_every_value(make_subject: MakeSubject) -> None:
    """Every type of attribute value arrives in the image of its stream record."""
    subject, key = make_subject(), fresh_key()
    sent = item(key, INCOMING, **VALUES)

    subject.perform(Put(subject.region, key, sent, Absent()))

    [shard] = subject.describe().shards
    [record] = subject.records(subject.iterator(shard.id, TrimHorizon()), 1000).records
    assert record.new is not None
    image = {name: value for name, value in record.new.items() if name != "_replicator"}
    assert same_item(Item(image, record.new["_replicator"]), sent)


def test_an_item_close_to_400_kb_passes(subject: Subject) -> None:
    """The largest item that DynamoDB takes, marker and names included, is written and read."""
    key = fresh_key()
    small = item(key, INCOMING, bulk={"S": ""})
    names_and_rest = sum(map(len, small.image)) + len("_replicator") + len(INCOMING.text)
    texts = sum(len(str(value["S"])) for value in small.image.values())
    bulk = "x" * (ITEM_BYTES_MAX - names_and_rest - texts - 100)
    _round_trip(subject, item(key, INCOMING, bulk={"S": bulk}), key)


@pytest.mark.parametrize("id_", ["世界 \U0001f30d", "#pk:v.[0]", "\u202e\u0001", "x" * 2048])
def test_any_text_is_a_key(subject: Subject, id_: str) -> None:
    """A key of any text up to 2,048 bytes is written, read and kept apart from others."""
    key = named_key(id_)
    _round_trip(subject, item(key, INCOMING), key)


def test_a_sort_key_tells_items_apart(make_subject: MakeSubject) -> None:
    """Items of one partition key with different sort keys are different items."""
    subject = make_subject(ranged=True)
    first, second = named_key("one", "1"), named_key("one", "2")
    sent = item(first, INCOMING)
    subject.perform(Put(subject.region, first, sent, Absent()))

    absent, found = subject.get([second, first])

    assert absent is None
    assert same_item(found, sent)


@pytest.mark.parametrize("form", ["1.0", "1E0", "01"])
def test_equal_numbers_are_one_key(make_subject: MakeSubject, form: str) -> None:
    """A number finds its item in whatever form it is written."""
    subject = make_subject(ranged=True)
    plain, other = named_key("one", "1"), named_key("one", form)
    sent = item(plain, INCOMING)
    subject.perform(Put(subject.region, plain, sent, Absent()))

    assert same_item(subject.perform(Get(subject.region, other)), sent)
    assert subject.perform(Delete(subject.region, other, Holds(sent.marker))).done


def test_a_batch_read_keeps_the_order_of_its_keys(subject: Subject) -> None:
    """Up to 100 keys are read at once, absent ones as None, in the order asked."""
    keys = [fresh_key() for _ in range(READ_BATCH_MAX)]
    for number, key in enumerate(keys):
        if number % 3:
            sent = item(key, INCOMING, number={"N": str(number)})
            subject.perform(Put(subject.region, key, sent, Absent()))

    read = subject.get(keys[::-1])[::-1]

    for number, (key, found) in enumerate(zip(keys, read, strict=True)):
        expected = item(key, INCOMING, number={"N": str(number)}) if number % 3 else None
        assert same_item(found, expected)


def test_a_batch_read_is_complete_beyond_one_answer(subject: Subject) -> None:
    """A batch read of more than fits into one answer of 16 MB still returns every item."""
    keys = [fresh_key() for _ in range(45)]
    for key in keys:
        sent = item(key, INCOMING, bulk={"S": "x" * 400_000})
        subject.perform(Put(subject.region, key, sent, Absent()))

    assert all(found is not None for found in subject.get(keys))


def test_a_batch_read_of_nothing_is_nothing(subject: Subject) -> None:
    """No keys, no items, no error."""
    assert subject.get([]) == []
