"""What a pipeline parks and what it counts, in memory and virtual time."""

from __future__ import annotations

import gc

from conflict.operations import Item, Key
from conflict.version import Kind, Version
from replicator.errors import Fatal, Poison, Transient
from replicator.parts import PipelineLimits
from replicator.records import After, EventName, Mode, Parked, Record
from support.pipelines import PipelineBench, image, parked
from support.scripted_stream import Call, ScriptedStream

MALFORMED = Record(sequence=0, created_us=0, event=None, keys={"id": {"S": "bad"}})


# --- quarantine ---------------------------------------------------------------------------------


def test_a_record_that_says_nothing_is_parked_before_it_counts_as_settled() -> None:
    """Until the quarantine has it, the position stays beneath it."""
    bench = PipelineBench()
    bench.stores.fail("park", *[Transient("down")] * 20)
    bench.stream.append("a", MALFORMED)

    async def script() -> None:
        await bench.until(lambda: bench.stores.calls.count("park") == 20)
        assert bench.position is None
        await bench.until(lambda: bench.position == After(1))

    bench.run(script)
    (parked,) = bench.stores.parked
    assert (parked.key.id, parked.target, parked.image) == ("bad", "us", None)
    assert bench.snapshot()["records"]["quarantined"] == 1


def test_a_change_that_a_target_refuses_is_parked_with_its_image() -> None:
    """By key and target; it holds up nothing else, and the other target has it."""
    bench = PipelineBench(targets=("eu", "ap"))
    bench.ports["eu"].fail("put", Poison("too large for an index"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.position == After(2))
        bench.write("2", "y")
        await bench.until(lambda: bench.contents("eu") == {"2": "y"})

    bench.run(script)
    (parked,) = bench.stores.parked
    assert (parked.target, parked.key.id, parked.reason) == ("eu", "1", "too large for an index")
    assert parked.image == image("1", "x")
    assert parked.version.kind is Kind.SETTLED
    assert bench.contents("ap") == {"1": "x", "2": "y"}
    assert [link["quarantined"] for link in bench.snapshot()["links"]] == [1, 0]


def test_what_is_parked_leaves_no_image_in_memory() -> None:
    """The quarantine has it: no bound on what is read ahead would count it."""
    bench = PipelineBench()
    bench.ports["eu"].fail_always("put", Poison("too large"))

    async def park(parked: Parked) -> None:
        del parked

    def held() -> list[Parked]:
        every = (each for each in gc.get_objects() if isinstance(each, Parked))
        return [parked for parked in every if parked.key.id.startswith("held-")]

    bench.stores.park = park  # type: ignore[method-assign]

    async def script() -> None:
        for number in range(20):
            bench.write(f"held-{number}", "x")
        await bench.until(lambda: bench.link["quarantined"] == 20)
        await bench.clock.sleep(5.0)
        assert not held()

    bench.run(script)


def test_a_change_that_home_refuses_is_parked() -> None:
    """An item whose stamp finds no room is kept aside, and what follows goes on."""
    bench = PipelineBench()
    bench.ports["us"].fail("stamp", Poison("item too large"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.position == After(1))

    bench.run(script)
    (parked,) = bench.stores.parked
    assert (parked.target, parked.key.id, parked.image) == ("us", "1", image("1", "x"))
    assert bench.contents("eu") == {}


def test_a_delivery_is_not_settled_until_its_parking_is_durable() -> None:
    """A stop in between leaves the position beneath it."""
    bench = PipelineBench(limits=PipelineLimits(drain_s=1.0))
    bench.ports["eu"].fail_always("put", Poison("too large"))
    bench.stores.fail_always("park", Transient("down"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: "park" in bench.stores.calls)

    bench.run(script)
    assert bench.position is None


def test_a_parked_record_does_not_move_the_position_over_those_before_it() -> None:
    """A good record and a malformed one in one page: the position waits for the good one."""
    bench = PipelineBench()
    bench.ports["eu"].fail_always("put", Transient("down"))
    good = bench.write("good", "1")
    bench.stream.append("a", MALFORMED)

    async def script() -> None:
        await bench.until(lambda: len(bench.stores.parked) == 1)
        await bench.clock.sleep(5.0)
        assert bench.position is None
        bench.ports["eu"].fail_always("put", None)
        await bench.until(lambda: bench.position == After(good + 2))

    bench.run(script)


def test_what_was_parked_in_an_earlier_run_is_counted_from_the_start() -> None:
    """It still waits for somebody; each target's own, and what came from here."""
    bench = PipelineBench(targets=("eu", "ap"))
    bench.stores.parked += [
        parked("eu", "1"),
        parked("eu", "2"),
        parked("us", "3"),
        parked("us", "4", source="eu"),
        parked("ap", "5", source="eu"),
    ]

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["state"] == "running")

    bench.run(script)
    assert bench.snapshot()["records"]["quarantined"] == 1
    assert [link["quarantined"] for link in bench.snapshot()["links"]] == [2, 0]


# --- figures ------------------------------------------------------------------------------------


def test_every_record_is_counted_once() -> None:
    """Read is local, echo, ignored and parked together."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        same = image("1", "x")
        bench.stream.append(
            "a",
            Record(
                sequence=0,
                created_us=bench.clock.now_us(),
                event=EventName.MODIFY,
                keys={"id": {"S": "1"}},
                old=same,
                new=same,
            ),
        )
        bench.write("1", None)
        await bench.until(lambda: bench.contents("eu") == {})
        await bench.until(lambda: bench.snapshot()["unsettled"] == 0)

    bench.run(script)
    records, link = bench.snapshot()["records"], bench.link
    assert (records["read"], records["local"], records["echo"], records["ignored"]) == (4, 2, 1, 1)
    assert (link["applied"], link["removed"], link["pending"]) == (2, 1, 0)
    assert link["latency_ms"]["p50"] is not None


def test_a_replay_counts_as_duplicates() -> None:
    """What the target held already is not counted as applied again."""
    bench = PipelineBench(mode=Mode.ONE_WAY)
    bench.write("1", "x")
    stamped = Version(bench.regions["us"].now_us, "us", 1, Kind.REPLICATED)
    key = Key({"id": {"S": "1"}}, "1")
    bench.regions["eu"].write(key, Item(image("1", "x"), {"S": stamped.text}))

    async def script() -> None:
        await bench.until(lambda: bench.position == After(1))

    bench.run(script)
    assert (bench.link["applied"], bench.link["duplicate"]) == (0, 1)


def test_a_write_that_displaced_another_regions_is_a_conflict() -> None:
    """Its author had not seen what it replaced."""
    bench = PipelineBench()
    foreign = Version(7, "eu", 1, Kind.SETTLED)
    key = Key({"id": {"S": "1"}}, "1")
    bench.regions["eu"].write(key, Item(image("1", "theirs"), {"S": foreign.text}))

    async def script() -> None:
        bench.write("1", "ours")
        await bench.until(lambda: bench.contents("eu") == {"1": "ours"})

    bench.run(script)
    assert bench.snapshot()["records"]["conflicts"] == 1


def test_a_time_from_the_future_is_counted() -> None:
    """It was clamped, and somebody should look at that clock."""
    bench = PipelineBench()

    async def script() -> None:
        ahead = Record(
            sequence=0,
            created_us=bench.clock.now_us() + 10**9,
            event=EventName.INSERT,
            keys={"id": {"S": "1"}},
            new=image("1", "x"),
        )
        bench.regions["us"].items["1"] = Item(image("1", "x"), None)
        bench.stream.append("a", ahead)
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert bench.snapshot()["records"]["clamped"] == 1


def test_a_stamp_from_the_future_is_counted() -> None:
    """It counts as none, whichever clock or writer it is of; the record's own time is sound."""
    bench = PipelineBench()

    async def script() -> None:
        now_us = bench.clock.now_us()
        far = Version(now_us + 10**10, "us", 1, Kind.APPLICATION)
        item = Item(image("1", "x"), {"S": far.text})
        bench.regions["us"].items["1"] = item
        marked = {**item.image, "_replicator": {"S": far.text}}
        keys = {"id": {"S": "1"}}
        record = Record(
            sequence=0, created_us=now_us, event=EventName.INSERT, keys=keys, new=marked
        )
        bench.stream.append("a", record)
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert bench.snapshot()["records"]["clamped"] == 1


def test_the_stream_that_is_read_is_named() -> None:
    """And replaced by the next one when a session begins with it."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["stream_arn"] == "arn:scripted")
        old = bench.stream
        bench.stream = ScriptedStream(clock=bench.clock, arn="arn:new", shape={"a": {}})
        old.fail(Call.DESCRIBE, Fatal("no such stream"))
        await bench.until(lambda: bench.snapshot()["stream_arn"] == "arn:new")

    bench.run(script)
