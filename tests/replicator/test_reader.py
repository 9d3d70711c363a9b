"""StreamReader against a scripted stream, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.errors import Fatal, IteratorExpired, ShardGone, Throttled, Transient
from replicator.reader import ReaderLimits, StreamReader
from replicator.records import After, Finished, Page, TrimHorizon
from replicator.shards import Anomaly, AnomalyKind
from support.clock import VirtualClock
from support.scripted_stream import ITERATOR_LIFE_S, Call, ScriptedStream, Shape

LIMITS = ReaderLimits()


class Desk:
    """One reader, and everything it has handed on and reported."""

    def __init__(
        self,
        shape: Shape,
        *,
        checkpoints: Mapping[str, After | Finished] | None = None,
        limits: ReaderLimits = LIMITS,
        seed: int = 0,
    ) -> None:
        self.clock = VirtualClock()
        self.stream = ScriptedStream(clock=self.clock, shape=shape)
        self.stop = asyncio.Event()
        self.taken: list[tuple[str, int]] = []
        self.pages: list[int] = []
        self.ended: list[str] = []
        self.gaps: list[tuple[str, str]] = []
        self.errors: list[tuple[str | None, Exception]] = []
        self.oks: list[str | None] = []
        self.anomalies: list[Anomaly] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusal: Exception | None = None
        self.taking_s = 0.0
        self.reader = StreamReader(
            source=self.stream,
            checkpoints=checkpoints or {},
            deliver=self.deliver,
            ended=self.ended.append,
            on_gap=self.on_gap,
            on_error=lambda shard, error: self.errors.append((shard, error)),
            on_ok=self.oks.append,
            on_anomaly=self.anomalies.append,
            clock=self.clock,
            sleep=self.clock.sleep,
            rng=Random(seed),
            limits=limits,
        )

    async def deliver(self, shard: str, page: Page) -> None:
        """Take a page: it lasts `taking_s`, and until the gate is open."""
        self.pages.append(len(page.records))
        if self.refusal is not None:
            raise self.refusal
        await self.clock.sleep(self.taking_s)
        await self.gate.wait()
        self.taken += [(shard, record.sequence) for record in page.records]

    async def on_gap(self, shard: str, reason: str) -> None:
        """Note a gap as a durable write would: not at once."""
        await self.clock.sleep(0.001)
        self.gaps.append((shard, reason))

    @property
    def unknown_s(self) -> float:
        """For how long it has been unknown whether there is more to read."""
        seen = self.reader.last_poll_s
        assert seen is not None
        return self.clock.monotonic_s() - seen

    def sequences(self) -> list[int]:
        """The sequences taken so far, in order."""
        return [sequence for _, sequence in self.taken]

    def run(self, script: Callable[[], Awaitable[None]]) -> None:
        """Run the reader while `script` runs, then stop it."""

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.reader.run(self.stop))
                await script()
                self.stop.set()

        self.clock.run(main(), limit_s=86_400.0)


def test_a_tree_is_read_parents_first() -> None:
    """Every record of every shard is handed on once, no child's before its parent's last."""
    desk = Desk({"a": {"b": {"d": {}}, "c": {}}})
    for shard in "dcba":
        desk.stream.write(shard, "1", "2", "3")
    desk.run(lambda: desk.clock.until(lambda: len(desk.taken) == 12))
    assert desk.sequences()[:3] == desk.stream.sequences("a")
    for parent, child in ("ab", "bd", "ac"):
        assert desk.taken.index((parent, desk.stream.sequences(parent)[-1])) < desk.taken.index(
            (child, desk.stream.sequences(child)[0])
        )
    assert desk.ended == ["a", "b"]
    assert len(set(desk.taken)) == 12


def test_a_shard_without_a_checkpoint_starts_at_trim_horizon_others_after_theirs() -> None:
    """Stored positions are resumed, a finished shard is left alone, all else is read whole."""
    desk = Desk({"a": {"b": {}}, "c": {"d": {}}}, checkpoints={"a": Finished(), "c": After(5)})
    for shard in "abcd":
        desk.stream.write(shard, "1", "2")
    desk.stream.write("c", "3")
    desk.run(lambda: desk.clock.until(lambda: len(desk.taken) == 6))
    expected = [("c", After(5)), ("b", TrimHorizon()), ("d", TrimHorizon())]
    assert desk.stream.positions == expected
    assert sorted(desk.taken) == [("b", 3), ("b", 4), ("c", 6), ("c", 9), ("d", 7), ("d", 8)]


def test_an_empty_page_is_not_the_end() -> None:
    """Records behind any number of empty pages are found, and the shard's end after them."""
    desk = Desk({"a": {"b": {}}})
    desk.stream.empty_pages("a", 7)
    desk.stream.write("a", "1")
    desk.run(lambda: desk.clock.until(lambda: desk.ended == ["a"]))
    assert desk.sequences() == desk.stream.sequences("a")


