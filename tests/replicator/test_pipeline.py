"""Read, transform, settle, deliver, checkpoint: the whole pipeline in memory and virtual time."""

from __future__ import annotations

import asyncio

import pytest

from conflict.operations import Item, marker_of
from conflict.version import Kind, Version
from replicator.errors import Fatal, ReplicatorError, Transient
from replicator.parts import PipelineLimits
from replicator.records import After, EventName, Finished, Mode, Record
from support.pipelines import PipelineBench, checkpoint, image
from support.scripted_stream import Call, ScriptedStream

# --- records arrive -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
def test_what_is_written_at_home_arrives_everywhere(mode: Mode) -> None:
    """Puts, overwrites, deletes and items made again, in every target, in either mode."""
    bench = PipelineBench(targets=("eu", "ap"), mode=mode)

    async def script() -> None:
        for number in range(20):
            bench.write(str(number), "first")
        await bench.until(lambda: len(bench.contents("ap")) == 20)
        for number in range(20):
            bench.write(str(number), None if number % 3 else "second")
        bench.write("1", "again")
        await bench.until(lambda: bench.contents("eu") == bench.contents("us"))

    bench.run(script)
    expected = {str(number): "second" for number in range(0, 20, 3)} | {"1": "again"}
    assert all(bench.contents(region) == expected for region in ("us", "eu", "ap"))


def test_the_source_of_a_one_way_table_is_not_written_to() -> None:
    """Nothing but reads at home."""
    bench = PipelineBench(mode=Mode.ONE_WAY)

    async def script() -> None:
        bench.write("1", "first")
        bench.write("1", None)
        await bench.until(lambda: bench.position == After(2))

    bench.run(script)
    assert bench.ports["us"].writes == []


def test_our_own_stamps_come_back_and_lead_to_nothing() -> None:
    """The loop ends after one echo: the stream falls silent."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "first")
        await bench.clock.sleep(60.0)

    bench.run(script)
    assert bench.stream.sequences("a") == [1, 2]
    assert bench.stats.records.echo == 1


def test_children_follow_their_parents() -> None:
    """A shard that ends is finished, and its child is read from its beginning."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "first")
        bench.stream.split("a", "b")
        bench.shard = "b"
        bench.write("1", "second")
        await bench.until(lambda: bench.contents("eu") == {"1": "second"})
        await bench.until(lambda: bench.position == Finished())

    bench.run(script)
    assert (bench.stats.shards_open, bench.stats.shards_finished) == (1, 1)


# --- positions ----------------------------------------------------------------------------------


def test_a_position_moves_when_every_target_has_the_record_and_not_before() -> None:
    """One target that is down holds the checkpoint, and not the other targets."""
    bench = PipelineBench(targets=("eu", "ap"))
    bench.ports["ap"].fail_always("put", Transient("down"))

    async def script() -> None:
        bench.write("1", "first")
        await bench.clock.sleep(30.0)
        assert bench.contents("eu") == {"1": "first"}
        assert bench.position is None
        bench.ports["ap"].fail_always("put", None)
        await bench.until(lambda: bench.position == After(2))

    bench.run(script)


