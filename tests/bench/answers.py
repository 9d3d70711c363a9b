"""What the null endpoint answers: one fixed body per operation, made once.

The stream has `shards` shards of `pages` pages each, and every record another key, so that nothing
folds. An iterator is `<shard>/<page>`; past the last page answers are empty. Puts answer with an
item that was displaced, stamps with an item as it stands now, reads of the control table with
nothing: what the common way of a record meets in a real table.

This module must not know HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from typing import Any

from conflict.version import Kind, Version

TABLE = "orders"
ARN = f"arn:aws:dynamodb:us-east-1:000000000000:table/{TABLE}/stream/2026-01-01T00:00:00.000"
CREATED_S = 1_767_225_600
MARKER = "_replicator"

PAGES_KEPT = 256
Wire = dict[str, Any]


def item(name: str) -> Wire:
    """An item of an ordinary table: about 300 bytes in six attributes."""
    return {
        "id": {"S": name},
        "customer": {"S": "customer-0000001742"},
        "status": {"S": "shipped"},
        "total": {"N": "129.95"},
        "lines": {"L": [{"M": {"sku": {"S": "A-1009"}, "count": {"N": "2"}}}]},
        "note": {"S": "leave it with the neighbours, please; they are at home until six o'clock"},
    }


@dataclass(frozen=True)
class Answers:
    """The answers of one table whose stream holds shards * pages * page_records records.

    `fresh`: the records are INSERTs, else MODIFYs that displace an item without a marker.
    """

    shards: int = 1
    pages: int = 10
    page_records: int = 1000
    fresh: bool = False
    hot_keys: int = 0
    """Draw keys from so many by Zipf's law with exponent 1; 0: every record has its own."""
    echoes: bool = False
    """The records are what a replicator brought from elsewhere."""

    @property
    def records(self) -> int:
        """How many records the stream holds."""
        return self.shards * self.pages * self.page_records

    def body(self, operation: str, request: bytes) -> bytes:
        """The answer to a request, which is looked into only where the answer depends on it."""
        if operation == "GetRecords":
            return self._page(json.loads(request)["ShardIterator"])
        if operation == "GetShardIterator":
            return _bytes({"ShardIterator": f"{json.loads(request)['ShardId']}/0"})
        if operation == "BatchGetItem" and b"TableName" not in request and b'"pk"' not in request:
            return self._fixed["Get"]
        return self._fixed[operation]

    @cached_property
    def _fixed(self) -> Mapping[str, bytes]:
        earlier = Version(1, "us-east-1", 1, Kind.REPLICATED)
        settled = Version(CREATED_S * 1_000_000, "us-east-1", 1, Kind.SETTLED)
        displaced = {"Attributes": {**item("one"), MARKER: {"S": earlier.text}}}
        stamped = {"Attributes": {**item("one"), MARKER: {"S": settled.text}}}
        answers: dict[str, Wire] = {
            "PutItem": displaced,
            "DeleteItem": displaced,
            "UpdateItem": stamped,
            "BatchGetItem": {"Responses": {}, "UnprocessedKeys": {}},
            "Get": {"Responses": {TABLE: [item("one")]}, "UnprocessedKeys": {}},
            "Query": {"Items": [], "Count": 0, "ScannedCount": 0},
            "Scan": {"Items": [], "Count": 0, "ScannedCount": 0},
            "DescribeTable": {"Table": _description()},
            "DescribeTimeToLive": {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}},
            "DescribeStream": {"StreamDescription": self._stream()},
        }
        return {operation: _bytes(answer) for operation, answer in answers.items()}

    def _stream(self) -> Wire:
        return {
            "StreamArn": ARN,
            "StreamStatus": "ENABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "Shards": [
                {
                    "ShardId": f"shardId-{shard:04d}",
                    "SequenceNumberRange": {"StartingSequenceNumber": "1" + 20 * "0"},
                }
                for shard in range(self.shards)
            ],
        }

    def _page(self, iterator: str) -> bytes:
        shard, _, page = iterator.rpartition("/")
        return self._pages(int(shard[-4:]), min(int(page), self.pages))

    @cached_property
    def _pages(self) -> Callable[[int, int], bytes]:
        return lru_cache(maxsize=PAGES_KEPT)(self._made_page)

    @cached_property
    def _names(self) -> Sequence[int]:
        """The number of each record's key."""
        count = self.pages * self.page_records
        if not self.hot_keys:
            return range(count)
        weights = [1 / rank for rank in range(1, self.hot_keys + 1)]
        return Random(1).choices(range(self.hot_keys), weights, k=count)

    def _made_page(self, shard: int, page: int) -> bytes:
        records = []
        if page < self.pages:
            first = page * self.page_records
            records = [self._record(shard, first + n) for n in range(self.page_records)]
        following = f"shardId-{shard:04d}/{min(page + 1, self.pages)}"
        return _bytes({"Records": records, "NextShardIterator": following})

    def _record(self, shard: int, number: int) -> Wire:
        name = f"order-{shard:04d}-{self._names[number]:012d}"
        change: Wire = {
            "ApproximateCreationDateTime": CREATED_S,
            "Keys": {"id": {"S": name}},
            "NewImage": item(name),
            "SequenceNumber": f"{10**20 + number}",
            "SizeBytes": 620,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        if not self.fresh:
            change["OldImage"] = {**item(name), "status": {"S": "packed"}}
        if self.echoes:
            brought = Version(CREATED_S * 1_000_000, "eu-west-1", number + 1, Kind.REPLICATED)
            change["NewImage"] = {**item(name), MARKER: {"S": brought.text}}
        return {
            "eventID": f"{shard:08x}{number:024x}",
            "eventName": "INSERT" if self.fresh else "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": change,
        }


def _description() -> Wire:
    return {
        "TableName": TABLE,
        "TableStatus": "ACTIVE",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        "LatestStreamArn": ARN,
    }


def _bytes(answer: Wire) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