def test_an_open_shard_that_is_listed_as_closed_is_read_on() -> None:
    """An ending sequence number ends nothing: only the null iterator does."""
    desk = Desk({"a": {}})
    desk.stream.arrange = lambda shards: [replace(shard, closed=True) for shard in shards]

    async def script() -> None:
        desk.stream.write("a", "1")
        await desk.clock.until(lambda: len(desk.taken) == 1)
        await desk.clock.sleep(60)
        desk.stream.write("a", "2")
        await desk.clock.until(lambda: len(desk.taken) == 2)

    desk.run(script)
    assert desk.ended == []


def test_children_are_found_as_soon_as_a_shard_ends() -> None:
    """The end of a shard has the stream described at once, not at the next interval."""
    desk = Desk({"a": {}})

    async def script() -> None:
        await desk.clock.until(lambda: desk.reader.open_shards == 1)
        desk.stream.split("a", "b", "c")
        desk.stream.write("b", "1")
        desk.stream.write("c", "2")
        await desk.clock.until(lambda: len(desk.taken) == 2)

    desk.run(script)
    assert desk.clock.monotonic_s() < LIMITS.describe_interval_s / 2


def test_a_known_child_waits_for_no_description() -> None:
    """A child that is listed already is opened at its parent's end, even if nobody answers."""
    desk = Desk({"a": {"b": {}}})
    desk.stream.write("b", "1")
    desk.stream.empty_pages("a", 3)

    async def script() -> None:
        await desk.clock.until(lambda: desk.reader.open_shards == 1)
        desk.stream.stall(Call.DESCRIBE)
        await desk.clock.until(lambda: bool(desk.taken))

    desk.run(script)


def test_a_shard_that_is_listed_late_is_found() -> None:
    """Discovery goes on although no shard ends."""
    desk = Desk({"a": {"b": {}}, "x": {}})
    desk.stream.hide("b", descriptions=5)
    desk.stream.write("b", "1")
    desk.run(lambda: desk.clock.until(lambda: len(desk.taken) == 1))
    assert desk.stream.calls[Call.DESCRIBE, None] == 6


def test_many_ends_at_once_share_a_description() -> None:
    """Twenty shards that end together do not describe the stream twenty times."""
    desk = Desk({f"{n}": {f"{n}+": {}} for n in range(20)})
    desk.run(lambda: desk.clock.until(lambda: desk.reader.open_shards == 20 == len(desk.ended)))
    assert desk.stream.calls[Call.DESCRIBE, None] <= 3


