"""Real processes in bad weather: killed, stopped, slow, cut off, with clocks that disagree.

What happens is drawn from a printed seed; how long it lasts is `SOAK_S` (the environment; some
seconds by default, minutes in `make soak`). What is checked is the tables against each other and
against what the writers themselves noted, never the product's own records.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random

import pytest

from support.black_box import FOUR_REGIONS, Replicator, World
from support.black_box_link import Endpoint, endpoint
from support.black_box_tables import Table, bare
from support.black_box_writers import HOT_KEYS, Writer
from support.tables import unique_name

WEATHER_S = float(os.environ.get("SOAK_S", "6"))
SKEW_S = {"us-east-1": 0.0, "eu-west-1": 45.0, "ap-southeast-2": -45.0, "sa-east-1": 5.0}
"""How far each process's clock is off; within the bound on the future, which is a minute."""


class Sky:
    """What may happen to the processes and links of one world."""

    def __init__(
        self, world: World, replicators: list[Replicator], links: list[Endpoint], rng: Random
    ) -> None:
        self._world = world
        self._replicators, self._links, self._rng = replicators, links, rng
        self.happened: list[str] = []

    def turn(self) -> None:
        """Let one thing happen, last a little, and be over."""
        what = self._rng.choice([self._kill, self._stop, self._cut, self._overtake])
        self.happened.append(what.__name__)
        what()

    def _kill(self) -> None:
        victim = self._rng.choice(self._replicators)
        victim.kill()
        self._wait()
        victim.start()
        victim.ready()

    def _stop(self) -> None:
        """SIGSTOP in the midst of its calls, and SIGCONT."""
        victim = self._rng.choice(self._replicators)
        victim.signal(signal.SIGSTOP)
        self._wait()
        victim.signal(signal.SIGCONT)

    def _cut(self) -> None:
        link = self._rng.choice(self._links)
        link.cut()
        self._wait()
        link.heal()

    def _overtake(self) -> None:
        """Stopped, while another process does its work; then both go on for a while."""
        victim = self._rng.choice(self._replicators)
        victim.signal(signal.SIGSTOP)
        twin = self._world.twin(victim)
        twin.start()
        twin.ready()
        victim.signal(signal.SIGCONT)
        self._wait()
        twin.kill()

    def _wait(self) -> None:
        time.sleep(self._rng.uniform(0.2, 1.5))


@contextmanager
def slow_links(world: World, regions: tuple[str, ...]) -> Iterator[list[Endpoint]]:
    """One link into each region, late each way by some tens of milliseconds."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(endpoint(world.connection.endpoint_url, one_way_s=0.01 * number))
            for number, _ in enumerate(regions, start=1)
        ]


@pytest.mark.parametrize("count", [2, 4])
def test_nothing_is_lost_in_bad_weather(world: World, rng: Random, count: int) -> None:
    """Every region writes the same hot keys while processes die, sleep, are overtaken and links
    are slow or cut: at rest all tables are equal, hold every key that was written once and only
    what somebody wrote."""
    regions = FOUR_REGIONS[:count]
    table = world.add(Table(unique_name(), regions=regions))
    with slow_links(world, regions) as links:
        urls = {region: link.url for region, link in zip(regions, links, strict=True)}
        replicators = [
            world.replicator(
                home, {r: u for r, u in urls.items() if r != home}, skew_s=SKEW_S[home]
            )
            for home in regions
        ]
        for replicator in replicators:
            replicator.start()
        for replicator in replicators:
            replicator.ready()
        writers = [Writer(world.connection, table, r, Random(rng.random())) for r in regions]
        sky = Sky(world, replicators, links, rng)
        rage(writers, sky)
        world.settle(within_s=60.0 + WEATHER_S)
    world.assert_equal()
    assert_accounted(world, table, writers)
    assert len(sky.happened) > 1


def rage(writers: list[Writer], sky: Sky) -> None:
    """Write and let things happen for as long as the weather lasts."""
    for writer in writers:
        writer.start()
    ends_s = time.monotonic() + WEATHER_S
    try:
        while time.monotonic() < ends_s:
            sky.turn()
        sky.turn()
    finally:
        for writer in writers:
            writer.stop()


def assert_accounted(world: World, table: Table, writers: list[Writer]) -> None:
    """Assert that the tables hold what the writers' own notes allow, and all that they demand."""
    written = {value: key for writer in writers for value, key in writer.written.items()}
    once = {key: item for writer in writers for key, item in writer.once.items()}
    assert once, "no key was written once"
    found = {item["id"]["S"]: bare(item) for item in world.connection.scan(table, table.members[0])}
    assert {key: found.get(key) for key in once} == once
    assert found.keys() <= once.keys() | set(HOT_KEYS)
    for key, item in found.items():
        for name, value in item.items():
            assert name == "id" or written[value["S"]] == key
