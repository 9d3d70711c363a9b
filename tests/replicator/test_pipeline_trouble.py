"""What a pipeline says while something is wrong, in memory and virtual time."""

from __future__ import annotations

import pytest

from replicator.errors import Fatal, Transient
from replicator.records import Mode
from replicator.writer import WriterLimits
from support.pipelines import PipelineBench
from support.scripted_stream import Call


def test_a_link_that_is_down_says_so_and_for_how_long() -> None:
    """Its backlog ages, and when it heals both are gone."""
    bench = PipelineBench()
    bench.ports["eu"].fail_always("put", Transient("connection refused"))

    async def script() -> None:
        bench.write("1", "x")
        await bench.clock.sleep(100.0)
        link = bench.link
        assert (link["state"], link["error"], link["pending"]) == (
            "retrying",
            "connection refused",
            1,
        )
        assert 98.0 < link["backlog_age_s"] < 101.0
        assert link["retries"] > 10
        bench.ports["eu"].fail_always("put", None)
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        await bench.clock.sleep(1.0)
        link = bench.link
        assert (link["state"], link["pending"], link["backlog_age_s"]) == ("ok", 0, 0.0)

    bench.run(script)


def test_while_the_source_cannot_be_read_the_backlog_is_unknown() -> None:
    """Unknown is not nothing."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["state"] == "running")
        assert bench.link["backlog_age_s"] == 0.0
        bench.stream.fail(Call.RECORDS, *[Transient("down")] * 8, shard="a")
        await bench.until(lambda: bench.stats.error == "down")
        assert bench.link["backlog_age_s"] is None
        await bench.until(lambda: bench.link["backlog_age_s"] == 0.0)
        assert bench.stats.error is None

    bench.run(script)


def test_while_a_call_hangs_the_backlog_is_unknown() -> None:
    """A half-open connection raises no error, and is no good sign."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.until(lambda: bench.link["backlog_age_s"] == 0.0)
        answered = bench.stream.stall(Call.RECORDS, "a")
        await bench.clock.sleep(60.0)
        assert bench.link["backlog_age_s"] is None
        answered.set()
        await bench.until(lambda: bench.link["backlog_age_s"] == 0.0)

    bench.run(script)


def test_before_the_first_answer_nothing_is_known() -> None:
    """A pipeline that has not begun is no pipeline that has caught up."""
    bench = PipelineBench()
    assert bench.snapshot()["state"] == "starting"
    assert bench.link["backlog_age_s"] is None


def test_a_refused_target_is_told_as_stuck_until_it_takes_the_change() -> None:
    """A task that fails for good is begun again for as long as it takes, and other keys go on."""
    bench = PipelineBench()
    bench.ports["eu"].fail("put", *[Fatal("access denied")] * 4)

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.link["stuck"] == 1)
        link = bench.link
        assert (link["state"], link["error"], link["pending"]) == ("retrying", "access denied", 1)
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        await bench.until(lambda: bench.link["state"] == "ok")
        assert (bench.link["stuck"], bench.link["error"]) == (0, None)

    bench.run(script)


@pytest.mark.parametrize("call", ["read", "stamp"])
def test_a_record_that_is_stuck_at_home_is_a_backlog(call: str) -> None:
    """Read and not applied is behind, wherever it is stuck."""
    bench = PipelineBench()
    bench.ports["us"].fail_always(call, Transient("down"))
    bench.write("1", "x")

    async def script() -> None:
        await bench.clock.sleep(100.0)
        link = bench.link
        bench.ports["us"].fail_always(call, None)
        assert link["pending"] == 1
        assert link["backlog_age_s"] > 90.0

    bench.run(script)


