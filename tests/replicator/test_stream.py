"""A stream over an Api: pages of shards, positions on the wire, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from replicator.errors import Transient
from replicator.records import After, Shard, TrimHorizon, ViewType
from replicator.stream import DESCRIBE_PAGES_MAX, DynamoStream
from support.scripted_api import ScriptedApi, Wire

T = TypeVar("T")
ARN = "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026-01-01T00:00:00.000"
ITERATOR: Wire = {"ShardIterator": "here"}


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a call to its end."""
    return asyncio.run(coroutine)


def shards(*raw: Wire, last: str | None = None, status: str = "ENABLED") -> Wire:
    """Answer DescribeStream with one page."""
    stream: Wire = {"StreamStatus": status, "StreamViewType": "NEW_IMAGE", "Shards": list(raw)}
    return {"StreamDescription": {**stream, **({"LastEvaluatedShardId": last} if last else {})}}


def shard(name: str, start: str | None = None, end: str | None = None, parent: str = "") -> Wire:
    """List a shard as DescribeStream does."""
    sequences = {"StartingSequenceNumber": start, "EndingSequenceNumber": end}
    raw = {"ShardId": name, "SequenceNumberRange": {k: v for k, v in sequences.items() if v}}
    return {**raw, **({"ParentShardId": parent} if parent else {})}


def test_all_pages_of_shards_are_one_description() -> None:
    """Shards come in the order of the pages; one with an ending sequence number is closed."""
    api = ScriptedApi(shards(shard("a", "1", "9"), last="a"), shards(shard("b", "10", parent="a")))
    got = run(DynamoStream(api=api, arn=ARN).describe())
    assert got.shards == (Shard(id="a", closed=True), Shard(id="b", parent="a"))
    assert (got.view_type, got.enabled) == (ViewType.NEW_IMAGE, True)
    assert api.requests == [{"StreamArn": ARN}, {"StreamArn": ARN, "ExclusiveStartShardId": "a"}]


def test_a_stream_that_was_switched_off_is_still_described() -> None:
    """Its records stay readable for a day."""
    api = ScriptedApi(shards(status="DISABLED"))
    assert not run(DynamoStream(api=api, arn=ARN).describe()).enabled


def test_paging_in_a_circle_ends() -> None:
    """A service that never ends its pages is an error, not an endless loop."""
    api = ScriptedApi(*[shards(last="a")] * DESCRIBE_PAGES_MAX)
    with pytest.raises(Transient, match="does not end"):
        run(DynamoStream(api=api, arn=ARN).describe())


def asked_after(*answers: Wire, sequence: int) -> str:
    """The sequence number that is sent once the stream has shown `answers`."""

    async def ask() -> None:
        for answer in answers:
            if "Records" in answer:
                await stream.records("x", 1)
            else:
                await stream.describe()
        await stream.iterator("a", After(sequence))

    api = ScriptedApi(*answers, ITERATOR)
    stream = DynamoStream(api=api, arn=ARN)
    run(ask())
    text: str = api.requests[-1]["SequenceNumber"]
    return text


def test_a_sequence_number_is_sent_as_it_is_on_aws() -> None:
    """A number of 21 to 40 digits goes out unchanged, whatever longer ones the stream shows."""
    longer = shards(shard("a", "9" * 40))
    assert asked_after(longer, sequence=10**24) == "1" + "0" * 24


def test_a_sequence_number_has_at_least_21_digits() -> None:
    """A smaller one is led by zeros, as DynamoDB Local writes it."""
    assert asked_after(sequence=7) == "7".zfill(21)


def test_the_width_is_learned_from_shards() -> None:
    """An engine that leads its numbers with zeros gets them back as it wrote them."""
    assert asked_after(shards(shard("a", "1".zfill(30))), sequence=7) == "7".zfill(30)


def test_the_width_is_learned_from_records() -> None:
    """A shard that was empty when described shows the width with its first record."""
    first = {"SequenceNumber": "1".zfill(30), "ApproximateCreationDateTime": 1, "Keys": {}}
    page: Wire = {"Records": [{"dynamodb": first}]}
    assert asked_after(shards(shard("a")), page, sequence=7) == "7".zfill(30)


def test_the_oldest_record_needs_no_sequence_number() -> None:
    """TRIM_HORIZON stands alone."""
    api = ScriptedApi(ITERATOR)
    assert run(DynamoStream(api=api, arn=ARN).iterator("a", TrimHorizon())) == "here"
    wanted = {"StreamArn": ARN, "ShardId": "a", "ShardIteratorType": "TRIM_HORIZON"}
    assert api.calls == [("GetShardIterator", wanted)]


def test_a_page_is_never_asked_beyond_the_limit() -> None:
    """GetRecords takes 1,000 at most."""
    api = ScriptedApi({"Records": [], "NextShardIterator": "next"})
    page = run(DynamoStream(api=api, arn=ARN).records("here", 5000))
    assert api.requests == [{"ShardIterator": "here", "Limit": 1000}]
    assert (page.records, page.next_iterator) == ((), "next")
