"""One stream of one table, behind ports.StreamSource.

A position is a sequence number as an integer. On the wire it is a text, and engines that put zeros
before it look it up as a text: DynamoDB Local writes 21 digits, MiniStack 30. So the width is taken
from zero-led numbers that the stream itself has shown. AWS shows none, and gets none.

An iterator is never renewed here: only the reader knows the position to start a new one from.
"""

from __future__ import annotations

from typing import assert_never

from replicator.errors import Transient
from replicator.ports import Api
from replicator.records import After, Page, Shard, StreamDescription, TrimHorizon, ViewType
from replicator.requests import Wire, page, sequence_text

SEQUENCE_DIGITS_MIN = 21
"""Source: API_streams_GetShardIterator, SequenceNumber: 21 to 40 digits."""

RECORDS_MAX = 1000
"""Source: API_streams_GetRecords, Limit: 1 to 1000."""

DESCRIBE_PAGES_MAX = 1000
"""Pages of DescribeStream, of up to 100 shards each; more of them means that paging runs in a
circle. Source: API_streams_DescribeStream, Limit."""


class DynamoStream:
    """ports.StreamSource over an Api."""

    def __init__(self, *, api: Api, arn: str) -> None:
        self._api = api
        self._arn = arn
        self._digits = SEQUENCE_DIGITS_MIN

    async def describe(self) -> StreamDescription:
        """The stream and all of its shards, in the order of the pages."""
        request: Wire = {"StreamArn": self._arn}
        shards: list[Shard] = []
        for _ in range(DESCRIBE_PAGES_MAX):
            response = await self._api.call("DescribeStream", request)
            stream = response["StreamDescription"]
            shards += [self._shard(raw) for raw in stream.get("Shards") or ()]
            last = stream.get("LastEvaluatedShardId")
            if not last:
                return StreamDescription(
                    arn=self._arn,
                    view_type=ViewType(stream["StreamViewType"]),
                    enabled=stream.get("StreamStatus") in ("ENABLED", "ENABLING"),
                    shards=tuple(shards),
                )
            request = {"StreamArn": self._arn, "ExclusiveStartShardId": last}
        raise Transient(f"DescribeStream does not end after {DESCRIBE_PAGES_MAX} pages")

    async def iterator(self, shard: str, position: TrimHorizon | After) -> str:
        """An iterator of a shard; it expires after 15 minutes."""
        request: Wire = {"StreamArn": self._arn, "ShardId": shard, **self._start(position)}
        response = await self._api.call("GetShardIterator", request)
        iterator: str = response["ShardIterator"]
        return iterator

    async def records(self, iterator: str, limit: int) -> Page:
        """The next records; none of them does not mean that the shard has ended.

        Raises: Transient also for records without a place or a time; none is left out.
        """
        request = {"ShardIterator": iterator, "Limit": min(limit, RECORDS_MAX)}
        response = await self._api.call("GetRecords", request)
        try:
            read = page(response)
        except (LookupError, TypeError, ValueError, OverflowError):
            raise Transient("GetRecords: the answer is garbled: no sequence or no time") from None
        for raw in response["Records"][:1]:
            self._learn_digits(sequence_text(raw))
        return read

    def _shard(self, raw: Wire) -> Shard:
        sequences = raw.get("SequenceNumberRange") or {}
        self._learn_digits(sequences.get("StartingSequenceNumber") or "")
        return Shard(
            id=raw["ShardId"],
            parent=raw.get("ParentShardId") or None,
            closed=bool(sequences.get("EndingSequenceNumber")),
        )

    def _learn_digits(self, sequence: str) -> None:
        if sequence.startswith("0"):
            self._digits = max(self._digits, len(sequence))

    def _start(self, position: TrimHorizon | After) -> dict[str, str]:
        match position:
            case TrimHorizon():
                return {"ShardIteratorType": "TRIM_HORIZON"}
            case After():
                return {
                    "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                    "SequenceNumber": f"{position.sequence:0{self._digits}d}",
                }
            case _:
                assert_never(position)
