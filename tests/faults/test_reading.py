"""What a stream does to its reader: shards that split, hide, end, expire and are trimmed.

A whole pipeline over a scripted stream, in virtual time. Rows of tests/FAULTS.md by their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from conflict.operations import Image
from replicator.errors import Transient
from replicator.parts import PipelineLimits
from replicator.records import (
    WHOLE_STREAM,
    After,
    EventName,
    Finished,
    Mode,
    Record,
    Shard,
    TrimHorizon,
)
from replicator.telemetry import overall
from support.pipelines import PipelineBench, checkpoint
from support.scripted_stream import ITERATOR_LIFE_S, Call, Shape

ARN = "arn:scripted"
HOUR_US = 3_600_000_000


def bench_of(shape: Shape, limits: PipelineLimits | None = None) -> PipelineBench:
    """A pipeline over a stream with these shards; one-way, so that records speak for themselves."""
    return PipelineBench(shape=shape, mode=Mode.ONE_WAY, limits=limits)


def fill(bench: PipelineBench, shard: str, *names: str) -> None:
    """Records of a moment ago that stand in a shard."""
    for name in names:
        bench.append_aged(name, 1.0, shard)


def arrive(bench: PipelineBench, *names: str) -> None:
    """Run the pipeline until the target holds just these."""

    async def script() -> None:
        await bench.until(lambda: sorted(bench.contents("eu")) == sorted(names))

    bench.run(script)


def test_f04_a_record_that_says_nothing_is_parked_and_the_rest_goes_on() -> None:
    """An unknown event without images is kept aside, counted, and passed by; one whose images
    tell what happened is applied."""
    bench = bench_of({"a": {}})
    keys = {"id": {"S": "odd"}}
    bench.stream.append("a", Record(sequence=0, created_us=1, event=None, keys=keys))
    told = {"id": {"S": "told"}, "content": {"S": "x"}}
    bench.stream.append(
        "a", Record(sequence=0, created_us=1, event=None, keys={"id": told["id"]}, new=told)
    )
    fill(bench, "a", "next")
    arrive(bench, "told", "next")
    assert [parked.key.id for parked in bench.stores.parked] == ["odd"]
    assert bench.snapshot()["records"]["quarantined"] == 1


def test_f51_a_record_without_keys_is_known_by_its_images() -> None:
    """A new or an old image holds the key as well: the change arrives like any other."""
    bench = bench_of({"a": {}})
    made = {"id": {"S": "made"}, "content": {"S": "x"}}
    gone = {"id": {"S": "gone"}}
    fill(bench, "a", "gone")
    bench.stream.append(
        "a", Record(sequence=0, created_us=1, event=EventName.INSERT, keys={}, new=made)
    )
    odd: Image = {"id": {"M": {}}}
    bench.stream.append(
        "a", Record(sequence=0, created_us=2, event=EventName.REMOVE, keys=odd, old=gone)
    )
    fill(bench, "a", "next")
    arrive(bench, "made", "next")
    assert not bench.stores.reported


def test_f51_a_record_of_no_item_is_a_gap_and_the_shard_goes_on() -> None:
    """It can neither be applied nor parked by key, and is never passed in silence: the gap is
    stored before anything behind it is settled, is red, and the comparison of the tables is due."""
    bench = bench_of({"a": {}})
    for event in (EventName.REMOVE, None):
        bench.stream.append("a", Record(sequence=0, created_us=1, event=event, keys={}))
    fill(bench, "a", "next")
    bench.stores.fail("report", *[Transient("down")] * 20)
    arrive(bench, "next")
    assert [gap.shard for gap in bench.stores.reported] == ["a"] * 2
    assert "names no item: sequence" in bench.stores.reported[0].reason
    assert bench.snapshot()["gap"]["reason"] == bench.stores.reported[1].reason
    assert overall([bench.snapshot()]) == "failed"


def test_f06_a_stream_that_stops_without_a_word_is_not_called_caught_up() -> None:
    """Every shard has ended and no child is listed: the backlog is unknown, not 0, for as long as
    that lasts; when the child appears all is read. That /healthz turns red is the watchdog's."""
    bench = bench_of({"a": {}})

    async def script() -> None:
        fill(bench, "a", "1")
        await bench.until(lambda: bench.link["backlog_age_s"] == 0)
        bench.stream.split("a", "b")
        bench.stream.hide("b")
        fill(bench, "b", "2")
        await bench.until(lambda: bench.stats.shards_open == 0)
        await bench.clock.sleep(600.0)
        assert bench.link["backlog_age_s"] is None
        bench.stream.show("b")
        await bench.until(lambda: sorted(bench.contents("eu")) == ["1", "2"])

    bench.run(script)


