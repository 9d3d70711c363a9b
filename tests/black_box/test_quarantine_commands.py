"""`replicator quarantine` beside running replicators, on a real engine."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from support.black_box import REGIONS, World, command, environment, until
from support.black_box_index import index_away, no_index_away
from support.black_box_tables import Table
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
CANARY = "canary-7f3a"
KEY = {"id": {"S": f"{CANARY}-key"}}
ITEM = {**KEY, "kind": {"N": "7"}, "body": {"S": f"{CANARY}-value"}}
"""Refused wherever an index wants `kind` to be a string."""

pytestmark = pytest.mark.timeout(300)  # a dozen processes, one after the other

SHAPES = pytest.mark.parametrize(
    "shape",
    [{"regions": (HOME, AWAY)}, {"source": HOME, "targets": (AWAY,)}],
    ids=["every region writes", "one-way"],
)


def quarantine(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the commands to its end."""
    config = world.directory / "commands.toml"
    config.write_text(world.configuration(), encoding="utf-8")
    return subprocess.run(
        command("quarantine", *arguments, "--config", str(config)),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def listed(world: World) -> list[dict[str, Any]]:
    """What is parked, as the command says it."""
    done = quarantine(world, "list", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def parked_away(world: World, shape: dict[str, Any]) -> Table:
    """A table of which one item is refused away, with its replicators running."""
    table = world.add(Table(unique_name(), **shape))
    index_away(world.connection, table, AWAY)
    world.start(*table.sources)
    client = world.connection.client(HOME)
    client.put_item(TableName=table.name, Item=ITEM)
    client.put_item(TableName=table.name, Item={"id": {"S": "other"}})
    until(lambda: world.connection.quarantine(table, HOME), within_s=30, what="parked")
    world.settle()
    return table


@SHAPES
def test_what_was_refused_is_listed_shown_and_replayed(world: World, shape: dict[str, Any]) -> None:
    """The list and the figures name no data; the image is shown when asked for; once the cause is
    gone a replay brings the item, and the running process sees that it was dealt with."""
    table = parked_away(world, shape)
    (row,) = listed(world)
    assert (row["table"], row["source"], row["target"]) == (table.name, HOME, AWAY)
    assert "Type mismatch for Index Key" in row["reason"]
    plain = quarantine(world, "list")
    shown = quarantine(world, "show", "--key", row["key"][:8])
    assert "1 parked" in plain.stdout
    assert "an item of 3 attributes" in shown.stdout
    assert CANARY not in plain.stdout + shown.stdout + json.dumps(row)
    (full,) = json.loads(quarantine(world, "show", "--key", row["key"], "--image", "--json").stdout)
    assert (full["item_key"], full["image"]) == (KEY, ITEM)

    refused = quarantine(world, "replay", "--all")
    assert refused.returncode == 1
    assert "refused again; stays" in refused.stdout
    assert len(world.connection.quarantine(table, HOME)) == 1

    no_index_away(world.connection, table, AWAY)
    done = quarantine(world, "replay", "--table", table.name)
    assert (done.returncode, "applied; taken out" in done.stdout) == (0, True), done.stdout
    assert CANARY not in done.stdout + done.stderr + refused.stdout + refused.stderr
    assert listed(world) == world.connection.quarantine(table, HOME) == []
    world.settle()
    world.assert_equal()
    assert len(world.connection.contents(table, AWAY)) == 2
    home = world.processes[0]
    until(lambda: home.state() == "ok", within_s=60, what="the process has counted again")


def test_a_newer_item_stands_and_the_parked_one_goes(world: World) -> None:
    """Versions decide: a later write of the key has arrived, and needs nobody's help."""
    table = parked_away(world, {"regions": (HOME, AWAY)})
    (row,) = world.connection.quarantine(table, HOME)
    newer = {**ITEM, "kind": {"S": "text"}}
    world.connection.client(HOME).put_item(TableName=table.name, Item=newer)
    until(lambda: not world.connection.quarantine(table, HOME), within_s=30, what="superseded")
    control = {"pk": row["pk"], "sk": row["sk"]}
    world.connection.client(HOME).put_item(TableName="replicator-control", Item={**row, **control})
    assert len(world.connection.quarantine(table, HOME)) == 1
    no_index_away(world.connection, table, AWAY)
    done = quarantine(world, "replay", "--all")
    assert (done.returncode, "something newer stands" in done.stdout) == (0, True), done.stdout
    assert not world.connection.quarantine(table, HOME)
    world.settle()
    world.assert_equal()
    found = world.connection.get(table, AWAY, KEY)
    assert found is not None
    assert found["kind"] == {"S": "text"}


def test_what_is_given_up_is_given_up_only_when_said_so(world: World) -> None:
    """Nothing is dropped without --yes where nobody can be asked, nor without saying what."""
    table = parked_away(world, {"source": HOME, "targets": (AWAY,)})
    open_choice = quarantine(world, "drop", "--yes")
    unconfirmed = quarantine(world, "drop", "--target", AWAY)
    unknown = quarantine(world, "show", "--key", "00000000")
    for done, said in (
        (open_choice, "name what"),
        (unconfirmed, "confirm with --yes"),
        (unknown, "nothing is parked under 00000000"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert len(world.connection.quarantine(table, HOME)) == 1
    done = quarantine(world, "drop", "--target", AWAY, "--yes")
    assert (done.returncode, done.stdout) == (0, "1 dropped\n")
    assert not world.connection.quarantine(table, HOME)
