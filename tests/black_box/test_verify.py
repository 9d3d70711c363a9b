"""`replicator verify` beside running replicators: no false alarm, and repairs that stay."""

from __future__ import annotations

import json
import subprocess
from random import Random
from typing import Any

from support.black_box import REGIONS, World, command, environment, until
from support.black_box_tables import MARKER, Table
from support.black_box_writers import Writer
from support.tables import unique_name

SETTLE_S = 1.0
"""Longer than the lag of these worlds, which is a few polls."""


def verify(world: World, table: Table, *options: str) -> tuple[int, Any]:
    """Run it; its exit status and its document."""
    config = world.directory / "verify.toml"
    config.write_text(world.configuration(), encoding="utf-8")
    arguments = ("--config", str(config), "--table", table.name, "--settle", str(SETTLE_S))
    done = subprocess.run(
        command("verify", *arguments, "--json", *options),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_differs_for_being_on_its_way(world: World, rng: Random) -> None:
    """While every region writes, keys that change are not called different. An insert that carried
    a foreign marker along passes for an echo, and nobody ships it: that is found and repaired."""
    table = world.add(Table(unique_name(), regions=REGIONS))
    world.start(None)
    writers = [Writer(world.connection, table, name, Random(rng.random())) for name in REGIONS]
    for writer in writers:
        writer.start()
    until(lambda: sum(w.operations for w in writers) > 100, within_s=30, what="writes")
    before = sum(writer.operations for writer in writers)
    status, document = verify(world, table)
    assert document["differences"] == []
    assert status == (0 if document["summary"]["restless"] == 0 else 1)
    assert sum(writer.operations for writer in writers) > before, "nothing was written meanwhile"
    for writer in writers:
        writer.stop()

    marker = f"{1_700_000_000_000_000:016d}#{REGIONS[0]}#015r"
    carried = {"id": {"S": "carried"}, "n": {"N": "1"}, MARKER: {"S": marker}}
    world.connection.client(REGIONS[1]).put_item(TableName=table.name, Item=carried)
    world.settle()
    status, document = verify(world, table, "--repair")
    (found,) = document["differences"]
    assert (status, found["key"], found["repaired"]) == (0, {"id": {"S": "carried"}}, True)
    assert [side["sign"] for side in found["regions"].values()] == ["+", "=", "+"]

    world.settle()
    world.assert_equal()


def test_an_outage_that_outlasts_the_stream_mends_itself(world: World, rng: Random) -> None:
    """A replicator is away, every region goes on writing and deleting, and its stream is made anew.
    It comes back red, reads on, repairs, and is well; all regions are equal."""
    home, *others = REGIONS
    table = world.add(Table(unique_name(), regions=REGIONS, options="[mending]\nafter_s = 3\n"))
    replicators = dict(zip(REGIONS, world.start(*REGIONS), strict=True))
    writers = [Writer(world.connection, table, name, Random(rng.random())) for name in REGIONS]
    for writer in writers:
        writer.start()
    until(lambda: sum(w.operations for w in writers) > 60, within_s=40, what="writes")
    replicators[home].kill()
    before = sum(writer.operations for writer in writers)
    until(lambda: sum(w.operations for w in writers) > before + 90, within_s=40, what="more writes")
    renew_stream(world, table, home)

    replicators[home].start()
    until(lambda: world.connection.gaps(table, home), within_s=90, what="the gap is told")
    until(lambda: replicators[home].state() == "failed", within_s=20, what="it is red")
    assert replicators[home].pipeline(table)["gap"]["reason"]
    assert all(not world.connection.gaps(table, other) for other in others)
    for writer in writers:
        writer.stop()
    until(lambda: not world.connection.gaps(table, home), within_s=80, what="the gap is closed")
    until(lambda: replicators[home].state() == "ok", within_s=20, what="all is well")
    world.settle()
    world.assert_equal()
    assert verify(world, table)[0] == 0


def renew_stream(world: World, table: Table, region: str) -> None:
    """Turn a stream off and on: what it held is out of reach."""
    client = world.connection.client(region)
    client.update_table(TableName=table.name, StreamSpecification={"StreamEnabled": False})
    anew: Any = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    client.update_table(TableName=table.name, StreamSpecification=anew)


def test_f13_a_gap_mends_itself(world: World) -> None:
    """A stream that was made anew while nobody read it has lost an update, a put and an insert.
    The replicator says so, compares, repairs, and is well again."""
    home, away = REGIONS[:2]
    table = Table(unique_name(), regions=(home, away), options="[mending]\nafter_s = 0")
    world.add(table)
    client = world.connection.client(home)
    for key in ("updated", "replaced"):
        client.put_item(TableName=table.name, Item={"id": {"S": key}, "v": {"S": "old"}})
    (replicator,) = world.start(None)
    world.settle()
    replicator.kill()

    client.update_item(
        TableName=table.name,
        Key={"id": {"S": "updated"}},
        UpdateExpression="SET v = :v",
        ExpressionAttributeValues={":v": {"S": "new"}},
    )
    for key in ("replaced", "inserted"):
        client.put_item(TableName=table.name, Item={"id": {"S": key}, "v": {"S": "new"}})
    renew_stream(world, table, home)

    replicator.start()
    until(lambda: world.connection.gaps(table, home), within_s=60, what="the gap is told")
    until(lambda: not world.connection.gaps(table, home), within_s=80, what="the gap is closed")
    until(lambda: replicator.state() == "ok", within_s=10, what="all is well")
    world.settle()
    world.assert_equal()
    found = world.connection.scan(table, away)
    assert {item["id"]["S"]: item["v"]["S"] for item in found} == dict.fromkeys(
        ("updated", "replaced", "inserted"), "new"
    )


def test_a_cluster_finds_and_repairs_what_one_process_does(world: World) -> None:
    """Every kind of difference, each told once, and as many items counted."""
    home, away = REGIONS[:2]
    table = world.add(Table(unique_name(), source=home, targets=(away,)))
    items = [{"id": {"S": f"item-{number}"}, "v": {"S": "x"}} for number in range(300)]
    for start in range(0, len(items), 25):
        puts: Any = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        for region in (home, away):
            world.connection.client(region).batch_write_item(RequestItems={table.name: puts})
    client = world.connection.client(away)
    client.put_item(TableName=table.name, Item={"id": {"S": "item-1"}, "v": {"S": "other"}})
    client.put_item(TableName=table.name, Item={"id": {"S": "stray"}})
    client.delete_item(TableName=table.name, Key={"id": {"S": "item-2"}})

    here, there, repaired = (
        verify(world, table, *options)
        for options in ((), ("--workers", "2"), ("--workers", "2", "--repair"))
    )
    for status, document in (here, there):
        assert status == 1
        assert document["summary"]["items"] == {home: 300, away: 300}
        assert by_key(document) == {"item-1": "=*", "item-2": "=+", "stray": "=-"}
    assert (repaired[0], repaired[1]["summary"]["repaired"]) == (0, 3)
    world.assert_equal()
    assert verify(world, table)[0] == 0


def by_key(document: Any) -> dict[str, str]:
    """The signs of what differs, one for each region."""
    differences = document["differences"]
    found = {
        each["key"]["id"]["S"]: "".join(side["sign"] for side in each["regions"].values())
        for each in differences
    }
    assert len(found) == len(differences), "told twice"
    return found
