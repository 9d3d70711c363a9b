"""Streams: what a change leaves in the stream, and how the stream is read."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from conflict.operations import Absent, Delete, Holds, Image, Item, Key, Older, Put, Stamp
from conflict.version import Version
from contract.subject import MARKER, MakeSubject, Subject
from contract.values import EARLIER, INCOMING, LATER, canonical, fresh_key, item, named_key
from replicator.errors import ShardGone
from replicator.records import After, EventName, Record, TrimHorizon, ViewType

PAGE = 1000
"""Source: API_streams_GetRecords, Limit: at most 1000."""


@pytest.fixture
def subject(make_subject: MakeSubject) -> Subject:
    """Give a table whose stream holds nothing yet."""
    return make_subject()


def _read(
    subject: Subject, position: TrimHorizon | After | None = None, *, limit: int = PAGE
) -> list[Record]:
    """Read the only shard from a position to the last record there is now."""
    [shard] = subject.describe().shards
    iterator: str | None = subject.iterator(shard.id, position or TrimHorizon())
    found: list[Record] = []
    while iterator is not None:
        page = subject.records(iterator, limit)
        assert len(page.records) <= limit
        if not page.records:
            break
        found += page.records
        iterator = page.next_iterator
    return found


def _wire(of: Item) -> Image:
    return of.image if of.marker is None else {**of.image, MARKER: of.marker}


def _same_image(one: Image | None, other: Image | None) -> bool:
    if one is None or other is None:
        return one is other
    return canonical(one) == canonical(other)


def _insert_modify_remove(subject: Subject, key: Key) -> tuple[Image, Image]:
    """Make one change of each kind; return the two images that stood."""
    first, second = item(key, EARLIER, n={"N": "1"}), item(key, INCOMING, n={"N": "2"})
    subject.perform(Put(subject.region, key, first, Absent()))
    subject.perform(Put(subject.region, key, second, Older(INCOMING)))
    subject.perform(Delete(subject.region, key, Holds(second.marker)))
    return _wire(first), _wire(second)


def _puts(subject: Subject, count: int) -> list[int]:
    """Put that many items and return the sequences of their records."""
    for _ in range(count):
        key = fresh_key()
        subject.perform(Put(subject.region, key, item(key, INCOMING), Absent()))
    return [record.sequence for record in _read(subject)]


def test_a_stream_describes_itself(make_subject: MakeSubject) -> None:
    """A stream names its view type and is enabled; a young one has one open shard."""
    described = make_subject(ViewType.NEW_IMAGE).describe()

    assert described.view_type is ViewType.NEW_IMAGE
    assert described.enabled
    assert described.arn
    [shard] = described.shards
    assert not shard.closed
    assert shard.parent is None


@pytest.mark.parametrize("view_type", list(ViewType))
def test_a_record_carries_what_its_view_type_says(
    make_subject: MakeSubject, view_type: ViewType
) -> None:
    """Insert, modify and remove leave one record each, with the images of the view type."""
    subject, key = make_subject(view_type), fresh_key()
    first, second = _insert_modify_remove(subject, key)

    records = _read(subject)

    has_old = view_type in (ViewType.OLD_IMAGE, ViewType.NEW_AND_OLD_IMAGES)
    has_new = view_type in (ViewType.NEW_IMAGE, ViewType.NEW_AND_OLD_IMAGES)
    events = [EventName.INSERT, EventName.MODIFY, EventName.REMOVE]
    assert [record.event for record in records] == events
    assert all(record.keys == key.attributes for record in records)
    olds, news = [None, first, second], [first, second, None]
    for record, old, new in zip(records, olds, news, strict=True):
        assert _same_image(record.old, old if has_old else None)
        assert _same_image(record.new, new if has_new else None)
        assert not record.ttl


def test_a_record_carries_the_keys_of_a_ranged_table(make_subject: MakeSubject) -> None:
    """A record's keys are the whole primary key."""
    subject, key = make_subject(ViewType.KEYS_ONLY, ranged=True), named_key("one", "-7")
    subject.perform(Put(subject.region, key, item(key), Absent()))

    [record] = _read(subject)

    assert record.keys == key.attributes


def test_a_record_tells_its_time(subject: Subject) -> None:
    """The creation time of a record is now, in microseconds, to the grain of the engine.

    Source: API_streams_StreamRecord, to the second; DynamoDB Local rounds down to the minute.
    """
    before_us = time.time_ns() // 1000
    _puts(subject, 1)

    [record] = _read(subject)

    assert before_us - 61_000_000 < record.created_us < before_us + 60_000_000


def test_sequences_strictly_increase(subject: Subject) -> None:
    """Records come in the order of their sequences, across keys and on one key."""
    for _ in range(4):
        _insert_modify_remove(subject, fresh_key())

    sequences = [record.sequence for record in _read(subject)]

    assert len(sequences) == 12
    assert all(one < other for one, other in pairwise(sequences))


def test_a_put_of_what_stands_leaves_no_record(subject: Subject) -> None:
    """A write that changes nothing is not in the stream."""
    key = fresh_key()
    standing = _wire(item(key, INCOMING, tags={"SS": ["a", "b"]}))

    for _ in range(2):
        subject.application_put(standing)

    assert len(_read(subject)) == 1


def test_a_set_in_another_order_leaves_no_record(subject: Subject) -> None:
    """A set is the same in any order: writing it so changes nothing."""
    key = fresh_key()

    for members in (["a", "b"], ["b", "a"]):
        subject.application_put(_wire(item(key, INCOMING, tags={"SS": members})))

    assert len(_read(subject)) == 1


