"""SIGTERM: what was read arrives, the position is stored, and nothing is read twice."""

from __future__ import annotations

import signal

import pytest

from support.black_box import REGIONS, Replicator, World, until
from support.black_box_link import endpoint
from support.black_box_tables import Table
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
WRITES = 150
EXIT_WITHIN_S = 15.0
CHECKPOINTS_S = 2.5
"""Longer than two intervals at which checkpoints are made."""
FORCED = 130
"""The exit status that tells that the draining was cut short."""


def test_sigterm_drains_and_checkpoints(world: World) -> None:
    """With much under way to a target that answers again only now, the process ends with status 0,
    the target holds all that was read, the checkpoint is the last record, and the next process
    starts after it."""
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,)))
    client = world.connection.client(HOME)
    with endpoint(world.connection.endpoint_url) as far:
        replicator = world.replicator(HOME, {AWAY: far.url})
        replicator.start()
        replicator.ready()
        far.cut()
        put_many(world, table)
        backlog_age_s(replicator, table)
        replicator.signal(signal.SIGTERM)
        until(lambda: "run.stopping" in replicator.said(), within_s=10, what="it stops")
        assert world.connection.scan(table, AWAY) == []
        far.heal()
        assert replicator.exit_status(within_s=EXIT_WITHIN_S) == 0
    world.assert_equal()
    assert len(world.connection.scan(table, AWAY)) == WRITES
    checkpoints = world.connection.checkpoints(table, HOME)
    assert checkpoints == dict(world.connection.stream(table, HOME).ends())
    client.put_item(TableName=table.name, Item={"id": {"S": "after"}})
    (again,) = world.start(HOME)
    world.settle()
    world.assert_equal()
    assert read(again, table) == 1


@pytest.mark.parametrize(
    ("signals", "status"),
    [([signal.SIGTERM, signal.SIGTERM], FORCED), ([signal.SIGKILL], -signal.SIGKILL)],
    ids=["second SIGTERM", "SIGKILL"],
)
def test_cut_short_it_loses_nothing(
    world: World, signals: list[signal.Signals], status: int
) -> None:
    """What cannot arrive is never checkpointed, keeps nobody waiting, and is read again."""
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,)))
    with endpoint(world.connection.endpoint_url) as far:
        replicator = world.replicator(HOME, {AWAY: far.url})
        replicator.start()
        replicator.ready()
        far.cut()
        put_many(world, table)
        age_s = backlog_age_s(replicator, table)
        until(
            lambda: backlog_age_s(replicator, table) > age_s + CHECKPOINTS_S,
            within_s=10,
            what="checkpoints were due",
        )
        assert world.connection.checkpoints(table, HOME) == {}
        for number in signals:
            replicator.signal(number)
            until(
                lambda: "run.stopping" in replicator.said() or not replicator.running,
                within_s=10,
                what="it has taken the signal",
            )
        assert replicator.exit_status(within_s=2) == status
    assert world.connection.scan(table, AWAY) == []
    world.start(HOME)
    world.settle()
    world.assert_equal()


def put_many(world: World, table: Table) -> None:
    """Write items at home."""
    client = world.connection.client(HOME)
    for number in range(WRITES):
        client.put_item(TableName=table.name, Item={"id": {"S": str(number)}})


def read(replicator: Replicator, table: Table) -> int:
    """How many records the process says it has read."""
    return int(replicator.pipeline(table)["records"]["read"])


def backlog_age_s(replicator: Replicator, table: Table) -> float:
    """How old the oldest record is that has not arrived; waits until there is one."""
    until(
        lambda: replicator.pipeline(table)["links"][0]["pending"] == WRITES,
        within_s=10,
        what="all are read, and wait",
    )
    return float(replicator.pipeline(table)["links"][0]["backlog_age_s"])
