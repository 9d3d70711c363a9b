"""What an event source mapping has given up, as gaps: its messages, read from a queue.

A mapping tells its on-failure destination where in the stream a batch lay that it will hand over no
more: it grew too old, or was tried too often. The queue is read by the function itself, through a
second mapping, and each message becomes a gap in the control table of the source region, as the
process stores one. So the loss is told (metric, `doctor`) until a repair has closed it.

    gap#<table>#<source>        <stream ARN>#<shard>@<first sequence>#<since>

A row for each loss: one that is reported while another is being mended stays. The same message
makes the same row. What is not understood is no loss that may be forgotten: it stays in the queue.

Source: Lambda, "Retaining discarded batches for a DynamoDB event source", example record; "Using
Lambda with Amazon SQS", example event and `batchItemFailures`.

This module must not know how a gap is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from replicator.errors import Fatal
from replicator.lambda_event import table_of_stream

QUEUE = "aws:sqs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A batch that was given up. `at_us`: when."""

    stream_arn: str
    table: str
    shard: str
    at_us: int
    reason: str


def is_of_queue(event: object) -> bool:
    """Whether an event holds messages and no records of a stream."""
    records = event.get("Records") if isinstance(event, dict) else None
    first = records[0] if isinstance(records, list) and records else None
    return isinstance(first, dict) and first.get("eventSource") == QUEUE


def loss_of(message: Mapping[str, Any]) -> Loss:
    """The loss that a message tells of. Raises: Fatal for a message that is not understood."""
    try:
        told = json.loads(message["body"])
        batch, condition = told["DDBStreamBatchInfo"], str(told["requestContext"]["condition"])
        arn, first = str(batch["streamArn"]), int(batch["startSequenceNumber"])
        return Loss(
            stream_arn=arn,
            table=table_of_stream(arn),
            shard=f"{batch['shardId']}@{first}",
            at_us=_time_us(told["timestamp"]),
            reason=f"the mapping gave up {int(batch['batchSize'])} records: {condition}",
        )
    except (KeyError, OverflowError, TypeError, ValueError):
        raise Fatal("queue: a message tells of no batch of a DynamoDB stream; it is kept") from None


def _time_us(text: str) -> int:
    """As the mapping writes it: `2019-11-14T00:13:49.717Z`."""
    return int(datetime.fromisoformat(text).timestamp() * 1e6)
