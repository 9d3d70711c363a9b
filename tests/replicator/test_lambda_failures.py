"""The messages of what a mapping has given up: each names its place, or is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from replicator.errors import Fatal
from replicator.lambda_failures import is_of_queue, loss_of
from support.event_source_mapping import Discarded, queue_event

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
AT_S = 1_790_000_000.25


def message(*sequences: str) -> dict[str, Any]:
    """A message of the queue."""
    event = queue_event(Discarded("RetryAttemptsExhausted", "shard-1", sequences), ARN, AT_S)
    assert is_of_queue(event)
    made: dict[str, Any] = event["Records"][0]
    return made


def test_each_batch_that_is_given_up_is_a_loss_of_its_own() -> None:
    """Two of one shard are two, and one that comes twice is the same."""
    first, second = loss_of(message("100", "101")), loss_of(message("200"))
    assert (first.table, first.stream_arn, first.at_us) == ("orders", ARN, int(AT_S * 1e6))
    assert first.shard != second.shard
    assert first == loss_of(message("100", "101"))


@pytest.mark.parametrize("missing", ["requestContext", "timestamp", "DDBStreamBatchInfo"])
def test_a_message_that_lacks_a_part_is_refused_without_its_words(missing: str) -> None:
    """It may be anybody's, and holds what it holds."""
    body = json.loads(message("100")["body"])
    del body[missing]
    with pytest.raises(Fatal) as error:
        loss_of({"body": json.dumps({**body, "note": "secret"})})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("event", [None, {}, {"Records": []}, {"Records": [{"dynamodb": {}}]}])
def test_a_streams_event_is_none_of_a_queues(event: object) -> None:
    """It goes the way of records."""
    assert not is_of_queue(event)
