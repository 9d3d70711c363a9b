"""`replicator failover` from outside: real processes, writers with a journal, a region cut off."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from replicator.handover.across import NOTE_EVERY_S
from support.black_box import REGIONS, Replicator, World, command, environment, until
from support.black_box_journal import Entry, JournalWriter, held, missing
from support.black_box_link import Endpoint, endpoint
from support.black_box_tables import Table
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
QUIET_S = "3"
WITHIN_S = 110.0
INTERVAL_S = NOTE_EVERY_S
"""How exactly a lost source's exposure is told: the second that the times in stream records are
rounded down to, which is the interval of the target's note as well."""

ROUNDED_S = 0.05
"""Seconds are told with one digit after the point."""

pytestmark = [pytest.mark.parametrize("engine_name", ["ministack"]), pytest.mark.timeout(400)]
"""The engine whose times have one-second grain, as those of AWS; DynamoDB Local's have a minute."""


class Moving:
    """A `failover`, `failback` or `drill` as a process."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            command(arguments[0], "--config", str(config), *arguments[1:], "--json"),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def heard(self, text: str) -> str:
        """Wait until it says a line that holds the text."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text in line:
                return line
        raise AssertionError(f"ended with {self._process.wait()} and did not say: {text}")

    def ended(self) -> tuple[int, Any, str]:
        """Wait for its end: exit status, document, what it said."""
        out, said = self._process.communicate(timeout=WITHIN_S)
        assert "Traceback" not in said, said
        return self._process.returncode, json.loads(out) if out else None, said


def configured(world: World, endpoints: Mapping[str, str] | None = None) -> Path:
    """A configuration file for commands."""
    path = world.directory / "ops.toml"
    path.write_text(world.configuration(endpoints), encoding="utf-8")
    return path


def replicator_of(world: World, config: Path) -> Replicator:
    """A replicator of all regions with a given configuration, started and ready."""
    made = world.replicator(None)
    made.configure(config.read_text(encoding="utf-8"))
    made.start()
    made.ready()
    return made


def a_table(world: World, *, one_way: bool) -> Table:
    """A table of two regions."""
    name = unique_name()
    if one_way:
        return world.add(Table(name, source=HOME, targets=(AWAY,)))
    return world.add(Table(name, regions=(HOME, AWAY)))


def move(table: Table, *options: str) -> tuple[str, ...]:
    """Arguments of a hand-over from HOME to AWAY."""
    return ("--table", table.name, "--from", HOME, "--to", AWAY, *options)


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
def test_a_planned_failover_under_load_loses_no_write(
    world: World, rng: Random, tmp_path: Path, *, one_way: bool
) -> None:
    """The command waits for the writers to stop, hands over only when all is across and equal, and
    after the move, and after the move back, every acknowledged write is in both regions."""
    table = a_table(world, one_way=one_way)
    config = configured(world)
    (replicator,) = world.start(None)
    writer = JournalWriter(world.connection, table, HOME, Random(rng.random()))
    writer.start()
    until(lambda: len(writer.entries) > 50, within_s=30, what="writes")
    after = tmp_path / "after.toml"
    options = ("--planned", "--quiet", QUIET_S, "--write", str(after))
    moving = Moving(config, "failover", *move(table, *options))
    moving.heard("stop what writes")
    before = len(writer.entries)
    until(lambda: len(writer.entries) > before + 50, within_s=30, what="writes meanwhile")
    assert moving.running, "it did not wait for the writer"
    writer.stop()
    status, document, said = moving.ended()
    assert status == 0, said
    assert document["tables"][0]["exposure"][0]["records"] == 0
    assert missing(writer.entries, held(world.connection, table, AWAY)) == []
    assert len(writer.entries) > 100

    if one_way:
        assert document["tables"][0]["members"] == {"source": AWAY, "targets": [HOME]}
        replicator.kill()
        config = after
        replicator = replicator_of(world, config)
    second = JournalWriter(world.connection, table, AWAY, Random(rng.random()))
    second.start()
    until(lambda: len(second.entries) > 50, within_s=30, what="writes in the other region")
    second.stop()
    back = ("--table", table.name, "--from", AWAY, "--to", HOME, "--quiet", QUIET_S)
    status, document, said = Moving(config, "failback", *back).ended()
    assert status == 0, said
    for region in (HOME, AWAY):
        present = held(world.connection, table, region)
        assert missing([*writer.entries, *second.entries], present) == []


