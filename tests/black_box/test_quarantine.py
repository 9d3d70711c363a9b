"""A record that can never be applied: kept with its image, shown, and in nobody's way."""

from __future__ import annotations

from support.black_box import REGIONS, Replicator, World, until
from support.black_box_tables import Table, Wire, bare
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
ITEM_BYTES_MAX = 409_600
"""Source: Quotas, maximum item size: 400 KB, names and values together."""
KEY = {"id": {"S": "full"}}


def full_item() -> Wire:
    """An item that DynamoDB takes and that has no room for one more attribute."""
    body_bytes = ITEM_BYTES_MAX - len("id" + "full" + "body")
    return {**KEY, "body": {"S": "x" * body_bytes}}


def quarantined(replicator: Replicator, table: Table) -> int:
    """How many changes the status says are set aside."""
    pipeline = replicator.pipeline(table)
    links = sum(link["quarantined"] for link in pipeline["links"])
    return int(pipeline["records"]["quarantined"] + links)


def assert_set_aside(world: World, replicator: Replicator, table: Table, target: str) -> None:
    """Assert that the status counts it and that its row names where it was refused."""
    until(lambda: quarantined(replicator, table), within_s=30, what="quarantined in the status")
    assert replicator.state() == "degraded"
    (row,) = world.connection.quarantine(table, HOME)
    assert row["sk"]["S"].startswith(f"{HOME}#{target}#")
    assert "size" in row["reason"]["S"]
    assert len(row["image"]["B"]) > 0


def test_f44_an_item_without_room_for_the_marker_is_set_aside(world: World) -> None:
    """Where every region writes it cannot be stamped at home, where one does not be put in the
    target: it is parked with its image, other keys go on, and a smaller write replaces it."""
    many = world.add(Table(unique_name("many"), regions=(HOME, AWAY)))
    one_way = world.add(Table(unique_name("one-way"), source=HOME, targets=(AWAY,)))
    client = world.connection.client(HOME)
    for table in (many, one_way):
        client.put_item(TableName=table.name, Item=full_item())
        client.put_item(TableName=table.name, Item={"id": {"S": "other"}})
    home, _ = world.start(HOME, AWAY)
    assert_set_aside(world, home, many, target=HOME)
    assert_set_aside(world, home, one_way, target=AWAY)
    world.settle()
    for table in (many, one_way):
        assert world.connection.get(table, AWAY, KEY) is None
        assert world.connection.get(table, AWAY, {"id": {"S": "other"}}) is not None
        client.put_item(TableName=table.name, Item={**KEY, "body": {"S": "small"}})
    world.settle()
    world.assert_equal()
    for table in (many, one_way):
        found = world.connection.get(table, AWAY, KEY)
        assert found is not None
        assert bare(found) == {**KEY, "body": {"S": "small"}}


def test_what_is_set_aside_is_shown_after_a_restart(world: World) -> None:
    """It waits for a person, who may look only after the next deployment."""
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,)))
    client = world.connection.client(HOME)
    client.put_item(TableName=table.name, Item=full_item())
    (replicator,) = world.start(HOME)
    assert_set_aside(world, replicator, table, target=AWAY)
    world.settle()
    replicator.kill()
    replicator.start()
    replicator.ready()
    assert quarantined(replicator, table) == 1
    assert replicator.state() == "degraded"
