"""What would be lost if a region vanished now, and how links fare: known, rising, unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conflict.merge import Shipment
from conflict.operations import Key
from conflict.version import Kind, Version
from replicator.errors import IteratorExpired, Throttled, Transient
from replicator.reader import ReaderLimits
from replicator.session import written_us
from replicator.telemetry import (
    LAGGING_AFTER_S,
    PipelineState,
    PipelineStats,
    exposure_by_region,
    overall,
)
from support.pipelines import PipelineBench
from support.scripted_stream import Call

NOW_US = 1_700_000_000_000_000


def figures(read_us: int | None = NOW_US, **pending: tuple[int, int | None]) -> PipelineStats:
    """A pipeline that has read until then, with so much pending per target."""
    stats = PipelineStats(
        table="orders", source="us", mode="multi-writer", targets=tuple(pending) or ("eu",)
    )
    stats.state, stats.readable, stats.caught_up = PipelineState.RUNNING, True, True
    stats.read_until = lambda: read_us
    stats.progress = lambda: (0, 0, dict(pending))
    return stats


def ago(seconds: float) -> int:
    """A moment before now."""
    return NOW_US - int(seconds * 1e6)


# --- exposure -----------------------------------------------------------------------------------


def test_exposure_is_the_time_since_all_was_across() -> None:
    """As of the last look at every shard where nothing waits, and of the oldest that waits."""
    assert figures(ago(0.5), eu=(0, None)).snapshot(NOW_US)["exposure"] == {
        "seconds": 0.5,
        "records": 0,
    }
    assert figures(ago(0.5), eu=(7, ago(3))).snapshot(NOW_US)["exposure"] == {
        "seconds": 3.0,
        "records": 7,
    }


def test_the_worst_link_counts() -> None:
    """A failover may go to any of the targets; each figure is the greater."""
    exposure = figures(ago(0), eu=(1, ago(9)), ap=(5, ago(2))).snapshot(NOW_US)["exposure"]
    assert exposure == {"seconds": 9.0, "records": 5}


def test_what_was_known_to_be_across_stays_so() -> None:
    """A record's time is rounded down: a look that found nothing before it proves more."""
    stats = figures(ago(0.2), eu=(0, None))
    stats.note_complete()
    stats.progress = lambda: (1, 0, {"eu": (1, ago(0.9))})
    assert stats.snapshot(NOW_US)["exposure"] == {"seconds": 0.2, "records": 1}


def test_of_a_dead_source_it_is_what_was_known_and_the_time_since() -> None:
    """It grows with every second; how many records are lost cannot be told."""
    stats = figures(ago(1), eu=(2, ago(4)))
    stats.note_complete()
    stats.readable, stats.read_until = False, lambda: NOW_US
    assert stats.snapshot(NOW_US)["exposure"] == {"seconds": 4.0, "records": None}
    assert stats.snapshot(NOW_US + 60_000_000)["exposure"] == {"seconds": 64.0, "records": None}


def test_what_was_never_known_is_unknown() -> None:
    """Of one link as of all of them."""
    stats = figures(None, eu=(0, None), ap=(3, ago(1)))
    stats.links["eu"].note_complete(ago(8))
    assert stats.snapshot(NOW_US)["exposure"] == {"seconds": None, "records": 3}


def test_a_regions_exposure_is_that_of_all_its_tables() -> None:
    """The longest time, and all that waits; unknown as soon as one table's is."""
    one, other = figures(ago(1), eu=(2, ago(4))), figures(ago(1), eu=(3, ago(2)))
    documents = [stats.snapshot(NOW_US) for stats in (one, other)]
    assert exposure_by_region(documents) == {"us": {"seconds": 4.0, "records": 5}}
    one.readable = other.readable = False
    other.links["eu"].complete_us = other.read_until = None
    documents = [stats.snapshot(NOW_US) for stats in (one, other)]
    assert exposure_by_region(documents) == {"us": {"seconds": None, "records": None}}