def test_an_unplanned_failover_tells_exactly_what_is_not_across(
    world: World, rng: Random, tmp_path: Path
) -> None:
    """While the stream can be read: the very records and keys that the journal has and the target
    has not, and their age to the grain of the stream's times."""
    table = a_table(world, one_way=True)
    config = configured(world)
    (replicator,) = world.start(None)
    writer = JournalWriter(world.connection, table, HOME, Random(rng.random()), deletes=False)
    writer.start()
    until(lambda: held(world.connection, table, AWAY), within_s=30, what="some are across")
    replicator.kill()
    killed = len(writer.entries)
    until(lambda: len(writer.entries) > killed + 50, within_s=30, what="writes that stay behind")
    writer.stop()
    lost = missing(writer.entries, held(world.connection, table, AWAY))
    assert lost
    keys = tmp_path / "keys.jsonl"
    begun_s = time.time()
    status, document, said = Moving(
        config, "failover", *move(table, "--unplanned", "--keys", str(keys))
    ).ended()
    assert status == 0, said
    (exposure,) = document["tables"][0]["exposure"]
    assert (exposure["records"], exposure["keys"]) == (len(lost), len({e.key for e in lost}))
    told = {json.loads(line)["key"]["id"]["S"] for line in keys.read_text().splitlines()}
    assert told == {entry.key for entry in lost}
    oldest_s = min(entry.begun_s for entry in lost)
    assert begun_s - oldest_s - 1 <= exposure["seconds"] <= time.time() - oldest_s + 1
    assert document["tables"][0]["members"] == {"regions": [AWAY, HOME]}


def test_a_source_that_is_gone_and_comes_back(world: World, rng: Random, tmp_path: Path) -> None:
    """Out of reach, the exposure is told by the target's own note, within an interval of what the
    journal says. What comes back is turned away while it believes itself the source, and merged by
    versions once it is told: no write of either region is lost, and none is seeded anew."""
    table = a_table(world, one_way=True)
    after = tmp_path / "after.toml"
    with endpoint(world.connection.endpoint_url) as home:
        config = configured(world, {HOME: home.url})
        stale = world.replicator(None, {HOME: home.url})
        stale.start()
        stale.ready()
        writer = cut_off(world, table, home, Random(rng.random()))
        options = ("--unplanned", "--write", str(after), "--url", stale.url)
        begun_s = time.time()
        ended = Moving(config, "failover", *move(table, *options)).ended()
        told_s, ended_s = told_by_the_note(ended)["seconds"], time.time()
        lost = missing(writer.entries, held(world.connection, table, AWAY))
        assert lost, "the cut left nothing behind"
        oldest_s, across_s = on_both_sides(writer, lost)
        assert noted_s(world, table) <= oldest_s, "it claims that a lost write is across"
        assert across_s - noted_s(world, table) <= INTERVAL_S
        assert begun_s - oldest_s - ROUNDED_S <= told_s <= ended_s - across_s + INTERVAL_S

        hot = lost[-1].key
        put: Any = {"id": {"S": hot}, "v": {"S": "written after"}}
        world.connection.client(AWAY).put_item(TableName=table.name, Item=put)
        home.heal()
        turned_away = "is its source no more"
        until(lambda: turned_away in json.dumps(stale.status()), within_s=60, what="turned away")
        assert held(world.connection, table, AWAY)[hot] == "written after"
        assert missing(writer.entries, held(world.connection, table, AWAY))
        stale.kill()
        after.write_text(after.read_text().replace(home.url, world.connection.endpoint_url))

    replicator_of(world, after)
    world.tables[:] = [Table(table.name, regions=(AWAY, HOME))]
    world.settle()
    world.assert_equal()
    present = held(world.connection, table, HOME)
    assert present[hot] == "written after"
    assert missing([entry for entry in writer.entries if entry.key != hot], present) == []
    assert_closed_again(world, table, after, hot)


def test_a_source_that_comes_back_with_a_gap_brings_nothing(world: World) -> None:
    """It was away for so long that its stream has lost records, which a replicator mends by a
    comparison. What was not told of the hand-over mends nothing, nor may `verify --repair` or
    `backfill` by the old configuration: the new source's writes and deletes stand."""
    options = "[mending]\nafter_s = 0"
    table = world.add(Table(unique_name(), source=HOME, targets=(AWAY,), options=options))
    home, away = (world.connection.client(region) for region in (HOME, AWAY))
    for key in ("written since", "deleted since"):
        home.put_item(TableName=table.name, Item={"id": {"S": key}, "v": {"S": "stale"}})
    (stale,) = world.start(None)
    world.settle()
    stale.kill()
    config = configured(world)
    status, _, said = Moving(config, "failover", *move(table, "--unplanned")).ended()
    assert status == 0, said
    newer: Any = {"id": {"S": "written since"}, "v": {"S": "new"}}
    away.put_item(TableName=table.name, Item=newer)
    away.delete_item(TableName=table.name, Key={"id": {"S": "deleted since"}})

    for enabled in (False, True):
        specification: Any = {"StreamEnabled": enabled}
        if enabled:
            specification["StreamViewType"] = "NEW_AND_OLD_IMAGES"
        home.update_table(TableName=table.name, StreamSpecification=specification)
    stale.start()
    until(lambda: world.connection.gaps(table, HOME), within_s=60, what="the gap is told")
    until(lambda: "gap.not_mended" in stale.said(), within_s=60, what="it has tried to mend")
    for arguments in (("verify", "--repair"), ("backfill",)):
        refused = Moving(config, *arguments, "--table", table.name)
        status, document, said = refused.ended()
        assert (status, document) == (2, None)
        assert "is its source no more" in said
    assert held(world.connection, table, AWAY) == {"written since": "new"}
    assert world.connection.gaps(table, HOME)


