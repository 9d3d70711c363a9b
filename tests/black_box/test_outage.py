"""A target that cannot be reached for a while delays its own link and nothing else."""

from __future__ import annotations

from typing import Any

from support.black_box import REGIONS, Replicator, World, until
from support.black_box_link import endpoint
from support.black_box_tables import Table
from support.tables import unique_name

HOME, NEAR, FAR = REGIONS
WRITES = 30


def link(replicator: Replicator, table: Table, target: str) -> dict[str, Any]:
    """What the status says of a link."""
    links = replicator.pipeline(table)["links"]
    return next(found for found in links if found["target"] == target)


def test_an_unreachable_target_delays_only_itself(world: World) -> None:
    """The other link goes on; the status tells which link fails, why, and since when it is behind;
    healed, the backlog drains and all is well again."""
    table = world.add(Table(unique_name(), source=HOME, targets=(NEAR, FAR)))
    with endpoint(world.connection.endpoint_url) as far:
        replicator = world.replicator(HOME, {FAR: far.url})
        replicator.start()
        replicator.ready()
        far.cut()
        client = world.connection.client(HOME)
        for number in range(WRITES):
            client.put_item(TableName=table.name, Item={"id": {"S": str(number)}})
        until(
            lambda: (
                len(world.connection.scan(table, NEAR)) == WRITES
                and link(replicator, table, FAR)["pending"] == WRITES
            ),
            within_s=30,
            what="the near region has it all, the far one waits for all",
        )
        assert_behind(world, replicator, table)
        far.heal()
        world.settle()
        world.assert_equal()
        until(lambda: link(replicator, table, FAR)["state"] == "ok", within_s=10, what="healed")
        assert replicator.state() == "ok"
        assert link(replicator, table, FAR)["backlog_age_s"] == 0


def assert_behind(world: World, replicator: Replicator, table: Table) -> None:
    """Assert what the status says of a link that fails, and of one that does not."""
    failing = link(replicator, table, FAR)
    assert failing["state"] == "retrying"
    assert FAR in failing["error"]
    until(
        lambda: link(replicator, table, FAR)["backlog_age_s"] > failing["backlog_age_s"] + 0.5,
        within_s=10,
        what="the age of the backlog grows",
    )
    near = link(replicator, table, NEAR)
    assert (near["state"], near["pending"], near["error"]) == ("ok", 0, None)
    assert world.connection.scan(table, FAR) == []
    assert replicator.state() == "degraded"
    answer = replicator.get("/healthz")
    assert answer is not None
    assert answer[0] == 200  # the process is well: starting it anew would not help


def test_the_last_writer_wins_after_a_cut(world: World) -> None:
    """Both regions wrote the same keys while they were apart: the later write stands in both.

    Where the clock cannot tell them apart (DynamoDB Local's has minutes) the greater origin wins,
    so the one that writes later here is also that one.
    """
    earlier, later = NEAR, HOME
    table = world.add(Table(unique_name(), regions=(later, earlier)))
    put(world, table, later, "both put", "both delete", "delete, then put")
    with endpoint(world.connection.endpoint_url) as far:
        replicators = world.start(later, earlier, far=far.url)
        world.settle()
        far.cut()
        put(world, table, earlier, "both put", "both make")
        delete(world, table, earlier, "both delete", "delete, then put")
        delete(world, table, later, "both delete")
        put(world, table, later, "both put", "both make", "delete, then put")
        for replicator in replicators:
            until(
                lambda asked=replicator: asked.pipeline(table)["links"][0]["pending"] == 4,  # type: ignore[misc]
                within_s=10,
                what="every change is on its way",
            )
        far.heal()
        world.settle()
    world.assert_equal()
    found = {item["id"]["S"]: item["by"]["S"] for item in world.connection.scan(table, earlier)}
    assert found == dict.fromkeys(("both put", "both make", "delete, then put"), later)
    assert sum(replicator.pipeline(table)["records"]["conflicts"] for replicator in replicators)


def put(world: World, table: Table, region: str, *keys: str) -> None:
    """Write items that name the region."""
    for key in keys:
        item = {"id": {"S": key}, "by": {"S": region}}
        world.connection.client(region).put_item(TableName=table.name, Item=item)


def delete(world: World, table: Table, region: str, *keys: str) -> None:
    """Delete items."""
    for key in keys:
        world.connection.client(region).delete_item(TableName=table.name, Key={"id": {"S": key}})