def test_a_page_holds_the_next_one_back() -> None:
    """While a page is being taken its shard is not read on; another shard is."""
    desk = Desk({"a": {}, "b": {}}, limits=replace(LIMITS, page_records_max=2))
    desk.stream.write("a", "1", "2", "3")

    async def script() -> None:
        desk.gate.clear()
        await desk.clock.until(lambda: desk.pages == [2])
        idle_polls = desk.stream.calls[Call.RECORDS, "b"]
        await desk.clock.sleep(60)
        assert desk.stream.calls[Call.RECORDS, "a"] == 1
        assert desk.stream.calls[Call.RECORDS, "b"] > idle_polls + 50
        desk.gate.set()
        await desk.clock.until(lambda: len(desk.taken) == 3)

    desk.run(script)
    assert desk.pages == [2, 1]


def test_an_idle_shard_is_polled_less_a_busy_one_is_not() -> None:
    """Empty pages lengthen the interval to the idle one, a record sets it back.

    It is counted from call to call: the time that a page takes to be taken is not added.
    """
    desk = Desk({"a": {}})

    async def polls(seconds: float) -> int:
        before = desk.stream.calls[Call.RECORDS, "a"]
        await desk.clock.sleep(seconds)
        return desk.stream.calls[Call.RECORDS, "a"] - before

    async def script() -> None:
        await desk.clock.sleep(10)
        assert await polls(100) == 100 / LIMITS.poll_idle_s
        desk.stream.write("a", *map(str, range(50 * LIMITS.page_records_max)))
        desk.taking_s = LIMITS.poll_min_s / 2
        await desk.clock.until(lambda: bool(desk.taken))
        assert await polls(8) == pytest.approx(8 / LIMITS.poll_min_s, abs=1)

    desk.run(script)


def test_an_expired_iterator_is_renewed_where_reading_stood() -> None:
    """After the last record handed on, or at TRIM_HORIZON while there was none."""
    desk = Desk({"a": {}})

    async def script() -> None:
        await desk.clock.until(lambda: desk.stream.calls[Call.RECORDS, "a"] == 1)
        desk.stream.expire_iterators()
        desk.stream.write("a", "1", "2")
        await desk.clock.until(lambda: len(desk.taken) == 2)
        desk.stream.expire_iterators()
        desk.stream.write("a", "3")
        await desk.clock.until(lambda: len(desk.taken) == 3)

    desk.run(script)
    assert desk.stream.positions == [("a", TrimHorizon()), ("a", TrimHorizon()), ("a", After(2))]
    assert desk.sequences() == [1, 2, 3]
    assert desk.gaps == []
    assert desk.oks == ["a", "a"]


def test_a_page_may_take_longer_than_an_iterator_lives() -> None:
    """Held back for an hour, the reader goes on without a loss or a repeat."""
    desk = Desk({"a": {}}, limits=replace(LIMITS, page_records_max=1))
    desk.stream.write("a", "1", "2")

    async def script() -> None:
        desk.gate.clear()
        await desk.clock.sleep(4 * ITERATOR_LIFE_S)
        desk.gate.set()
        await desk.clock.until(lambda: len(desk.taken) == 2)

    desk.run(script)
    assert desk.sequences() == [1, 2]


def test_a_trimmed_checkpoint_is_a_gap() -> None:
    """A position older than the stream is told, then the shard is read from what is left."""
    desk = Desk({"a": {}}, checkpoints={"a": After(1)})
    desk.stream.write("a", "1", "2", "3", "4")
    desk.stream.trim("a", through=3)
    desk.run(lambda: desk.clock.until(lambda: bool(desk.taken)))
    assert desk.gaps == [("a", "trimmed: records may be lost after sequence 1")]
    assert desk.stream.positions == [("a", After(1)), ("a", TrimHorizon())]
    assert desk.sequences() == [4]


def test_a_trimmed_shard_is_not_caught_up() -> None:
    """That a position is gone says nothing of what came after it."""
    desk = Desk({"a": {}}, checkpoints={"a": After(1)})
    desk.stream.write("a", "1", "2", "3", "4")
    desk.stream.trim("a", through=3)

    async def script() -> None:
        await desk.clock.until(lambda: bool(desk.gaps) or desk.reader.caught_up)
        while not desk.taken:
            assert not desk.reader.caught_up
            await desk.clock.sleep(0.001)

    desk.run(script)
    assert desk.gaps