def assert_closed_again(world: World, table: Table, config: Path, hot: str) -> None:
    """Assert that the table can be made one-way again, and that its source's next write to a key
    that the other region wrote last is the newest there."""
    config.write_text(f"future_bound_s = 1\n{config.read_text(encoding='utf-8')}")
    closed = config.with_name("closed.toml")
    options = ("--one-way", "--quiet", QUIET_S, "--write", str(closed))
    back = ("--table", table.name, "--from", AWAY, "--to", HOME, *options)
    status, document, said = Moving(config, "failback", *back).ended()
    assert status == 0, said
    assert document["tables"][0]["members"] == {"source": HOME, "targets": [AWAY]}
    for process in world.processes:
        process.kill()
    replicator_of(world, closed)
    put: Any = {"id": {"S": hot}, "v": {"S": "home again"}}
    world.connection.client(HOME).put_item(TableName=table.name, Item=put)
    until(
        lambda: held(world.connection, table, AWAY)[hot] == "home again",
        within_s=30,
        what="the source's write arrives",
    )


def cut_off(world: World, table: Table, home: Endpoint, rng: Random) -> JournalWriter:
    """Write in HOME, cut it off from its replicator in the midst of that, and write on a little."""
    writer = JournalWriter(world.connection, table, HOME, rng, deletes=False)
    writer.start()
    notes = [0.0]
    until(lambda: _another(notes, noted_s(world, table)), within_s=60, what="notes")
    phase = len(writer.entries) + rng.randrange(100)
    until(lambda: len(writer.entries) > phase, within_s=60, what="some more writes")
    home.cut()
    cut = len(writer.entries)
    until(lambda: len(writer.entries) > cut + 50, within_s=30, what="writes that stay behind")
    writer.stop()
    return writer


def on_both_sides(writer: JournalWriter, lost: Sequence[Entry]) -> tuple[float, float]:
    """When the oldest write was begun that is lost, and the newest before it, which is across."""
    oldest_s = min(entry.begun_s for entry in lost)
    earlier = [entry.begun_s for entry in writer.entries if entry.begun_s < oldest_s]
    return oldest_s, max(earlier)


def told_by_the_note(ended: tuple[int, Any, str]) -> dict[str, Any]:
    """What was said of a region out of reach."""
    status, document, said = ended
    assert status == 0, said
    assert f"{HOME} cannot be read" in said
    exposure: dict[str, Any] = document["tables"][0]["exposure"][0]
    assert exposure["keys"] is None, "what cannot be known was made up"
    return exposure


def noted_s(world: World, table: Table) -> float:
    """Until when the target was told that all is across; 0 for never."""
    for row in world.connection.rows(AWAY, f"across#{table.name}"):
        return int(row["until_us"]["N"]) / 1e6
    return 0.0


def _another(notes: list[float], noted: float) -> bool:
    if noted > notes[-1]:
        notes.append(noted)
    return len(notes) > 3


def test_a_planned_failover_that_is_not_proved_changes_nothing(world: World) -> None:
    """Nobody replicates: the records stay where they are, and so does the table."""
    table = a_table(world, one_way=True)
    config = configured(world)
    item = {"id": {"S": "1"}, "v": {"S": "one"}}
    world.connection.client(HOME).put_item(TableName=table.name, Item=item)
    options = ("--planned", "--quiet", "1", "--wait", "2")
    status, document, said = Moving(config, "failover", *move(table, *options)).ended()
    assert status == 1
    assert "1 on their way" in said
    assert document["tables"][0]["done"] is False
    assert not list(world.connection.rows(AWAY, f"handover#{table.name}"))


def test_a_drill_says_what_would_happen_and_changes_nothing(world: World) -> None:
    """The target has no stream, a difference stands: told, and left as they are."""
    table = a_table(world, one_way=True)
    config = configured(world)
    world.start(None)
    extra = {"id": {"S": "extra"}, "v": {"S": "not of the source"}}
    world.connection.client(AWAY).put_item(TableName=table.name, Item=extra)
    status, checks, said = Moving(config, "drill", *move(table)).ended()
    assert (status, said) == (1, "")
    texts = [check["text"] for check in checks if check["level"] != "ok"]
    assert any("has no stream; a failover turns one on" in text for text in texts)
    assert any("1 of 1 items differ" in text for text in texts)
    described = world.connection.client(AWAY).describe_table(TableName=table.name)["Table"]
    assert not described.get("StreamSpecification", {}).get("StreamEnabled")
    assert not list(world.connection.rows(AWAY, f"handover#{table.name}"))
