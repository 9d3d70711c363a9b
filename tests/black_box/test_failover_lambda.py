"""`replicator failover` where mappings read, which keep their checkpoints to themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from black_box.test_failover import AWAY, HOME, QUIET_S, Moving, a_table, configured, move
from support.black_box import World, until
from support.black_box_journal import JournalWriter, held, missing
from support.black_box_tables import Connection, Table
from support.lambda_fleet import Fleet

pytestmark = [pytest.mark.parametrize("engine_name", ["ministack"]), pytest.mark.timeout(400)]


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


def written(world: World, table: Table, region: str, rng: Random) -> JournalWriter:
    """A journal of some writes in a region, all of them made."""
    writer = JournalWriter(world.connection, table, region, Random(rng.random()))
    writer.start()
    until(lambda: len(writer.entries) > 50, within_s=60, what="writes")
    writer.stop()
    return writer


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
def test_a_planned_failover_under_lambda(world: World, rng: Random, *, one_way: bool) -> None:
    """Proved by the items: also where the other region has overwritten some; and back again."""
    assert isinstance(world, Fleet)
    table = a_table(world, one_way=one_way)
    world.deploy(table, environments=1)
    world.begin()
    writer = written(world, table, HOME, rng)
    if not one_way:
        until(lambda: held(world.connection, table, AWAY), within_s=30, what="some are across")
        for key in list(held(world.connection, table, AWAY))[:3]:
            item: Any = {"id": {"S": key}, "v": {"S": "overwritten there"}}
            world.connection.client(AWAY).put_item(TableName=table.name, Item=item)
    options = ("--planned", "--quiet", QUIET_S, "--wait", "60")
    status, document, said = Moving(configured(world), "failover", *move(table, *options)).ended()
    assert status == 0, said
    assert document["tables"][0]["equal"] is True
    assert document["tables"][0]["exposure"][0]["records"] == 0
    if one_way:
        assert missing(writer.entries, held(world.connection, table, AWAY)) == []
        return
    written(world, table, AWAY, rng)
    back = ("--table", table.name, "--from", AWAY, "--to", HOME, "--quiet", QUIET_S)
    status, document, said = Moving(configured(world), "failback", *back, "--wait", "60").ended()
    assert status == 0, said
    assert held(world.connection, table, HOME) == held(world.connection, table, AWAY)


def test_what_a_function_has_not_brought_across_is_no_proof(world: World) -> None:
    """Nobody invokes it: the one write stays on its way, and nothing is handed over."""
    assert isinstance(world, Fleet)
    table = a_table(world, one_way=True)
    world.deploy(table, environments=1)
    item = {"id": {"S": "1"}, "v": {"S": "one"}}
    world.connection.client(HOME).put_item(TableName=table.name, Item=item)
    options = ("--planned", "--quiet", "1", "--wait", "2")
    status, document, said = Moving(configured(world), "failover", *move(table, *options)).ended()
    assert status == 1
    assert "1 on their way" in said
    assert document["tables"][0]["done"] is False
    status, checks, _ = Moving(configured(world), "drill", *move(table)).ended()
    assert any("1 records, 1 keys" in check["text"] for check in checks)
