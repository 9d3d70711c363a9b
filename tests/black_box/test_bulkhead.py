"""A region is cut off for so long that its links are detached, and then the process dies."""

from __future__ import annotations

from random import Random

from support.black_box import REGIONS, Replicator, World, until
from support.black_box_journal import JournalWriter, await_arrival, held, standing
from support.black_box_link import endpoint
from support.black_box_tables import Table
from support.tables import unique_name

HOME, NEAR, FAR = REGIONS
BOUNDS = "[writer]\nunsettled_records_max = 20\n"
"""So few that a target out of reach is detached as soon as it may be."""

PACE_S = 0.05
"""That of an application whose backlog of the cut is through again in seconds."""

WRITES_DETACHED = 40
"""What the others must get beside a detached link: it lasts longer than positions are unsaved."""


def test_f01_f31_killed_while_a_target_is_detached_loses_nothing(world: World, rng: Random) -> None:
    """SIGKILL finds the link of a cut-off region detached, and the next life begins within the cut;
    both sides of it write on: at rest every region holds what the writers noted."""
    table = world.add(Table(unique_name(), regions=REGIONS))
    world.sections = BOUNDS
    writers = [
        JournalWriter(world.connection, table, region, Random(rng.random()), pace_s=PACE_S)
        for region in (HOME, FAR)
    ]
    with endpoint(world.connection.endpoint_url) as far:
        replicator = world.replicator(None, {FAR: far.url})
        replicator.options = ("--tolerate-outage",)
        replicator.start()
        replicator.ready()
        far.cut()
        for writer in writers:
            writer.start()
        await_detached(replicator)
        await_arrival(writers[0], NEAR, WRITES_DETACHED)
        replicator.kill()
        replicator.start()
        await_arrival(writers[0], NEAR, 1)
        far.heal()
        for writer in writers:
            writer.stop()
        world.settle()
    world.assert_equal()
    expected = standing(*(writer.entries for writer in writers))
    assert expected
    for region in REGIONS:
        assert held(world.connection, table, region) == expected


def await_detached(replicator: Replicator) -> None:
    """Wait until the process says that it has detached a link."""
    until(lambda: "link.detached" in replicator.said(), within_s=40, what="a link is detached")