# --- the state of a link ------------------------------------------------------------------------


def _paused(stats: PipelineStats) -> None:
    stats.links["eu"].paused_since_us, stats.links["eu"].error = 7, "down"


def _retrying(stats: PipelineStats) -> None:
    stats.links["eu"].error, stats.readable = "down", False


def _stuck(stats: PipelineStats) -> None:
    stats.links["eu"].stuck = 1


def _unreadable(stats: PipelineStats) -> None:
    stats.readable = False


def _unseen(stats: PipelineStats) -> None:
    stats.caught_up = False


def _stopped(stats: PipelineStats) -> None:
    stats.state = PipelineState.STOPPED


def _lagging(stats: PipelineStats) -> None:
    stats.progress = lambda: (1, 0, {"eu": (1, ago(LAGGING_AFTER_S + 1))})


def _close(stats: PipelineStats) -> None:
    stats.progress = lambda: (1, 0, {"eu": (1, ago(LAGGING_AFTER_S - 1))})


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (_paused, "paused"),
        (_retrying, "retrying"),
        (_stuck, "retrying"),
        (_unreadable, "unknown"),
        (_unseen, "unknown"),
        (_stopped, "unknown"),
        (_lagging, "lagging"),
        (_close, "ok"),
    ],
)
def test_a_links_state_is_the_first_that_holds(
    change: Callable[[PipelineStats], None], state: str
) -> None:
    """What is done on purpose, then what fails, then what is not known, then what is behind."""
    stats = figures(eu=(0, None))
    change(stats)
    document = stats.snapshot(NOW_US)
    assert document["links"][0]["state"] == state
    assert (overall([document]) == "ok") is (state == "ok")


def test_what_has_only_begun_is_unknown_and_no_trouble() -> None:
    """A process that starts is not degraded for a second."""
    stats = PipelineStats(table="t", source="us", mode="one-way", targets=("eu",))
    document = stats.snapshot(NOW_US)
    assert document["links"][0]["state"] == "unknown"
    assert overall([document]) == "ok"


# --- through a whole pipeline ---------------------------------------------------------------------


def exposure_s(bench: PipelineBench) -> float:
    """Seconds of the only link."""
    seconds: float = bench.snapshot()["exposure"]["seconds"]
    return seconds


def test_exposure_of_a_quiet_table_is_the_time_between_looks() -> None:
    """However seldom the stream is described."""
    bench = PipelineBench(reader_limits=ReaderLimits(describe_interval_s=600.0, poll_idle_s=0.5))
    seen: list[float] = []

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["exposure"]["seconds"] is not None)
        for _ in range(300):
            await bench.clock.sleep(1.0)
            seen.append(exposure_s(bench))

    bench.run(script)
    assert max(seen) < 0.6


def test_exposure_grows_while_the_source_does_not_answer_and_falls_when_it_does() -> None:
    """The link is unknown meanwhile, never 0, and its backlog with it."""
    bench = PipelineBench()
    seen: list[dict[str, Any]] = []

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["exposure"]["seconds"] is not None)
        bench.stream.fail(Call.RECORDS, *[Transient("down")] * 100, shard="a")
        await bench.clock.sleep(120.0)
        seen.append(bench.snapshot())
        await bench.until(lambda: bench.snapshot()["links"][0]["state"] == "ok")
        seen.append(bench.snapshot())

    bench.run(script)
    down, up = seen
    assert down["links"][0]["state"] == "unknown"
    assert down["links"][0]["backlog_age_s"] is None
    assert down["exposure"]["seconds"] > 100.0
    assert down["exposure"]["records"] is None
    assert up["exposure"]["seconds"] < 2.0


