"""What each operation answers, as types that the decoder holds it to.

An answer that is not of its type is refused while it is decoded, so it can never pass for data: a
list where a map belongs, a write without a table, a record without its sequence number. Binaries
(B, BS) are base64 on the wire and become bytes where the types say so, and nowhere else. What the
types do not name is left out of the result.

Where the checksum has vouched for a page of stream records it is read otherwise (text_records.py):
what is in their images and keys is what the service says, of whatever form.

Source: the API references of DynamoDB and of DynamoDB Streams, "Response Elements".

This module must not know what an answer means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypeAlias, TypedDict

import msgspec

from replicator.images import Value

Image: TypeAlias = dict[str, Value]
Capacity: TypeAlias = dict[str, Any]


class _Change(TypedDict):
    ApproximateCreationDateTime: float
    Keys: Image
    SequenceNumber: str
    NewImage: NotRequired[Image]
    OldImage: NotRequired[Image]


class _Record(TypedDict):
    dynamodb: _Change
    eventName: NotRequired[str]
    userIdentity: NotRequired[dict[str, str] | None]


class Records(TypedDict):
    """GetRecords."""

    Records: list[_Record]
    NextShardIterator: NotRequired[str | None]


class Iterator(TypedDict):
    """GetShardIterator."""

    ShardIterator: str


class _SequenceNumberRange(TypedDict, total=False):
    StartingSequenceNumber: str
    EndingSequenceNumber: str | None


class _Shard(TypedDict):
    ShardId: str
    ParentShardId: NotRequired[str | None]
    SequenceNumberRange: NotRequired[_SequenceNumberRange]


class _Stream(TypedDict):
    StreamArn: str
    StreamStatus: NotRequired[str]
    StreamViewType: str
    Shards: NotRequired[list[_Shard]]
    LastEvaluatedShardId: NotRequired[str | None]


class Stream(TypedDict):
    """DescribeStream."""

    StreamDescription: _Stream


class Written(TypedDict, total=False):
    """PutItem, UpdateItem, DeleteItem."""

    Attributes: Image
    ConsumedCapacity: Capacity


class Got(TypedDict, total=False):
    """GetItem."""

    Item: Image
    ConsumedCapacity: Capacity


class _Keys(TypedDict):
    Keys: list[Image]
    ConsistentRead: NotRequired[bool]
    ProjectionExpression: NotRequired[str]
    ExpressionAttributeNames: NotRequired[dict[str, str]]


class Batch(TypedDict):
    """BatchGetItem."""

    Responses: dict[str, list[Image]]
    UnprocessedKeys: NotRequired[dict[str, _Keys] | None]
    ConsumedCapacity: NotRequired[list[Capacity]]


class Found(TypedDict):
    """Query and Scan."""

    Items: list[Image]
    Count: NotRequired[int]
    ScannedCount: NotRequired[int]
    LastEvaluatedKey: NotRequired[Image | None]
    ConsumedCapacity: NotRequired[Capacity]


class _StatementError(TypedDict, total=False):
    Code: str
    Message: str
    Item: Image


class _Statement(TypedDict, total=False):
    Error: _StatementError
    Item: Image
    TableName: str


class Statements(TypedDict):
    """BatchExecuteStatement."""

    Responses: list[_Statement]
    ConsumedCapacity: NotRequired[list[Capacity]]


class Refusal(msgspec.Struct):
    """What an answer that is no success holds. `type` is the code, after a namespace or not."""

    type: str = msgspec.field(default="", name="__type")
    message: str = ""
    capital_message: str = msgspec.field(default="", name="Message")
    item: Image | None = msgspec.field(default=None, name="Item")


ANSWERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    operation: msgspec.json.Decoder(shape)
    for operation, shape in {
        "GetRecords": Records,
        "GetShardIterator": Iterator,
        "DescribeStream": Stream,
        "PutItem": Written,
        "UpdateItem": Written,
        "DeleteItem": Written,
        "GetItem": Got,
        "BatchGetItem": Batch,
        "Query": Found,
        "Scan": Found,
        "BatchExecuteStatement": Statements,
    }.items()
}
"""Operation -> decoder of its answer. What is not listed is no business of the lean plane."""

REFUSALS: msgspec.json.Decoder[Refusal] = msgspec.json.Decoder(Refusal)
