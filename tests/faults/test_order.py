"""Who wins, what is an echo, and what must not come back: two regions, call by call.

Rows of tests/FAULTS.md by their numbers; the rules themselves are held by tests/conflict.
"""

from __future__ import annotations

import pytest

from conflict.operations import Item, Key, marker_of
from conflict.version import Kind, Version
from replicator.records import EventName, Mode, Record
from simulation.scene import Scene
from support.memory import MARKER
from support.pipelines import FUTURE_BOUND_US, PipelineBench, image

DAY_US = 86_400_000_000


def bench_key(name: str) -> Key:
    """The key of an item of a bench."""
    return Key({"id": {"S": name}}, name)


def test_f35_a_clock_far_ahead_is_clamped_and_told() -> None:
    """A record from tomorrow gets a version of now, so that writes of today still win over it."""
    bench = PipelineBench()
    written = Item(image("1", "tomorrow's"), None)
    bench.regions["us"].now_us = bench.clock.now_us() + DAY_US
    bench.regions["us"].write(bench_key("1"), written)

    async def script() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "tomorrow's"})
        await bench.clock.sleep(2 * FUTURE_BOUND_US / 1e6)
        bench.write("1", "today's")
        await bench.until(lambda: bench.contents("eu") == {"1": "today's"})

    bench.run(script)
    assert bench.snapshot()["records"]["clamped"] > 0
    version = bench.regions["eu"].items["1"].version
    assert version is not None
    assert version.time_us <= bench.clock.now_us() + FUTURE_BOUND_US


def test_f35_a_stamp_from_tomorrow_is_not_believed() -> None:
    """An application that stamps its writes with a bad clock does not win for a day."""
    bench = PipelineBench()
    stamp = Version(bench.clock.now_us() + DAY_US, "us", 10**6, Kind.APPLICATION)
    bench.regions["us"].now_us = bench.clock.now_us()
    bench.regions["us"].write(bench_key("1"), Item(image("1", "ahead"), marker_of(stamp)))

    async def script() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "ahead"})

    bench.run(script)
    version = bench.regions["eu"].items["1"].version
    assert version is not None
    assert version.time_us <= bench.clock.now_us() + FUTURE_BOUND_US


def test_f36_a_burst_within_one_second_keeps_its_order() -> None:
    """Stream records tell whole seconds: the last of fifty writes stands everywhere, and each
    version that was given is above the one before."""
    bench = PipelineBench()
    given: list[str] = []

    async def script() -> None:
        for number in range(50):
            bench.write("1", str(number))
            await bench.clock.sleep(0.01)
            marker = bench.regions["us"].items["1"].marker
            given.extend([str(marker["S"])] if marker else [])
        await bench.until(lambda: bench.contents("eu") == {"1": "49"})

    bench.run(script)
    assert given == sorted(given)


def test_f37_an_update_of_a_replicated_item_is_a_local_write() -> None:
    """The application's UpdateItem keeps the marker that came from elsewhere, and goes out."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v1")
    scene.drain()
    scene.update("B", 200, "v2")
    scene.drain()
    assert scene.values() == ["v2", "v2"]


def test_f38_two_regions_do_not_answer_each_other_for_ever() -> None:
    """After the last write the streams fall silent, after at most three records for each."""
    scene = Scene("A", "B", "C")
    writes = 0
    for at_us, region in enumerate("ABCABCABC", start=1):
        scene.put(region, 100 * at_us, f"v{at_us}")
        writes += 1
        if at_us % 2:
            scene.drain()
    scene.drain()
    counts = [scene.records(region) for region in "ABC"]
    scene.drain()
    assert [scene.records(region) for region in "ABC"] == counts
    assert max(counts) <= 3 * writes


@pytest.mark.parametrize("home", ["A", "B"])
def test_f39_a_put_that_arrives_after_a_later_delete_stays_away(home: str) -> None:
    """The delete has left a tombstone in each region; the late put loses to it."""
    scene = Scene("A", "B", "C")
    scene.put("A", 100, "v1")
    late = scene.ship("A", 1, "B")
    scene.passed("A", 2)
    scene.drain("B")
    scene.delete(home, 300)
    scene.drain()
    for target in ("B", "C"):
        scene.deliver(target, late).finish()
    scene.drain()
    assert scene.values() == [None] * 3


def test_f40_the_marks_of_a_replicated_delete_lead_to_nothing() -> None:
    """A delete that was brought here is a MODIFY and a REMOVE in this region's stream: echoes."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v1")
    scene.drain()
    before = scene.records("B")
    scene.delete("A", 200)
    scene.run("A", scene.records("A"))
    made = range(before + 1, scene.records("B") + 1)
    assert len(made) == 2
    for record in made:
        assert scene.settle("B", record).finish().shipment is None
    assert scene.values() == [None, None]


def test_f45_what_an_application_keeps_under_the_reserved_name_is_its_own_write() -> None:
    """A value there that is no version makes no echo and no crash: the item arrives, stamped."""
    odds: list[dict[str, object]] = [{"N": "1"}, {"S": "mine"}, {"M": {}}, {"B": b"x"}, {"L": []}]
    for odd in odds:
        bench = PipelineBench()
        bench.regions["us"].now_us = bench.clock.now_us()
        bench.regions["us"].write(bench_key("1"), Item(image("1", "x"), odd))

        async def script(bench: PipelineBench = bench) -> None:
            await bench.until(lambda: bench.contents("eu") == {"1": "x"})

        bench.run(script)
        version = bench.regions["eu"].items["1"].version
        assert version is not None
        assert version.origin == "us"


def test_f45_a_copy_with_its_regions_own_marker_is_a_write() -> None:
    """An application reads an item that was written and stamped here, and inserts it under another
    key with all of its attributes: both arrive, each under a version of its own."""
    bench = PipelineBench()
    bench.write("1", "x")

    async def script() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        stamped = bench.regions["us"].items["1"]
        assert stamped.version is not None
        bench.regions["us"].write(bench_key("2"), Item(image("2", "x"), stamped.marker))
        await bench.until(lambda: bench.contents("eu") == {"1": "x", "2": "x"})

    bench.run(script)
    one, other = (bench.regions["eu"].items[name].version for name in ("1", "2"))
    assert one != other


def test_f45_in_a_one_way_source_the_reserved_name_means_nothing() -> None:
    """No marker of the source is believed, whatever region it names."""
    bench = PipelineBench(mode=Mode.ONE_WAY)
    stamp = Version(9, "eu", 1, Kind.REPLICATED)
    carried = {**image("1", "x"), MARKER: marker_of(stamp)}
    record = Record(
        sequence=0, created_us=50, event=EventName.INSERT, keys={"id": {"S": "1"}}, new=carried
    )
    bench.stream.append("a", record)

    async def script() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    version = bench.regions["eu"].items["1"].version
    assert version is not None
    assert (version.origin, version.time_us) == ("us", 50)
