"""Stamping on real engines: what is stamped is accepted, and does what it did without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conflict.version import Kind, parse
from replicator.stamping import enable
from support.engines import ENGINES, Engine
from support.tables import client, create_table, unique_name

REGION = "eu-west-1"
MARKER = "_replicator"
KEY = {"id": {"S": "1"}}
BEFORE: dict[str, Any] = {
    **KEY,
    "a": {"S": "x"},
    "b": {"S": "y"},
    "n": {"N": "1"},
    "s": {"SS": ["p", "q"]},
}
VALUES = {":a": {"S": "new"}, ":one": {"N": "1"}, ":q": {"SS": ["q"]}}

UPDATES: dict[str, dict[str, Any]] = {
    "set": {"UpdateExpression": "SET a = :a, n = n + :one"},
    "remove": {"UpdateExpression": "REMOVE b"},
    "add and delete": {"UpdateExpression": "ADD n :one DELETE s :q"},
    "all clauses": {"UpdateExpression": "REMOVE b ADD n :one set a = :a DELETE s :q"},
    "condition": {
        "UpdateExpression": "SET #replicator = :a",
        "ConditionExpression": "#n = :one",
        "ExpressionAttributeNames": {"#replicator": "a", "#n": "n"},
    },
    "attribute updates": {
        "AttributeUpdates": {"n": {"Action": "ADD", "Value": {"N": "1"}}},
        "Expected": {"n": {"Value": {"N": "1"}}},
    },
}


@pytest.fixture(params=sorted(ENGINES))
def endpoint_url(request: pytest.FixtureRequest, engine: Callable[[str], Engine]) -> str:
    """Each engine in turn."""
    return engine(request.param).endpoint_url


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_an_update_does_what_it_did_without_a_stamp(endpoint_url: str, name: str) -> None:
    """The same update, plain and stamped: the items differ by the marker only."""
    update = dict(UPDATES[name])
    expressions = f"{update.get('UpdateExpression')} {update.get('ConditionExpression')}"
    used = {value: of for value, of in VALUES.items() if value in expressions}
    if used:
        update["ExpressionAttributeValues"] = used
    plain, stamped = client(endpoint_url, REGION), client(endpoint_url, REGION)
    enable(stamped, region=REGION)
    table = unique_name()
    create_table(endpoint_url, REGION, table)
    found: list[dict[str, Any]] = []
    for app in (plain, stamped):
        plain.put_item(TableName=table, Item=BEFORE)
        app.update_item(TableName=table, Key=KEY, **update)
        found.append(dict(plain.get_item(TableName=table, Key=KEY, ConsistentRead=True)["Item"]))

    version = parse(found[1].pop(MARKER)["S"])
    assert version is not None
    assert (version.origin, version.kind) == (REGION, Kind.APPLICATION)
    assert found[0] == found[1] != BEFORE


def test_every_other_write_is_accepted(endpoint_url: str) -> None:
    """Puts, an update that makes its item, batches and transactions: each item has a version."""
    app, table = client(endpoint_url, REGION), unique_name()
    create_table(endpoint_url, REGION, table)
    enable(app, region=REGION)
    app.put_item(TableName=table, Item={"id": {"S": "put"}})
    app.update_item(TableName=table, Key={"id": {"S": "update"}})
    put: Any = {"PutRequest": {"Item": {"id": {"S": "batch"}}}}
    app.batch_write_item(RequestItems={table: [put]})
    app.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": table, "Item": {"id": {"S": "put in transaction"}}}},
            {
                "Update": {
                    "TableName": table,
                    "Key": {"id": {"S": "update in transaction"}},
                    "UpdateExpression": "ADD n :one",
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                }
            },
        ]
    )

    items = app.scan(TableName=table, ConsistentRead=True)["Items"]
    assert len(items) == 5
    assert all(parse(item[MARKER]["S"]) for item in items)
