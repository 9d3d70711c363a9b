"""Only some items, without some attributes, under other names: run, verify and backfill agree."""

from __future__ import annotations

import json
import subprocess
from random import Random
from typing import Any

from black_box.test_backfill import Backfill
from black_box.test_verify import verify
from support.black_box import REGIONS, World, command, environment
from support.black_box_tables import Table, Wire, bare
from support.tables import unique_name

SOURCE, TARGET, OTHER = REGIONS
VIEW_TYPES = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
OPTIONS = """where = "status = 'live' and not exists(draft)"
without = ["secret"]
rename = { title = "name" }"""


class Application:
    """Writes items that come to be meant and cease to be, and knows what copies must hold."""

    def __init__(self, world: World, table: Table, rng: Random) -> None:
        self._world, self._table, self._rng = world, table, rng
        self._writes = 0

    def write(self) -> None:
        """Put, update or delete one item."""
        self._writes += 1
        client = self._world.connection.client(SOURCE)
        key: Wire = {"id": {"S": f"key-{self._rng.randrange(6)}"}}
        place: dict[str, Any] = {"TableName": self._table.physical(SOURCE)}
        value = {"N": str(self._writes)}
        status = {"S": self._rng.choice(("live", "dead"))}
        match self._rng.choice(("put", "status", "draft", "secret", "title", "delete")):
            case "put":
                item = {**key, "status": status, "secret": value, "title": value}
                client.put_item(**place, Item=item)
            case "status":
                self._set(key, "status", status)
            case "draft":
                self._set(key, "draft", value)
            case "secret":
                self._set(key, "secret", value)
            case "title":
                self._set(key, "title", value)
            case _:
                client.delete_item(**place, Key=key)

    def write_one_of_each(self) -> None:
        """One item that copies hold in another form, and two that they lack."""
        for name, status, more in (
            ("meant", "live", "title"),
            ("dead", "dead", "title"),
            ("draft", "live", "draft"),
        ):
            item: Wire = {"id": {"S": name}, "status": {"S": status}, more: {"N": "7"}}
            item["secret"] = {"N": "7"}
            self._world.connection.client(SOURCE).put_item(
                TableName=self._table.physical(SOURCE), Item=item
            )

    def _set(self, key: Wire, name: str, value: dict[str, Any]) -> None:
        self._world.connection.client(SOURCE).update_item(
            TableName=self._table.physical(SOURCE),
            Key=key,
            UpdateExpression="SET #n = :v",
            ExpressionAttributeNames={"#n": name},
            ExpressionAttributeValues={":v": value},
        )

    def meant(self) -> dict[str, Wire]:
        """What copies are to hold, told from the source as it stands."""
        found = {}
        for item in self._world.connection.scan(self._table, SOURCE):
            if item.get("status") != {"S": "live"} or "draft" in item:
                continue
            kept = {name: value for name, value in item.items() if name != "secret"}
            if "title" in kept:
                kept["name"] = kept.pop("title")
            found[item["id"]["S"]] = kept
        return found


def held(world: World, table: Table, region: str) -> dict[str, Wire]:
    """What a region holds, markers left out."""
    return {item["id"]["S"]: bare(item) for item in world.connection.scan(table, region)}


def test_copies_hold_what_is_meant_and_nothing_else(world: World, rng: Random) -> None:
    """Killed in the midst, with every view type; verify says equal, and repairs what is not."""
    applications = {}
    for view_type in VIEW_TYPES:
        name = unique_name(view_type.lower().replace("_", "-"))
        table = Table(name, source=SOURCE, targets=(TARGET,), options=OPTIONS)
        world.add(table, view_type=view_type)
        applications[table] = Application(world, table, Random(rng.random()))
    (replicator,) = world.start(None)
    for turn in range(120):
        for application in applications.values():
            application.write()
        if turn == 60:
            replicator.kill()
        elif turn == 80:
            replicator.start()
    for application in applications.values():
        application.write_one_of_each()
    world.settle()
    for table, application in applications.items():
        meant = application.meant()
        assert "meant" in meant
        assert held(world, table, TARGET) == meant
        assert_repaired(world, table, meant)


