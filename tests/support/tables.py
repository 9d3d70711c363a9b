"""Makes tables for tests, through boto3 and not through the code under test."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import boto3

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.literals import (
        KeyTypeType,
        ScalarAttributeTypeType,
        StreamViewTypeType,
    )

HASH_ONLY: Mapping[str, str] = {"id": "S"}
RANGED: Mapping[str, str] = {"id": "S", "at": "N"}


def client(endpoint_url: str, region: str) -> DynamoDBClient:
    """Return a plain boto3 client: the application's side of a test."""
    return boto3.client("dynamodb", region_name=region, endpoint_url=endpoint_url)


def unique_name(prefix: str = "orders") -> str:
    """Return a table name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def create_table(
    endpoint_url: str,
    region: str,
    name: str,
    view_type: str | None = "NEW_AND_OLD_IMAGES",
    key_schema: Mapping[str, str] = HASH_ONLY,
) -> str:
    """Create a table and return the ARN of its stream, an empty text without a view type.

    `key_schema` maps each key attribute to its type (S, N, B), partition key first.
    """
    roles: tuple[KeyTypeType, ...] = ("HASH", "RANGE")
    made = client(endpoint_url, region).create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": attribute, "KeyType": role}
            for attribute, role in zip(key_schema, roles, strict=False)
        ],
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": cast("ScalarAttributeTypeType", kind)}
            for attribute, kind in key_schema.items()
        ],
        StreamSpecification={
            "StreamEnabled": True,
            "StreamViewType": cast("StreamViewTypeType", view_type),
        }
        if view_type
        else {"StreamEnabled": False},
    )
    return made["TableDescription"].get("LatestStreamArn", "")