def test_f07_what_was_written_before_a_child_is_opened_is_read() -> None:
    """A child is opened from its beginning, never from its end."""
    bench = bench_of({"a": {}})
    fill(bench, "a", "1")
    bench.stream.split("a", "b")
    fill(bench, "b", "2", "3")
    arrive(bench, "1", "2", "3")
    assert ("b", TrimHorizon()) in bench.stream.positions


def test_f08_a_parent_and_its_child_in_one_description_are_read_in_order() -> None:
    """The graph decides first, positions after: no child before its parent's end, none from its
    end, whatever the order in the answer."""
    bench = bench_of({"a": {"b": {"c": {}}}})
    for shard, name in (("a", "1"), ("b", "2"), ("c", "3")):
        fill(bench, shard, name)
    bench.stream.arrange = lambda shards: shards[::-1]
    arrive(bench, "1", "2", "3")
    assert bench.stream.positions == [(shard, TrimHorizon()) for shard in "abc"]


LIES: dict[str, Callable[[list[Shard]], Sequence[Shard]]] = {
    "half of it": lambda shards: shards[::2],
    "twice": lambda shards: shards + shards,
    "backwards": lambda shards: shards[::-1],
    "parents unknown": lambda shards: [Shard(id=s.id, closed=s.closed) for s in shards],
    "its own parent": lambda shards: [Shard(id=s.id, parent=s.id) for s in shards],
}


@pytest.mark.parametrize("lie", LIES)
def test_f09_no_description_makes_a_shard_disappear(lie: str) -> None:
    """Answers that contradict each other, for a while: every record is read, and none twice."""
    bench = bench_of({"a": {"b": {}, "c": {"d": {}}}})
    for shard in "abcd":
        fill(bench, shard, f"of {shard}")
    told = bench.stream.arrange
    bench.stream.arrange = LIES[lie]

    async def script() -> None:
        await bench.clock.sleep(60.0)
        bench.stream.arrange = told
        await bench.until(lambda: len(bench.contents("eu")) == 4)

    bench.run(script)
    assert bench.stats.records.read == 4


def test_f10_finished_shards_that_are_listed_again_are_not_read_again() -> None:
    """Their checkpoints outlive the shards, so that a lineage is not replayed."""
    bench = bench_of({"a": {"b": {}}})
    fill(bench, "a", "1")
    fill(bench, "b", "2")
    bench.stores.positions[ARN, "a"] = checkpoint(ARN, Finished())
    arrive(bench, "2")
    assert [shard for shard, _ in bench.stream.positions] == ["b"]


def test_f10_a_lineage_that_is_replayed_all_the_same_brings_nothing_back() -> None:
    """The finished checkpoint is gone: the old records lose by their versions."""
    bench = PipelineBench()
    for content in ("old", "new"):
        bench.write("1", content)
    bench.write("2", "x")
    bench.write("2", None)

    async def settled() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "new"})
        await bench.clock.sleep(5.0)

    bench.run_and_kill(settled)
    bench.stores.positions.clear()
    read = bench.stream.sequences("a")[-1]

    async def replayed() -> None:
        await bench.until(lambda: bench.position == After(read))

    bench.run(replayed)
    assert bench.contents("us") == bench.contents("eu") == {"1": "new"}


def test_f11_a_shard_that_is_listed_late_is_found() -> None:
    """Descriptions go on all the time, not only when a shard ends."""
    bench = bench_of({"a": {}, "late": {}})
    bench.stream.hide("late", descriptions=5)
    fill(bench, "late", "1")
    arrive(bench, "1")