def test_a_number_in_another_form_leaves_no_record(subject: Subject) -> None:
    """A number is the same in any form: writing it so changes nothing."""
    key = fresh_key()

    for number in ("1", "1.0", "0.1E1"):
        subject.application_put(_wire(item(key, INCOMING, n={"N": number})))

    assert len(_read(subject)) == 1


def test_an_update_to_what_stands_leaves_no_record(subject: Subject) -> None:
    """Setting an attribute to the value it has is not in the stream."""
    key = fresh_key()

    subject.application_put(_wire(item(key, INCOMING)))
    subject.application_set(key, "text", {"S": "as it was"})

    assert len(_read(subject)) == 1


def test_a_delete_of_nothing_leaves_no_record(subject: Subject) -> None:
    """Deleting an item that is not there is not in the stream."""
    subject.application_delete(fresh_key())

    assert _read(subject) == []


def test_a_refused_write_leaves_no_record(subject: Subject) -> None:
    """A write whose condition did not hold is not in the stream."""
    key = fresh_key()
    subject.perform(Put(subject.region, key, item(key, INCOMING), Absent()))

    subject.perform(Put(subject.region, key, item(key, LATER), Absent()))
    subject.perform(Stamp(subject.region, key, LATER, Holds(None)))
    subject.perform(Delete(subject.region, key, Holds(None)))

    assert len(_read(subject)) == 1


def test_an_update_that_makes_an_item_is_one_insert(subject: Subject) -> None:
    """An application's update of an absent item leaves one INSERT with the whole image."""
    key = fresh_key()

    subject.application_set(key, "text", {"S": "new"})

    [record] = _read(subject)
    assert record.event is EventName.INSERT
    assert record.old is None
    assert record.new == {**key.attributes, "text": {"S": "new"}}


@pytest.mark.parametrize("before", [None, EARLIER], ids=["unmarked", "marked"])
def test_a_stamp_is_one_modify_of_the_marker(subject: Subject, before: Version | None) -> None:
    """A stamp leaves one MODIFY whose images differ in the marker and in nothing else."""
    key = fresh_key()
    standing = item(key, before)
    subject.application_put(_wire(standing))

    subject.perform(Stamp(subject.region, key, INCOMING, Holds(standing.marker)))

    _, record = _read(subject)
    assert record.event is EventName.MODIFY
    assert _same_image(record.old, _wire(standing))
    assert _same_image(record.new, _wire(standing.stamped(INCOMING)))


def test_an_application_keeps_the_marker_that_it_updates(subject: Subject) -> None:
    """An application's update leaves the marker as it found it, which tells it from an echo."""
    key = fresh_key()
    subject.perform(Put(subject.region, key, item(key, INCOMING), Absent()))

    subject.application_set(key, "text", {"S": "changed"})

    _, record = _read(subject)
    assert record.old is not None
    assert record.new is not None
    assert record.old[MARKER] == record.new[MARKER] == {"S": INCOMING.text}


def test_reading_goes_on_after_any_sequence(subject: Subject) -> None:
    """From each position on, exactly the later records are read."""
    sequences = _puts(subject, 5)

    for index, sequence in enumerate(sequences):
        later = [record.sequence for record in _read(subject, After(sequence))]
        assert later == sequences[index + 1 :]


@pytest.mark.parametrize("limit", [1, 2, 5, 7])
def test_pages_of_any_size_hold_every_record_once(subject: Subject, limit: int) -> None:
    """Whatever the page's limit, each record comes once and in order."""
    sequences = _puts(subject, 5)

    assert [record.sequence for record in _read(subject, limit=limit)] == sequences


def test_an_iterator_at_the_end_sees_what_comes(subject: Subject) -> None:
    """An open shard never ends: the iterator of an empty page reads what is written later."""
    _puts(subject, 2)
    [shard] = subject.describe().shards
    page = subject.records(subject.iterator(shard.id, TrimHorizon()), PAGE)
    assert page.next_iterator is not None
    empty = subject.records(page.next_iterator, PAGE)
    assert empty.records == ()
    assert empty.next_iterator is not None

    sequences = _puts(subject, 1)

    later = subject.records(empty.next_iterator, PAGE).records
    assert [record.sequence for record in later] == sequences[2:]


def test_an_iterator_may_be_used_again(subject: Subject) -> None:
    """The same iterator reads the same records, so that a lost answer costs nothing."""
    _puts(subject, 2)
    [shard] = subject.describe().shards
    iterator = subject.iterator(shard.id, TrimHorizon())

    assert subject.records(iterator, PAGE).records == subject.records(iterator, PAGE).records


def test_a_disabled_stream_ends_its_shard(subject: Subject) -> None:
    """A stream that was taken off its table stays readable, and its shard comes to an end."""
    sequences = _puts(subject, 3)
    [shard] = subject.describe().shards
    iterator: str | None = subject.iterator(shard.id, TrimHorizon())

    subject.disable_stream()

    found: list[int] = []
    for _ in range(10):
        if iterator is None:
            break
        page = subject.records(iterator, PAGE)
        found += [record.sequence for record in page.records]
        iterator = page.next_iterator
    assert iterator is None
    assert found == sequences


def test_a_disabled_stream_says_so(subject: Subject) -> None:
    """A stream that was taken off its table is not enabled, and its shard is closed."""
    _puts(subject, 1)

    subject.disable_stream()

    described = subject.describe()
    assert not described.enabled
    assert [shard.closed for shard in described.shards] == [True]


def test_an_unknown_shard_is_gone(subject: Subject) -> None:
    """A shard that the stream does not know is told apart from every other failure."""
    _puts(subject, 1)

    with pytest.raises(ShardGone):
        subject.iterator("shardId-00000000000000000001-00000000", TrimHorizon())