def test_records_trimmed_behind_an_iterator_are_a_gap() -> None:
    """What retention takes between two polls is told by the gap, before anything newer is read."""
    desk = Desk({"a": {}}, limits=replace(LIMITS, page_records_max=1))
    desk.stream.write("a", "1", "2", "3")

    async def script() -> None:
        desk.gate.clear()
        await desk.clock.until(lambda: desk.pages == [1])
        desk.stream.trim("a", through=2)
        desk.gate.set()
        await desk.clock.until(lambda: bool(desk.gaps))
        assert desk.sequences() == [1]
        await desk.clock.until(lambda: len(desk.taken) == 2)

    desk.run(script)
    assert desk.sequences() == [1, 3]
    assert desk.gaps == [("a", "trimmed: records may be lost after sequence 1")]


def test_a_shard_that_is_gone_is_a_gap_and_frees_its_children() -> None:
    """A shard unknown to the stream before it was read to its end was lost; the rest goes on."""
    desk = Desk({"a": {"b": {}}}, checkpoints={"a": After(1)})
    desk.stream.write("b", "1")
    desk.stream.delete("a")
    desk.run(lambda: desk.clock.until(lambda: bool(desk.taken)))
    assert desk.gaps == [("a", "shard gone: records may be lost after sequence 1")]
    assert desk.ended == ["a"]
    assert desk.sequences() == [1]


def test_a_shard_that_goes_after_its_end_is_no_gap() -> None:
    """What was read to its end may vanish."""
    desk = Desk({"a": {"b": {}}})

    async def script() -> None:
        await desk.clock.until(lambda: desk.ended == ["a"])
        desk.stream.delete("a")
        await desk.clock.sleep(60)

    desk.run(script)
    assert desk.gaps == []


@pytest.mark.parametrize("call", list(Call))
def test_what_may_pass_is_tried_until_it_does(call: Call) -> None:
    """Each failure is reported, the first success after them clears them, nothing is lost."""
    shard = None if call is Call.DESCRIBE else "a"
    desk = Desk({"a": {}})
    faults = [Throttled("slow down"), Transient("broken pipe")] * 15
    desk.stream.fail(call, *faults, shard=shard)
    desk.stream.write("a", "1", "2")
    desk.run(lambda: desk.clock.until(lambda: len(desk.taken) == 2))
    assert desk.errors == [(shard, fault) for fault in faults]
    assert desk.oks == [shard]
    assert desk.reader.failing == frozenset()
    assert desk.sequences() == [1, 2]


def test_the_backoff_grows_to_its_bound() -> None:
    """A source that stays away is asked less and less, but at least once in the bound."""
    desk = Desk({"a": {}})
    desk.stream.fail(Call.RECORDS, *[Transient("away")] * 10_000, shard="a")
    desk.run(lambda: desk.clock.sleep(1_000 * LIMITS.backoff_max_s))
    calls = desk.stream.calls[Call.RECORDS, "a"]
    assert calls == pytest.approx(2_000, rel=0.1)
    assert desk.reader.failing == {"a"}


def test_a_shard_that_fails_holds_no_other_up() -> None:
    """Throttles on one shard are that shard's own."""
    desk = Desk({"a": {}, "b": {}})
    desk.stream.fail(Call.RECORDS, *[Throttled("hot")] * 1000, shard="a")
    desk.stream.write("b", "1")
    desk.run(lambda: desk.clock.until(lambda: bool(desk.taken)))
    assert desk.clock.monotonic_s() < 1