def test_f12_an_unread_shard_that_is_gone_is_a_gap() -> None:
    """It is told durably, and the other shards, its children among them, go on."""
    bench = bench_of({"a": {"b": {}}})
    fill(bench, "a", "lost")
    fill(bench, "b", "kept")
    bench.stores.positions[ARN, "a"] = checkpoint(ARN, After(0), "a")
    bench.stream.fail(Call.ITERATOR, *[Transient("down")] * 2, shard="a")

    async def script() -> None:
        await bench.until(lambda: bench.stream.calls[Call.ITERATOR, "a"] > 0)
        bench.stream.delete("a")
        await bench.until(lambda: list(bench.contents("eu")) == ["kept"])

    bench.run(script)
    (gap,) = bench.stores.reported
    assert gap.shard == "a"
    assert bench.snapshot()["gap"] is not None


def test_f13_a_trimmed_stream_is_a_gap_and_is_read_from_what_is_left() -> None:
    """The loss is durable before reading goes on at the oldest record, and stays told; that it is
    then repaired and closed is test_f13_a_gap_mends_itself (black box)."""
    bench = bench_of({"a": {}})
    fill(bench, "a", "1", "2", "3")
    first, second, _ = bench.stream.sequences("a")
    bench.stores.positions[ARN, "a"] = checkpoint(ARN, After(first))
    bench.stream.trim("a", through=second)
    bench.stores.fail("report", *[Transient("down")] * 3)

    async def script() -> None:
        await bench.until(lambda: bool(bench.stores.reported) or bool(bench.contents("eu")))
        assert bench.stores.reported
        await bench.until(lambda: list(bench.contents("eu")) == ["3"])
        await bench.clock.sleep(600.0)

    bench.run(script)
    assert bench.snapshot()["gap"] is not None


def test_f14_an_iterator_that_expires_is_renewed_where_reading_stood() -> None:
    """The target is down for longer than an iterator lives: no record is lost, none is a gap."""
    bench = bench_of({"a": {}}, PipelineLimits(unsettled_records_max=1))
    bench.ports["eu"].fail_always("put", Transient("down"))
    fill(bench, "a", "1")

    async def script() -> None:
        await bench.clock.sleep(ITERATOR_LIFE_S + 60.0)
        fill(bench, "a", "2")
        bench.ports["eu"].fail_always("put", None)
        await bench.until(lambda: sorted(bench.contents("eu")) == ["1", "2"])

    bench.run(script)
    assert bench.stats.records.read == 2
    assert not bench.stores.reported
    assert len(bench.stream.positions) == 2


def test_f15_empty_pages_are_not_the_end() -> None:
    """Only an answer without a next iterator ends a shard."""
    bench = bench_of({"a": {}})
    fill(bench, "a", "1")
    bench.stream.empty_pages("a", 200)
    arrive(bench, "1")
    assert bench.stats.shards_open == 1


def test_f16_a_source_that_nobody_could_read_for_25_hours_is_a_gap() -> None:
    """What it wrote and its stream dropped meanwhile left no other trace."""
    bench = bench_of({"a": {}})
    bench.stores.read_us = bench.clock.now_us() - 25 * HOUR_US
    fill(bench, "a", "1")
    arrive(bench, "1")
    assert [gap.shard for gap in bench.stores.reported] == [WHOLE_STREAM]


def test_f25_a_stream_that_answers_nothing_is_unknown_and_not_idle() -> None:
    """A call that hangs for ever: the backlog is unknown for as long as it does."""
    bench = bench_of({"a": {}})

    async def script() -> None:
        await bench.until(lambda: bench.link["backlog_age_s"] == 0)
        answer = bench.stream.stall(Call.RECORDS, "a")
        fill(bench, "a", "1")
        await bench.clock.sleep(120.0)
        assert bench.link["backlog_age_s"] is None
        answer.set()
        await bench.until(lambda: list(bench.contents("eu")) == ["1"])

    bench.run(script)
