"""What a pipeline has missed, and how it comes to know, in memory and virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from replicator.errors import Throttled, Transient, Trimmed
from replicator.keeper import NOTE_READ_EVERY_S
from replicator.parts import PipelineLimits
from replicator.reader import ReaderLimits
from replicator.records import WHOLE_STREAM, After, Gap, Mode
from support.pipelines import PipelineBench, checkpoint
from support.scripted_stream import Call

HOUR_US = 3_600_000_000
DAY_S = 86_400.0


def test_a_gap_is_written_down_before_reading_goes_on() -> None:
    """What retention took is told, durably, and then the rest is read."""
    bench = PipelineBench()
    sequences = [bench.write(str(number), "x") for number in range(3)]
    bench.stores.positions["arn:scripted", "a"] = checkpoint("arn:scripted", After(sequences[0]))
    bench.stream.trim("a", through=sequences[1])
    bench.stores.fail("report", *[Throttled("slower")] * 3)

    async def script() -> None:
        await bench.until(lambda: bool(bench.stores.reported) or bool(bench.contents("eu")))
        assert bench.stores.reported
        await bench.until(lambda: bench.contents("eu") == {"2": "x"})

    bench.run(script)
    (gap,) = bench.stores.reported
    assert (gap.table, gap.source, gap.shard, gap.stream_arn) == (
        "orders",
        "us",
        "a",
        "arn:scripted",
    )
    assert bench.snapshot()["gap"] == {"since_us": gap.since_us, "reason": gap.reason}


def test_a_stream_of_another_name_is_a_gap() -> None:
    """Positions of a stream that is no more do not count for the new one."""
    bench = PipelineBench()
    bench.stores.positions["arn:old", "a"] = checkpoint("arn:old", After(9))
    bench.stores.fail("report", Transient("down"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    (gap,) = bench.stores.reported
    assert (gap.shard, gap.stream_arn) == (WHOLE_STREAM, "arn:scripted")
    assert bench.position is not None


def test_a_stream_is_known_again_before_anything_of_it_was_kept() -> None:
    """A process that ended before its first checkpoint has read, and perhaps applied, records of a
    stream that was made anew since: that is a gap, and is told once."""
    limits = PipelineLimits(checkpoint_interval_s=1_000.0)
    bench = PipelineBench(limits=limits)
    bench.stores.fail("save", Transient("down"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run_and_kill(script)
    (kept,) = bench.stores.positions.values()
    bench.stores.positions = {("arn:old", WHOLE_STREAM): replace(kept, stream_arn="arn:old")}

    async def idle() -> None:
        await bench.clock.sleep(10.0)

    for _ in range(2):
        bench.run_and_kill(idle)
    assert [gap.shard for gap in bench.stores.reported] == [WHOLE_STREAM]


def test_a_gap_of_an_earlier_run_is_still_told() -> None:
    """It stays red until it has been repaired."""
    bench = PipelineBench()
    told = Gap(
        table="orders",
        source="us",
        stream_arn="arn:scripted",
        shard="a",
        since_us=7,
        reason="trimmed",
    )
    bench.stores.reported.append(told)

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["gap"] is not None)

    bench.run(script)
    assert bench.snapshot()["gap"] == {"since_us": 7, "reason": "trimmed"}


# --- long absences ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("absent_h", "is_gap"), [(None, False), (0, False), (23.9, False), (24.1, True), (60, True)]
)
def test_an_absence_longer_than_the_stream_holds_is_a_gap(
    absent_h: float | None, *, is_gap: bool
) -> None:
    """What was written and trimmed meanwhile leaves no other trace on a table that was quiet."""
    bench = PipelineBench()
    if absent_h is not None:
        bench.stores.read_us = bench.clock.now_us() - int(absent_h * HOUR_US)

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert [gap.shard for gap in bench.stores.reported] == [WHOLE_STREAM] * is_gap
    if is_gap:
        assert f"unread for {int(absent_h or 0)} h" in bench.stores.reported[0].reason


def test_an_idle_table_notes_that_it_was_read() -> None:
    """Now and then, and no later than it was true."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.clock.sleep(600.0)
        assert bench.stores.read_us is not None
        age_s = (bench.clock.now_us() - bench.stores.read_us) / 1e6
        assert 0.0 <= age_s < NOTE_READ_EVERY_S + 5.0
        assert bench.stores.calls.count("note_read") <= 600.0 / NOTE_READ_EVERY_S

    bench.run(script)
    assert bench.stores.reported == []


def test_what_waits_behind_a_parent_is_not_noted_as_read() -> None:
    """A closed shard may go on with empty pages before its end; its child is unread till then."""
    bench = PipelineBench(shape={"a": {"b": {}}})
    bench.stream.empty_pages("a", pages=1_000_000)

    async def script() -> None:
        await bench.clock.sleep(100.0)
        written_us = bench.clock.now_us()
        bench.stream.write("b", "1")
        await bench.clock.sleep(400.0)
        assert bench.stores.read_us is None or bench.stores.read_us <= written_us

    bench.run(script)