def test_a_checkpoint_is_saved_only_when_it_has_moved() -> None:
    """An idle table costs no writes."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "first")
        await bench.clock.sleep(600.0)

    bench.run(script)
    positions = [saved.position for saved in bench.stores.saved]
    assert len(positions) == len(set(positions)) <= 2
    assert positions[-1] == After(2)


def test_a_checkpoint_that_cannot_be_saved_is_tried_again() -> None:
    """And replication goes on meanwhile."""
    bench = PipelineBench()
    bench.stores.fail("save", *[Transient("down")] * 5)

    async def script() -> None:
        bench.write("1", "first")
        await bench.until(lambda: bench.contents("eu") == {"1": "first"})
        await bench.until(lambda: bench.position == After(2))

    bench.run(script)


def test_a_start_goes_on_where_the_last_one_stopped() -> None:
    """Records beneath the stored position are not asked for again."""
    bench = PipelineBench()
    last = [bench.write(str(number), "x") for number in range(5)][3]
    bench.stores.positions["arn:scripted", "a"] = checkpoint("arn:scripted", After(last))

    async def script() -> None:
        await bench.until(lambda: "4" in bench.contents("eu"))

    bench.run(script)
    assert bench.contents("eu") == {"4": "x"}
    assert bench.stream.positions[0] == ("a", After(last))
    assert bench.stores.reported == []


# --- holding back -------------------------------------------------------------------------------


def test_reading_waits_while_too_much_is_unsettled() -> None:
    """A target that is down holds the reader back, at one page above the bound at most."""
    bench = PipelineBench(limits=PipelineLimits(unsettled_records_max=10), mode=Mode.ONE_WAY)
    bench.ports["eu"].fail_always("put", Transient("down"))
    for number in range(8):
        bench.write(str(number), "x")

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["unsettled"] == 8)
        for number in range(8, 50):
            bench.write(str(number), "x")
            await bench.clock.sleep(1.0)
        assert bench.snapshot()["unsettled"] == 10
        assert bench.stats.records.read == 10
        bench.ports["eu"].fail_always("put", None)
        await bench.until(lambda: len(bench.contents("eu")) == 50)
        await bench.until(lambda: bench.position == After(50))

    bench.run(script)


# --- stopping -----------------------------------------------------------------------------------


def test_a_stop_lets_arrive_what_is_under_way_and_saves() -> None:
    """After it, nothing that was read is read again."""
    bench = PipelineBench(mode=Mode.ONE_WAY, call_s=2.0)
    for number in range(40):
        bench.write(str(number), "x")

    async def script() -> None:
        await bench.until(lambda: bench.stats.records.read == 40)

    bench.run(script)
    assert len(bench.contents("eu")) == 40
    assert bench.position == After(40)
    assert bench.snapshot()["state"] == "stopped"


def test_what_does_not_arrive_in_time_is_cut_and_read_again_next_time() -> None:
    """The deadline holds, and the position stays beneath what is not durable."""
    bench = PipelineBench(targets=("eu", "ap"), limits=PipelineLimits(drain_s=7.0))
    bench.ports["ap"].fail_always("put", Transient("down"))
    stopped_s: list[float] = []

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        stopped_s.append(bench.clock.monotonic_s())

    bench.run(script)
    assert 7.0 <= bench.clock.monotonic_s() - stopped_s[0] < 8.0
    assert bench.position is None
    assert bench.position_at_home == After(1)
    assert bench.contents("ap") == {}


def test_what_an_earlier_session_settled_claims_no_place_a_second_time() -> None:
    """Something newer has taken its place since, and is shipped by its own origin."""
    bench = PipelineBench()
    at_home = checkpoint("arn:scripted", After(bench.write("1", "x")))
    newer = Version(bench.clock.now_us() + 1, "eu", 7, Kind.REPLICATED)
    bench.regions["us"].items["1"] = Item(image("1", "newer"), marker_of(newer))
    bench.stores.positions_at_home["arn:scripted", "a"] = at_home

    async def script() -> None:
        await bench.until(lambda: bench.position == After(1))

    bench.run(script)
    assert bench.contents("us") == {"1": "newer"}
    assert bench.contents("eu") == {}


def test_what_was_settled_while_one_region_wrote_is_settled_anew_when_all_do() -> None:
    """After an unplanned failover: a one-way source stamps nothing, so nothing there is settled."""
    bench = PipelineBench(mode=Mode.ONE_WAY)
    bench.ports["eu"].fail_always("put", Transient("it is the source no more"))

    async def turned_away() -> None:
        bench.write("1", "x")
        await bench.clock.sleep(60.0)

    bench.run_and_kill(turned_away)
    bench.ports["eu"].fail_always("put", None)
    bench.pipeline = bench.another(Mode.MULTI_WRITER)

    async def merged() -> None:
        await bench.until(lambda: bench.position is not None)

    bench.run(merged)
    assert bench.contents("eu") == {"1": "x"}


def test_a_stop_ends_although_the_checkpoint_cannot_be_saved() -> None:
    """Some records will be read again, which is safe."""
    bench = PipelineBench(limits=PipelineLimits(drain_s=7.0, checkpoint_interval_s=3600.0))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        bench.stores.fail_always("save", Transient("down"))

    bench.run(script, limit_s=60.0)
    assert bench.position is None
    assert bench.snapshot()["state"] == "stopped"


@pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.5, 3.0])
def test_a_stop_may_come_at_any_time(after_s: float) -> None:
    """Before the first answer, in a session, and between two of them."""
    bench = PipelineBench()
    bench.find_errors += [Fatal("access denied")] * (after_s == 3.0) * 3

    async def script() -> None:
        await bench.clock.sleep(after_s)

    bench.run(script, limit_s=60.0)
    assert bench.snapshot()["state"] == "stopped"


# --- beginning again ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Fatal("access denied"), RuntimeError("a bug")])
def test_a_reader_that_cannot_go_on_begins_again_from_the_checkpoint(error: Exception) -> None:
    """Loudly, after a pause; what was settled is not read again."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.position == After(2))
        bench.stream.fail(Call.RECORDS, error, shard="a")
        await bench.until(lambda: bench.snapshot()["state"] == "retrying")
        told = "access denied" if isinstance(error, ReplicatorError) else "RuntimeError"
        assert bench.stats.error is not None
        assert told in bench.stats.error
        assert bench.link["backlog_age_s"] is None
        bench.write("2", "x")
        await bench.until(lambda: "2" in bench.contents("eu"))
        await bench.until(lambda: bench.snapshot()["state"] == "running")
        assert bench.stats.error is None

    bench.run(script)
    assert bench.stream.positions[-1] == ("a", After(2))


