"""Streams that are made anew, and deletes that the time-to-live service makes."""

from __future__ import annotations

import time

import pytest

from support.black_box import REGIONS, Replicator, World, until
from support.black_box_tables import Table
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
TTL_WITHIN_S = 40.0
"""DynamoDB Local's sweep was seen to take up to 11 s (with nothing else to do)."""


def put(world: World, table: Table, key: str, **more: dict[str, str]) -> None:
    """Write an item at home."""
    item = {"id": {"S": key}, **more}
    world.connection.client(HOME).put_item(TableName=table.name, Item=item)


def is_there(world: World, table: Table, region: str, key: str) -> bool:
    """Whether a region has the item."""
    return world.connection.get(table, region, {"id": {"S": key}}) is not None


def make_stream_anew(world: World, table: Table) -> None:
    """Turn the stream off and on again: the table then has another one."""
    client = world.connection.client(HOME)
    client.update_table(TableName=table.name, StreamSpecification={"StreamEnabled": False})
    client.update_table(
        TableName=table.name,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


def assert_gap_is_told(world: World, replicator: Replicator, table: Table) -> None:
    """Assert that the loss is stored, shown and alarming, and that the rest goes on."""
    put(world, table, "new")
    until(lambda: is_there(world, table, AWAY, "new"), within_s=10, what="replication goes on")
    reasons = [row["reason"]["S"] for row in world.connection.gaps(table, HOME)]
    assert any("re-created" in reason for reason in reasons)
    assert replicator.pipeline(table)["gap"] is not None
    assert replicator.get("/healthz") == (503, "")


@pytest.mark.parametrize("running", [False, True], ids=["while down", "while running"])
def test_f18_a_stream_made_anew_is_a_gap_and_is_read(world: World, *, running: bool) -> None:
    """The checkpoint is of another stream: what came between may be lost, and that is said."""
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,)))
    put(world, table, "old")
    (replicator,) = world.start(HOME)
    world.settle()
    if not running:
        replicator.kill()
    make_stream_anew(world, table)
    if not running:
        replicator.start()
        replicator.ready()
    assert_gap_is_told(world, replicator, table)


def test_the_first_writes_of_new_tables_are_no_gap(world: World) -> None:
    """A replicator that is started before the application finds nothing to be alarmed about."""
    tables = [world.add(Table(unique_name(), source=HOME, targets=(AWAY,))) for _ in range(2)]
    (replicator,) = world.start(HOME)
    for table in tables:
        put(world, table, "first")
    world.settle()
    world.assert_equal()
    assert [replicator.pipeline(table)["gap"] for table in tables] == [None, None]
    assert replicator.state() == "ok"


def test_expiry_is_replicated_or_ignored_as_configured(world: World) -> None:
    """A delete by the time-to-live service is recognised, in both kinds of table."""
    both, one = {"regions": (HOME, AWAY)}, {"source": HOME, "targets": (AWAY,)}
    ignore = 'ttl_deletes = "ignore"'
    followed = [world.add(Table(unique_name(), **kind)) for kind in (both, one)]
    kept = [world.add(Table(unique_name(), **kind, options=ignore)) for kind in (both, one)]
    for table in (*followed, *kept):
        put(world, table, "stays")
        put(world, table, "expires", until={"N": str(int(time.time()) - 60)})
    world.start(None)
    world.settle()
    world.assert_equal()
    for table in (*followed, *kept):
        world.connection.client(HOME).update_time_to_live(
            TableName=table.name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "until"},
        )
    for table in (*followed, *kept):
        until(
            lambda table=table: not is_there(world, table, HOME, "expires"),  # type: ignore[misc]
            within_s=TTL_WITHIN_S,
            what="the engine has expired the item",
        )
    world.settle()
    for table in (*followed, *kept):
        assert is_there(world, table, AWAY, "expires") == (table in kept)
        assert is_there(world, table, AWAY, "stays")
        assert not is_there(world, table, HOME, "expires")