def assert_repaired(world: World, table: Table, meant: dict[str, Wire]) -> None:
    """Assert that verify takes out what is not meant, brings what is, and is content then."""
    client = world.connection.client(TARGET)
    client.put_item(TableName=table.name, Item={"id": {"S": "stray"}})
    client.delete_item(TableName=table.name, Key={"id": {"S": "meant"}})
    status, document = verify(world, table, "--repair")
    assert (status, len(document["differences"])) == (0, 2)
    assert held(world, table, TARGET) == meant
    assert verify(world, table)[0] == 0


def test_one_source_goes_to_several_places(world: World) -> None:
    """Fan-out with a filter of its own for each: what is live here, what is dead there."""
    live = world.add(
        Table(unique_name(), source=SOURCE, targets=(TARGET,), options="where = \"s = 'live'\"")
    )
    dead = Table(
        unique_name(),
        source=SOURCE,
        targets=(OTHER,),
        names={SOURCE: live.name},
        options="where = \"s = 'dead'\"",
    )
    world.connection.create(dead, OTHER, None)
    world.tables.append(dead)
    world.start(None)
    client = world.connection.client(SOURCE)
    for key, was, is_now in (("1", "live", "live"), ("2", "live", "dead"), ("3", "dead", "live")):
        for status in (was, is_now):
            client.put_item(TableName=live.name, Item={"id": {"S": key}, "s": {"S": status}})
    world.settle()
    assert set(held(world, live, TARGET)) == {"1", "3"}
    assert set(held(world, dead, OTHER)) == {"2"}


def test_a_backfill_brings_what_is_meant(world: World, rng: Random) -> None:
    """Of a table that no stream tells of."""
    table = Table(unique_name(), source=SOURCE, targets=(TARGET,), options=OPTIONS)
    for region in table.members:
        world.connection.create(table, region, None)
    world.tables.append(table)
    application = Application(world, table, rng)
    for _ in range(60):
        application.write()
    application.write_one_of_each()
    status, document, _ = Backfill(world, table).ended()
    assert status == 0, document
    assert "meant" in application.meant()
    assert held(world, table, TARGET) == application.meant()


def test_where_every_region_writes_some_keys_stay_at_home(world: World) -> None:
    """The same keys in every region; verify leaves them out of account."""
    options = "where = \"begins_with(id, 'shared-')\""
    table = world.add(Table(unique_name(), regions=(SOURCE, TARGET), options=options))
    world.start(None)
    for region in (SOURCE, TARGET):
        for name in (f"shared-{region}", "local"):
            item = {"id": {"S": name}, "by": {"S": region}}
            world.connection.client(region).put_item(TableName=table.name, Item=item)
    world.settle()
    for region in (SOURCE, TARGET):
        found = held(world, table, region)
        assert set(found) == {f"shared-{SOURCE}", f"shared-{TARGET}", "local"}
        assert found["local"]["by"] == {"S": region}
        marked = {item["id"]["S"] for item in world.connection.scan(table, region) if len(item) > 2}
        assert "local" not in marked
    assert verify(world, table)[0] == 0


def test_a_filter_that_could_let_regions_differ_for_ever_is_refused(world: World) -> None:
    """By run with status 2 and by doctor, in one line; a reshaping already by its settings."""
    options = "where = \"status = 'live'\""
    world.add(Table(unique_name(), regions=(SOURCE, TARGET), options=options))
    config = world.directory / "replicator.toml"
    for name, status in (("run", 2), ("doctor", 1), ("verify", 2), ("backfill", 2)):
        config.write_text(world.configuration(), encoding="utf-8")
        more = ["--table", world.tables[0].name] if name in ("verify", "backfill") else []
        more += ["--source", SOURCE] if name == "backfill" else []
        more += ["--json"] if name == "doctor" else []
        done = _run(name, "--config", str(config), *more)
        assert done.returncode == status, done.stderr
        wrong = 'filters by "status" where every region writes'
        if name == "doctor":
            said = [f"{check['subject']}: {check['text']}" for check in json.loads(done.stdout)]
        else:
            said = done.stderr.splitlines()
            assert len(said) == 1
        assert len([line for line in said if wrong in line]) == 1

    config.write_text(world.configuration().replace(options, 'without = ["secret"]'))
    done = _run("doctor", "--config", str(config))
    assert done.returncode == 2
    assert "without: changes items where every region writes" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