def test_a_stream_that_was_made_anew_is_found_without_a_restart() -> None:
    """The old one is read to its end, then the new one from its beginning."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "old stream")
        await bench.until(lambda: "1" in bench.contents("eu"))
        bench.write("2", "old stream")
        old = bench.stream
        old.enabled = False
        old.close("a")
        bench.stream = ScriptedStream(clock=bench.clock, arn="arn:new", shape={"a": {}})
        bench.write("3", "new stream")
        await bench.clock.sleep(300.0)
        assert sorted(bench.contents("eu")) == ["1", "2", "3"]
        assert bench.stats.stream_arn == "arn:new"

    bench.run(script)


@pytest.mark.parametrize("event", [EventName.MODIFY, EventName.INSERT])
def test_a_write_whose_image_the_stream_left_out_is_no_delete(event: EventName) -> None:
    """A stream switched to KEYS_ONLY under a table that every region writes destroys nothing."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.position == After(2))
        keys = {"id": {"S": "1"}}
        bare = Record(sequence=0, created_us=bench.clock.now_us(), event=event, keys=keys)
        bench.stream.append("a", bare)
        await bench.clock.sleep(30.0)
        assert bench.contents("us") == bench.contents("eu") == {"1": "x"}
        assert "NEW_AND_OLD_IMAGES" in str(bench.stats.session_error)
        assert bench.position == After(2)

    bench.run(script)


def test_sessions_that_fail_at_once_are_spaced_out() -> None:
    """Up to a bound, for as long as it takes."""
    bench = PipelineBench()
    bench.find_errors = [Fatal("no table")] * 20

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert 20 * 15 * 0.5 < bench.clock.monotonic_s() < 20 * 31


def test_failed_sessions_leave_no_tasks_behind() -> None:
    """However often it begins again, the process does not grow."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["state"] == "running")
        before = len(asyncio.all_tasks())
        for _ in range(3):
            bench.stream.fail(Call.RECORDS, Fatal("access denied"), shard="a")
            await bench.until(lambda: bench.snapshot()["state"] == "retrying")
            await bench.until(lambda: bench.snapshot()["state"] == "running")
        await bench.clock.sleep(5.0)
        assert len(asyncio.all_tasks()) == before

    bench.run(script)


def test_a_failed_session_leaves_nothing_running() -> None:
    """What was under way is dropped, and made again by the next session."""
    bench = PipelineBench(call_s=5.0)

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: "put" in bench.ports["eu"].calls)
        bench.stream.fail(Call.RECORDS, Fatal("access denied"), shard="a")
        await bench.until(lambda: bench.snapshot()["state"] == "retrying")
        assert bench.ports["eu"].under_way == 0
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