@pytest.mark.parametrize("trouble", ["refused", "hangs"])
def test_what_could_not_be_read_is_not_noted_as_read(trouble: str) -> None:
    """The note stays at the time of the last answer."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.clock.sleep(100.0)
        lost_us = bench.clock.now_us()
        if trouble == "hangs":
            answered = bench.stream.stall(Call.RECORDS, "a")
        else:
            bench.stream.fail(Call.RECORDS, *[Transient("down")] * 200, shard="a")
        await bench.clock.sleep(400.0)
        assert bench.stores.read_us is not None
        assert bench.stores.read_us <= lost_us + 1_000_000
        if trouble == "hangs":
            answered.set()

    bench.run(script)


def test_a_busy_table_notes_that_it_is_read() -> None:
    """Or the next start, a day later, would tell of an absence that never was."""
    bench = PipelineBench(mode=Mode.ONE_WAY)

    async def script() -> None:
        for number in range(3_000):
            bench.write(str(number % 10), str(number))
            await bench.clock.sleep(0.07)

    bench.run(script)
    assert bench.stores.read_us is not None


@pytest.mark.parametrize(("absent_h", "is_gap"), [(1, False), (22.5, False), (25, True)])
def test_a_position_that_was_trimmed_is_a_gap_unless_all_was_done_of_late(
    absent_h: float, *, is_gap: bool
) -> None:
    """The last record of a quiet shard goes like any other, and its position with it."""
    bench = PipelineBench(mode=Mode.ONE_WAY)
    last = bench.append_aged("old", 30 * 3_600.0)
    bench.stores.positions["arn:scripted", "a"] = checkpoint("arn:scripted", After(last - 1))
    bench.stream.trim("a", through=last)
    bench.stores.read_us = bench.clock.now_us() - int(absent_h * HOUR_US)

    async def script() -> None:
        bench.append_aged("1", 0.0)
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert bool(bench.stores.reported) == is_gap


def test_what_a_new_session_has_seen_to_be_empty_has_lost_nothing() -> None:
    """Also before it has kept anything. DynamoDB Local calls the beginning of an empty shard
    trimmed when records of other tables have come."""
    limits = PipelineLimits(checkpoint_interval_s=1_000.0)
    bench = PipelineBench(limits=limits)

    async def script() -> None:
        await bench.until(lambda: bench.stream.calls[Call.RECORDS, "a"] > 1)
        bench.stream.fail(Call.RECORDS, Trimmed("the beginning"), shard="a")
        await bench.clock.sleep(30.0)
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert bench.stores.reported == []


def test_a_new_session_whose_first_answer_is_a_loss_has_a_gap() -> None:
    """Nothing is known of what was there."""
    bench = PipelineBench()
    bench.stream.fail(Call.RECORDS, Trimmed("the beginning"), shard="a")

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    assert len(bench.stores.reported) == 1


def test_what_has_not_arrived_is_not_noted_as_done() -> None:
    """A target that is down keeps the note at the oldest write that waits for it."""
    bench = PipelineBench(mode=Mode.ONE_WAY)

    async def script() -> None:
        await bench.clock.sleep(100.0)
        bench.ports["eu"].fail_always("put", Transient("down"))
        bench.append_aged("1", 0.0)
        waiting_us = bench.clock.now_us()
        await bench.clock.sleep(400.0)
        assert bench.stores.read_us is not None
        assert bench.stores.read_us <= waiting_us
        bench.ports["eu"].fail_always("put", None)
        await bench.clock.sleep(100.0)
        assert bench.stores.read_us > waiting_us

    bench.run(script)


# --- long waits ---------------------------------------------------------------------------------


def test_f16_what_waited_longer_than_the_stream_holds_it_is_dropped_and_told() -> None:
    """Its tombstones may be gone: it must not arrive, and a comparison has to repair it."""
    seldom = ReaderLimits(poll_min_s=600.0, poll_idle_s=600.0, describe_interval_s=600.0)
    limits = PipelineLimits(checkpoint_interval_s=60.0)
    bench = PipelineBench(mode=Mode.ONE_WAY, limits=limits, reader_limits=seldom)
    first = bench.append_aged("0", 0.0)

    async def script() -> None:
        await bench.until(lambda: bench.position == After(first))
        bench.ports["eu"].call_s = 10 * DAY_S
        late = bench.append_aged("1", 0.0)
        await bench.clock.sleep(DAY_S - 1_200.0)
        assert bench.snapshot()["state"] == "running"
        bench.stream.trim("a", through=late)
        bench.ports["eu"].call_s = 0.001
        await bench.until(lambda: bool(bench.stores.reported), step_s=60.0)
        bench.append_aged("2", 0.0)
        await bench.until(lambda: "2" in bench.contents("eu"), step_s=60.0)

    bench.run(script, limit_s=2 * DAY_S)
    assert sorted(bench.contents("eu")) == ["0", "2"]
    assert "a" in [gap.shard for gap in bench.stores.reported]


def test_what_the_stream_still_holds_arrives_however_old_it_is() -> None:
    """Retention is a promise to hold records, not one to take them; emulators never do."""
    bench = PipelineBench(mode=Mode.ONE_WAY, call_s=2.0)
    for number in range(30):
        bench.append_aged(str(number), 25 * 3_600.0)

    async def script() -> None:
        await bench.clock.sleep(600.0)

    bench.run(script)
    assert len(bench.contents("eu")) == 30