@pytest.mark.parametrize("error", [Fatal("access denied"), KeyError("a bug")])
@pytest.mark.parametrize("call", list(Call))
def test_any_other_error_comes_out_of_run(call: Call, error: Exception) -> None:
    """Fatal or unknown, wherever it is raised: reported, then raised as it is, and all ends."""
    desk = Desk({"a": {}, "b": {}})
    shard = None if call is Call.DESCRIBE else "a"
    desk.stream.fail(call, error, shard=shard)
    with pytest.raises(type(error)) as caught:
        desk.clock.run(desk.reader.run(desk.stop))
    assert caught.value is error
    assert desk.errors == [(shard, error)]


def test_an_error_of_the_taker_comes_out_of_run() -> None:
    """A page that could not be taken is not passed over, even by an error that a call may have."""
    desk = Desk({"a": {}})
    desk.stream.write("a", "1")
    desk.refusal = ShardGone("of a target's stream")
    with pytest.raises(ShardGone, match="target"):
        desk.clock.run(desk.reader.run(desk.stop))
    assert desk.gaps == []


@pytest.mark.parametrize("call", list(Call))
def test_a_stop_cuts_a_hanging_call_short(call: Call) -> None:
    """A source that never answers does not keep the reader from ending at once."""
    desk = Desk({"a": {}})
    desk.stream.stall(call, None if call is Call.DESCRIBE else "a")
    desk.run(lambda: desk.clock.sleep(5))
    assert desk.clock.monotonic_s() == pytest.approx(5)


def test_a_stop_lets_a_page_be_taken_whole() -> None:
    """The page in hand at the stop is finished, and none is begun after it."""
    desk = Desk({"a": {}}, limits=replace(LIMITS, page_records_max=1))
    desk.stream.write("a", "1", "2")

    async def main() -> None:
        desk.gate.clear()
        run = asyncio.create_task(desk.reader.run(desk.stop))
        await desk.clock.until(lambda: desk.pages == [1])
        desk.stop.set()
        await desk.clock.sleep(30)
        assert not run.done()
        desk.gate.set()
        await run

    desk.clock.run(main())
    assert desk.sequences() == [1]
    assert desk.pages == [1]


def test_the_last_page_taken_during_a_stop_ends_its_shard() -> None:
    """A shard whose end was handed on is told as ended; its children are left to the next run."""
    desk = Desk({"a": {"b": {}}})
    desk.stream.write("a", "1")

    async def main() -> None:
        desk.gate.clear()
        run = asyncio.create_task(desk.reader.run(desk.stop))
        await desk.clock.until(lambda: desk.pages == [1])
        desk.stop.set()
        await desk.clock.sleep(1)
        desk.gate.set()
        await run

    desk.clock.run(main())
    assert desk.ended == ["a"]
    assert desk.stream.positions == [("a", TrimHorizon())]
    assert desk.stream.calls[Call.DESCRIBE, None] == 1


def test_a_broken_graph_is_reported_and_read() -> None:
    """Shards that descend from one another are all read, and the contradiction is told once."""
    desk = Desk({})
    desk.stream.place("a", parent="b")
    desk.stream.place("b", parent="a")
    for shard in "ab":
        desk.stream.write(shard, "1")
        desk.stream.close(shard)

    async def script() -> None:
        await desk.clock.until(lambda: len(desk.ended) == 2)
        await desk.clock.sleep(60)

    desk.run(script)
    assert desk.anomalies == [Anomaly(kind=AnomalyKind.RING, shard="b", parent="a")]


def test_the_last_poll_is_that_of_the_shard_that_is_furthest_behind() -> None:
    """One shard that cannot be read makes the lag unknown, although the others are."""
    desk = Desk({"a": {}, "b": {}})
    assert desk.reader.last_poll_s is None

    async def script() -> None:
        await desk.clock.sleep(100)
        assert desk.unknown_s <= LIMITS.describe_interval_s
        stalled = desk.stream.stall(Call.RECORDS, "a")
        await desk.clock.sleep(100)
        assert desk.unknown_s >= 99
        stalled.set()
        await desk.clock.sleep(10)
        assert desk.unknown_s <= LIMITS.describe_interval_s

    desk.run(script)


