"""The measure of all things here: boto3 as everybody uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import boto3

from bench.answers import TABLE, item
from support.engines import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

REGION = "us-east-1"


def default_client(url: str, region: str = REGION) -> DynamoDBClient:
    """A client with nothing set but where it goes."""
    return boto3.client(
        "dynamodb",
        region_name=region,
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def puts(client: DynamoDBClient, count: int) -> int:
    """Put `count` items one after the other."""
    for number in range(count):
        client.put_item(TableName=TABLE, Item=cast("Any", item(f"order-0000-{number:012d}")))
    return count


def reads(url: str, count: int) -> Callable[[], int]:
    """Work that reads the first page of a stream `count` times; it counts records."""
    streams = boto3.client(
        "dynamodbstreams",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )

    def read() -> int:
        return sum(
            len(streams.get_records(ShardIterator="shardId-0000/0")["Records"])
            for _ in range(count)
        )

    return read


def wire_item(number: int) -> Any:
    """An item of its own key, as boto3 takes it."""
    return item(f"order-0000-{number:012d}")