def test_what_arrives_after_its_source_fell_silent_is_across() -> None:
    """It was read in time: what is said to be lost is what was written since, and no more."""
    bench = PipelineBench()
    seen: list[float] = []

    async def script() -> None:
        bench.ports["eu"].fail_always("put", Transient("down"))
        bench.write("1", "x")
        await bench.until(lambda: bench.snapshot()["unsettled"] == 1)
        await bench.clock.sleep(3.0)
        bench.stream.fail(Call.RECORDS, *[Transient("down")] * 1000, shard="a")
        silent_us = bench.clock.now_us()
        await bench.clock.sleep(2.0)
        assert exposure_s(bench) > 4.0
        bench.ports["eu"].fail_always("put", None)
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        seen.append(exposure_s(bench) - (bench.clock.now_us() - silent_us) / 1e6)

    bench.run(script)
    assert 0.0 <= seen[0] < 1.3


def test_an_iterator_that_is_given_proves_nothing_read() -> None:
    """A source that gives iterators and no records is silent: what it took since is not across."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["exposure"]["seconds"] is not None)
        bench.stream.fail(
            Call.RECORDS, *[IteratorExpired("old"), Transient("down")] * 100, shard="a"
        )
        silent_us = bench.clock.now_us()
        for _ in range(600):
            await bench.clock.sleep(0.1)
            assert exposure_s(bench) >= (bench.clock.now_us() - silent_us) / 1e6

    bench.run(script)


def test_a_restart_knows_what_an_earlier_run_had_brought_across() -> None:
    """The moment is kept with the positions."""
    bench = PipelineBench()
    bench.stores.read_us = bench.clock.now_us() - 90_000_000
    bench.stream.fail(Call.DESCRIBE, *[Transient("down")] * 100)

    async def script() -> None:
        await bench.clock.sleep(10.0)
        assert 100.0 <= exposure_s(bench) < 101.0

    bench.run(script)


def test_what_a_restart_would_read_again_ages_the_checkpoint() -> None:
    """A delivery that hangs keeps the position; once it is through the checkpoint is fresh."""
    bench = PipelineBench()
    bench.ports["eu"].fail_always("put", Transient("down"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.clock.sleep(60.0)
        stuck = bench.snapshot()
        assert 55.0 < stuck["checkpoint_age_s"] <= 60.0
        assert stuck["in_flight"] == 1
        bench.ports["eu"].fail_always("put", None)
        await bench.until(lambda: bench.snapshot()["checkpoint_age_s"] < 2.0)

    bench.run(script)
    assert bench.snapshot()["in_flight"] == 0


def test_errors_and_throttles_are_counted_where_they_are_met() -> None:
    """Of the stream, of home and of each target; throttles are among them."""
    bench = PipelineBench()
    bench.stream.fail(Call.RECORDS, Throttled("slow down"), Transient("down"), shard="a")
    bench.ports["us"].fail("stamp", Throttled("slow down"))
    bench.ports["eu"].fail("put", Throttled("slow down"), Throttled("slow down"), Transient("x"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})

    bench.run(script)
    document = bench.snapshot()
    assert (document["read_errors"], document["home_retries"]) == (2, 1)
    assert (bench.link["retries"], bench.link["throttles"]) == (3, 2)
    assert document["throttles"] == 4


# --- latency ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "stamped_us", "written"),
    [
        (Kind.APPLICATION, 10_400_000, 10_400_000),
        (Kind.APPLICATION, 9_999_999, 10_000_000),
        (Kind.APPLICATION, 12_000_001, 10_000_000),
        (Kind.SETTLED, 10_400_000, 10_000_000),
    ],
)
def test_a_write_is_as_old_as_its_applications_stamp_says(
    kind: Kind, stamped_us: int, written: int
) -> None:
    """If that can be: not before its record's time, which is rounded down, nor in the future."""
    key = Key({"id": {"S": "1"}}, "1")
    shipment = Shipment(key, Version(stamped_us, "us", 1, kind), None, 10_000_000)
    assert written_us(shipment, now_us=12_000_000) == written
