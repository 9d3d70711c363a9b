"""Processes die while regions write on top of each other: equal tables, nothing lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from support.black_box import REGIONS, Replicator, World, until
from support.black_box_link import endpoint
from support.black_box_tables import Table, bare
from support.black_box_writers import HOT_KEYS, Writer
from support.tables import unique_name

WRITES_BETWEEN_KILLS = (20, 80)
LATE_S = 0.04
"""What a call to another region loses each way, so that a death finds much under way."""


@contextmanager
def writing(world: World, table: Table, rng: Random) -> Iterator[list[Writer]]:
    """A writer in each region, at work until the block ends."""
    writers = [
        Writer(world.connection, table, region, Random(rng.random())) for region in table.members
    ]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()


def await_writes(writers: list[Writer], more: int) -> None:
    """Wait until the writers have made some more writes together."""

    def made() -> int:
        return sum(writer.operations for writer in writers)

    goal = made() + more
    until(lambda: made() >= goal, within_s=30, what=f"{more} more writes")


def assert_nothing_lost(world: World, table: Table, writers: list[Writer]) -> None:
    """What was written once is everywhere, and nothing is there that nobody wrote."""
    written = {value: key for writer in writers for value, key in writer.written.items()}
    once = {key: item for writer in writers for key, item in writer.once.items()}
    assert once, "no key was written once"
    for region in table.members:
        found = {item["id"]["S"]: bare(item) for item in world.connection.scan(table, region)}
        assert {key: found.get(key) for key in once} == once
        for key, item in found.items():
            for name, value in item.items():
                assert name == "id" or written[value["S"]] == key


def assert_last_write_wins(world: World, table: Table, writers: list[Writer], rng: Random) -> None:
    """At rest, one more write per key in any region: it has seen all others, so it stays."""
    last = {key: rng.choice(writers).write(key) for key in HOT_KEYS}
    world.settle()
    world.assert_equal()
    for region in table.members:
        for key, item in last.items():
            found = world.connection.get(table, region, {"id": {"S": key}})
            assert found is not None
            assert bare(found) == item


def kill_at_random(
    replicators: list[Replicator], writers: list[Writer], rng: Random, kills: int
) -> None:
    """Kill one after another in the midst of the writing, and start each again some writes on."""
    for _ in range(kills):
        await_writes(writers, rng.randint(*WRITES_BETWEEN_KILLS))
        victim = rng.choice(replicators)
        victim.kill()
        await_writes(writers, rng.randint(0, WRITES_BETWEEN_KILLS[0]))
        victim.start()
        if rng.random() < 0.7:  # else it may be killed before it is ready
            victim.ready()


@pytest.mark.parametrize(
    ("engine_name", "regions", "kills"),
    [("dynamodb-local", REGIONS, 4), ("ministack", REGIONS[:2], 2)],
)
def test_f01_killed_replicators_lose_nothing(
    world: World, regions: tuple[str, ...], kills: int, rng: Random
) -> None:
    """SIGKILL at any time while every region writes: equal tables, every write accounted for."""
    table = world.add(Table(unique_name(), regions=regions))
    with endpoint(world.connection.endpoint_url, one_way_s=LATE_S) as far:
        replicators = world.start(*regions, far=far.url)
        with writing(world, table, rng) as writers:
            kill_at_random(replicators, writers, rng, kills)
        assert_all_arrived(world, table, writers, rng)
        assert all(replicator.running for replicator in replicators)


def assert_all_arrived(world: World, table: Table, writers: list[Writer], rng: Random) -> None:
    """Assert at rest all that replication promises."""
    world.settle()
    world.assert_equal()
    assert_nothing_lost(world, table, writers)
    assert_last_write_wins(world, table, writers, rng)


def test_f23_a_process_back_from_the_dead_does_no_harm(world: World, rng: Random) -> None:
    """Stopped in mid-work, overtaken by a second process for the same source, then continued."""
    home, away = REGIONS[:2]
    table = world.add(Table(unique_name(), regions=(home, away)))
    with endpoint(world.connection.endpoint_url, one_way_s=LATE_S) as far:
        zombie, _ = world.start(home, away, far=far.url)
        with writing(world, table, rng) as writers:
            await_writes(writers, 40)
            zombie.signal(signal.SIGSTOP)
            world.start(home)
            await_writes(writers, 150)
            zombie.signal(signal.SIGCONT)
            await_writes(writers, 40)
        assert_all_arrived(world, table, writers, rng)