@pytest.mark.parametrize("call", ["read", "stamp"])
def test_a_home_region_that_fails_is_told_as_long_as_it_lasts(call: str) -> None:
    """The stream being read well does not hide it."""
    bench = PipelineBench()
    bench.ports["us"].fail_always(call, Transient("down"))
    bench.write("1", "x")
    seen: list[str | None] = []

    async def script() -> None:
        await bench.clock.sleep(30.0)
        for _ in range(100):
            await bench.clock.sleep(0.1)
            seen.append(bench.stats.error)
        bench.ports["us"].fail_always(call, None)
        await bench.until(lambda: bench.stats.error is None)

    bench.run(script)
    assert seen == ["down"] * 100


def test_the_backlog_is_unknown_while_no_session_runs() -> None:
    """Sessions that fail elsewhere than in the reader: nobody reads, so nothing is known."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.snapshot()["state"] == "running")
        bench.find_errors += [Fatal("access denied")] * 30
        bench.stores.fail("save", Fatal("access denied"))
        bench.write("2", "x")
        await bench.until(lambda: bench.snapshot()["state"] == "retrying")
        bench.write("3", "x")
        await bench.clock.sleep(60.0)
        assert bench.link["backlog_age_s"] is None
        assert bench.stats.session_error == "access denied"

    bench.run(script)


@pytest.mark.parametrize("failing", ["load", "last_read", "load_parked"])
def test_a_session_that_may_not_load_what_is_stored_begins_again(failing: str) -> None:
    """And says so until it runs."""
    bench = PipelineBench()
    bench.stores.fail(failing, *[Fatal("down")] * 3)

    async def script() -> None:
        await bench.until(lambda: bench.stats.session_error == "down")
        assert bench.snapshot()["state"] == "retrying"
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        await bench.until(lambda: bench.stats.session_error is None)

    bench.run(script)


@pytest.mark.parametrize("failing", ["load", "last_read", "load_parked", "find"])
def test_a_session_that_begins_in_bad_weather_asks_again_in_place(failing: str) -> None:
    """A dozen failures cost moments of backoff, not sessions with their growing pauses."""
    bench = PipelineBench()
    if failing == "find":
        bench.find_errors += [Transient("down")] * 12
    bench.stores.fail(failing, *[Transient("down")] * 12)
    bench.write("1", "x")

    async def script() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        assert bench.clock.monotonic_s() < 12 * WriterLimits().backoff_max_s

    bench.run(script)
    assert bench.stores.calls.count("load") == (13 if failing == "load" else 1)


def test_a_stop_ends_the_tries_to_begin() -> None:
    """A source that never answers holds no process back."""
    bench = PipelineBench()
    bench.stores.fail_always("load", Transient("down"))

    async def script() -> None:
        await bench.until(lambda: bench.stores.calls.count("load") > 20)

    bench.run(script, limit_s=600.0)
    assert bench.snapshot()["state"] == "stopped"


def test_while_a_shard_goes_on_giving_records_the_backlog_is_as_old_as_the_last() -> None:
    """What was read has arrived, and what is still in the stream has not been seen."""
    bench = PipelineBench(mode=Mode.ONE_WAY)
    ages: list[float | None] = []

    async def script() -> None:
        for number in range(300):
            bench.append_aged(str(number), 3_600.0)
            await bench.clock.sleep(0.07)
            ages.append(bench.link["backlog_age_s"])
        await bench.clock.sleep(10.0)
        assert bench.link["backlog_age_s"] == 0.0

    bench.run(script)
    assert min(age for age in ages[50:] if age is not None) > 3_590.0


def test_the_shard_that_is_furthest_behind_tells_the_backlog() -> None:
    """Another that is up to date does not hide it."""
    bench = PipelineBench(mode=Mode.ONE_WAY, shape={"a": {}, "b": {}})
    ages: list[float | None] = []

    async def script() -> None:
        for number in range(300):
            bench.append_aged(str(number), 3_600.0)
            await bench.clock.sleep(0.03)
            bench.append_aged(f"b{number}", 0.0, shard="b")
            await bench.clock.sleep(0.04)
            ages.append(bench.link["backlog_age_s"])

    bench.run(script)
    assert min(age for age in ages[50:] if age is not None) > 3_590.0
