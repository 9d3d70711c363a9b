"""Lambda mode: functions under the real runtime client and a mapping, for what `run` promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from black_box.test_killed import assert_all_arrived, await_writes, writing
from support.black_box import REGIONS, World, until
from support.black_box_tables import Connection, Table, bare
from support.event_source_mapping import Discarded, queue_event
from support.lambda_fleet import Fleet, killing
from support.lambda_runtime import FunctionError
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]


@pytest.fixture
def world(
    connect: Callable[[str], Connection], engine_name: str, tmp_path: Path
) -> Iterator[World]:
    """A fleet of functions in the place of processes."""
    made = Fleet(connect(engine_name), tmp_path)
    try:
        yield made
    finally:
        made.close()


def _fleet(world: World) -> Fleet:
    assert isinstance(world, Fleet)
    return world


@pytest.mark.parametrize("engine_name", ["dynamodb-local", "ministack"])
def test_killed_functions_lose_nothing(world: World, rng: Random) -> None:
    """SIGKILL at any time while two regions write: equal tables, every write accounted for.

    Two slots per shard, two environments per region, small batches.
    """
    fleet = _fleet(world)
    table = world.add(Table(unique_name(), regions=(HOME, AWAY)))
    fleet.deploy(table, environments=2, batch_size=20, parallelization_factor=2)
    fleet.begin()
    with writing(world, table, rng) as writers:
        await_writes(writers, 20)
        with killing(fleet, rng, lambda: time.sleep(rng.uniform(1.0, 3.0))) as kills:
            await_writes(writers, 200)
            until(lambda: kills[0] >= 3, within_s=30, what="some functions were killed")
    assert_all_arrived(world, table, writers, rng)
    assert not any(function.mapping.discarded for function in fleet.functions)


def test_a_one_way_table_through_a_function(world: World) -> None:
    """Every type of value, binaries at every depth, a delete; the source stays as it was."""
    fleet = _fleet(world)
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,)))
    items: list[dict[str, Any]] = [
        {"id": {"S": str(number)}, "value": value}
        for number, value in enumerate(
            (
                {"B": b"\x00\xff"},
                {"BS": [b"a", b"\xfe"]},
                {"M": {"B": {"L": [{"B": b"\x01"}, {"M": {"S": {"B": b"\x02"}}}]}}},
                {"N": "123456789012345678901234567890.12345678"},
                {"M": {}},
                {"S": "AAEC"},
                {"NULL": True},
            )
        )
    ]
    source = world.connection.client(HOME)
    for item in [*items, {"id": {"S": "gone"}}]:
        source.put_item(TableName=table.name, Item=item)
    source.delete_item(TableName=table.name, Key={"id": {"S": "gone"}})
    fleet.deploy(table, environments=1)
    fleet.begin()
    world.settle()

    world.assert_equal()
    found = {item["id"]["S"]: bare(item) for item in world.connection.scan(table, AWAY)}
    assert found.keys() == {item["id"]["S"] for item in items}
    assert all("_replicator" not in item for item in world.connection.scan(table, HOME))


@pytest.mark.parametrize("engine_name", ["dynamodb-local"])
def test_what_a_mapping_gives_up_is_stored_as_a_gap(world: World) -> None:
    """The message that the queue holds then makes one row, however often it comes."""
    fleet = _fleet(world)
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,)))
    fleet.deploy(table, environments=1)
    (function,) = fleet.functions
    given_up = Discarded("MaximumRecordAgeExceeded", "shard-1", ("101", "102"))
    event = queue_event(given_up, function.mapping.stream_arn, time.time())
    for _ in range(2):
        assert function.environments[0].invoke(event) == {"batchItemFailures": []}
    (row,) = world.connection.rows(HOME, f"gap#{table.name}#{HOME}")
    since = f"{int(row['since_us']['N']):016d}"
    assert row["sk"]["S"] == f"{function.mapping.stream_arn}#shard-1@101#{since}"
    assert "gave up 2 records: MaximumRecordAgeExceeded" in row["reason"]["S"]


def test_what_is_not_understood_is_an_error_and_stays(world: World) -> None:
    """A malformed event, a stream of another table: one clear line, and nothing is answered."""
    fleet = _fleet(world)
    table = world.add(Table(unique_name(), regions=(HOME, AWAY)))
    fleet.deploy(table, environments=1)
    environment = fleet.functions[0].environments[0]
    record = {"eventName": "INSERT", "dynamodb": {"Keys": {"id": {"S": "secret"}}}}
    other = "arn:aws:dynamodb:us-east-1:123456789012:table/other/stream/2026"
    cases: list[tuple[object, str]] = [
        ({"detail": 1}, "event: has no list of Records"),
        ({"Records": [{**record, "eventSourceARN": other}]}, "event: record 0 is malformed"),
        (
            {
                "Records": [
                    {
                        "eventSourceARN": other,
                        "dynamodb": {
                            **record["dynamodb"],  # type: ignore[dict-item]
                            "SequenceNumber": "1",
                            "ApproximateCreationDateTime": 1.0,
                        },
                    }
                ]
            },
            f"event: table other is not read in {HOME}; known: {table.name}",
        ),
    ]
    for event, words in cases:
        with pytest.raises(FunctionError) as error:
            environment.invoke(event)
        assert words in str(error.value)
        assert "secret" not in str(error.value) + environment.said()
    assert environment.starts == 1