def test_a_shard_that_is_held_back_or_has_ended_makes_nothing_unknown() -> None:
    """A page in hand is backlog, and an ended shard has nothing more: the source can be read."""
    desk = Desk({"a": {"b": {}}})
    desk.stream.write("a", "1")

    async def script() -> None:
        desk.gate.clear()
        await desk.clock.sleep(100)
        assert desk.unknown_s <= LIMITS.describe_interval_s
        desk.gate.set()
        await desk.clock.sleep(100)
        assert desk.ended == ["a"]
        assert desk.unknown_s <= LIMITS.describe_interval_s

    desk.run(script)


def test_a_shard_that_goes_while_it_fails_is_failing_no_longer() -> None:
    """The end of a shard clears what was reported of it."""
    desk = Desk({"a": {}})

    async def script() -> None:
        await desk.clock.until(lambda: desk.reader.open_shards == 1)
        desk.stream.fail(Call.RECORDS, IteratorExpired("old"), shard="a")
        await desk.clock.until(lambda: desk.reader.failing == {"a"})
        desk.stream.delete("a")
        await desk.clock.until(lambda: desk.ended == ["a"])
        assert desk.reader.failing == frozenset()

    desk.run(script)
    assert desk.oks == ["a"]


def test_shards_are_counted() -> None:
    """Open and finished shards can be told at any time."""
    desk = Desk({"a": {"b": {}, "c": {}}})
    desk.run(lambda: desk.clock.until(lambda: desk.reader.open_shards == 2))
    assert desk.reader.finished_shards == 1


def family(rng: Random, size: int) -> dict[str, str | None]:
    """A random forest: each shard's parent."""
    parents: dict[str, str | None] = {}
    for n in range(size):
        parents[f"{n}"] = rng.choice([None, *parents])
    return parents


def trouble(stream: ScriptedStream, rng: Random, parents: Mapping[str, str | None]) -> None:
    """Build the shards, put records in each, and script wrong answers of every kind."""
    for shard, parent in parents.items():
        stream.place(shard, parent=parent)
        stream.write(shard, *map(str, range(rng.randint(0, 4))))
        stream.empty_pages(shard, rng.choice([0, 0, 3]))
        stream.fail(Call.RECORDS, *[IteratorExpired("old")] * rng.choice([0, 0, 1]), shard=shard)
        stream.fail(Call.RECORDS, *[Throttled("hot")] * rng.choice([0, 0, 2]), shard=shard)
        stream.fail(Call.ITERATOR, *[Transient("reset")] * rng.choice([0, 0, 2]), shard=shard)
    for shard in parents:
        stream.close(shard)
    leaves = set(parents) - set(parents.values())
    for shard in sorted(leaves):
        stream.hide(shard, descriptions=rng.randint(0, 4))
    stream.fail(Call.DESCRIBE, *[Transient("away")] * rng.choice([0, 2]))
    stream.arrange = lambda listed: rng.sample(listed, len(listed))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 9))
def test_every_record_is_handed_on_once_and_after_its_parents(seed: int, size: int) -> None:
    """Through random forests, orders, delays and faults: nothing lost, repeated or out of order."""
    rng = Random(seed)
    parents = family(rng, size)
    desk = Desk({}, limits=replace(LIMITS, page_records_max=rng.randint(1, 4)), seed=seed)
    trouble(desk.stream, rng, parents)
    desk.run(lambda: desk.clock.until(lambda: len(desk.ended) == size))
    assert sorted(desk.ended) == sorted(parents)
    for shard, parent in parents.items():
        own = [at for at, (of, _) in enumerate(desk.taken) if of == shard]
        above = [at for at, (of, _) in enumerate(desk.taken) if of == parent]
        assert [desk.taken[at][1] for at in own] == desk.stream.sequences(shard)
        assert not own or not above or above[-1] < own[0]
    assert desk.gaps == []
    assert desk.anomalies == []
