"""An index that one region has and the others have not: it takes only text as `kind`."""

from __future__ import annotations

from support.black_box import until
from support.black_box_tables import Connection, Table

INDEX = "by-kind"


def index_away(connection: Connection, table: Table, region: str) -> None:
    """Add an index in a region that wants `kind` to be a string."""
    client = connection.client(region)
    client.update_table(
        TableName=table.name,
        AttributeDefinitions=[{"AttributeName": "kind", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": INDEX,
                    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )
    until(
        lambda: _index_state(connection, table, region) == "ACTIVE", within_s=30, what="the index"
    )


def no_index_away(connection: Connection, table: Table, region: str) -> None:
    """Take the index away again."""
    connection.client(region).update_table(
        TableName=table.name,
        GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": INDEX}}],
    )
    until(
        lambda: _index_state(connection, table, region) is None,
        within_s=30,
        what="the index is gone",
    )


def _index_state(connection: Connection, table: Table, region: str) -> str | None:
    described = connection.client(region).describe_table(TableName=table.name)["Table"]
    indexes = described.get("GlobalSecondaryIndexes") or []
    return indexes[0]["IndexStatus"] if indexes else None
