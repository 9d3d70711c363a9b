"""Running steps against regions: bounds, retries, restarts; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from conflict.merge import Contended, Steps
from conflict.operations import (
    Absent,
    Get,
    Item,
    Key,
    KeyState,
    Older,
    Outcome,
    Put,
    ReadState,
    Release,
)
from conflict.version import Kind
from replicator.errors import Fatal, Poison, Throttled, Transient
from replicator.writer import WriterLimits, first_of
from support.clock import VirtualClock
from support.scenes import KEY, at, item
from support.writers import CONCURRENCY, LIMITS, Task, V, WriterBench, key

# --- one region ---------------------------------------------------------------------------------


def test_calls_to_a_region_are_bounded() -> None:
    """However many tasks there are, only so many writes are under way."""
    bench = WriterBench()

    def work(number: int) -> Task:
        return Task(lambda: iter_put(key(number)))

    def iter_put(place: Key) -> Steps[None]:
        yield Put("eu", place, item("new", V), Older(V))

    async def main() -> None:
        await asyncio.gather(*(bench.writer.run(work(number)) for number in range(50)))

    bench.run(main())
    assert bench.ports.under_way_max == CONCURRENCY
    assert len(bench.ports.writes) == 50


def test_every_operation_reaches_its_port() -> None:
    """Reads are answered with what stands, the others by name."""
    bench = WriterBench()
    bench.region.write(KEY, item("old", at(1)))

    def steps() -> Steps[tuple[Any, Any, Any]]:
        standing = yield Get("eu", KEY)
        state = yield ReadState("eu", KEY)
        nothing = yield Release("eu", KEY, 7)
        return standing, state, nothing

    assert bench.run(bench.writer.run(Task(steps))) == (item("old", at(1)), KeyState(), None)
    assert bench.ports.calls == ["get", "read", "release"]


def test_what_a_region_answers_is_judged_when_it_is_answered() -> None:
    """A read and the refusal of a write alike; what was doubted is believed when its time comes."""
    bench = WriterBench()
    ahead_us = bench.clock.now_us() + bench.bound_us + 5_000_000
    bench.region.write(KEY, item("old", at(ahead_us, kind=Kind.APPLICATION)))

    def steps() -> Steps[tuple[bool, bool]]:
        standing: Item = yield Get("eu", KEY)
        refused: Outcome = yield Put("eu", KEY, item("new", V), Absent())
        assert refused.item is not None
        return standing.doubted, refused.item.doubted

    async def main() -> None:
        assert await bench.writer.run(Task(steps)) == (True, True)
        await bench.clock.sleep(5.0)
        assert await bench.writer.run(Task(steps)) == (False, False)

    bench.run(main())


# --- what may pass ------------------------------------------------------------------------------


def test_a_call_is_really_made_again_until_it_is_answered() -> None:
    """What may pass is tried as often as it takes, and every failure is reported."""
    bench = WriterBench()
    bench.region.write(KEY, item("old", at(1)))
    errors = [Transient(str(number)) for number in range(30)]
    bench.ports.fail("put", *errors)
    bench.run(bench.deliver())
    assert bench.ports.calls == ["put"] * 31
    assert bench.region.items[KEY.id] == item("new", V)
    assert bench.failures == errors
    assert bench.recoveries == 1


def test_a_call_whose_answer_was_lost_is_made_again() -> None:
    """It took effect, which the second call finds out: a duplicate."""
    bench = WriterBench()
    bench.region.write(KEY, item("old", at(1)))
    bench.ports.lose_answer("put", Transient("connection closed"))
    delivery = bench.run(bench.deliver())
    assert delivery.effect.value == "duplicate"
    assert bench.region.stream.written == 2


@pytest.mark.parametrize("call", ["get", "read"])
def test_a_read_that_failed_is_asked_for_again(call: str) -> None:
    """Each reader asks anew, and they share a batch again."""
    bench = WriterBench()
    bench.ports.fail(call, Transient("lost"), Throttled("slower"))

    def steps() -> Steps[object]:
        operation = Get("eu", KEY) if call == "get" else ReadState("eu", KEY)
        return (yield operation)

    bench.run(bench.writer.run(Task(steps)))
    assert bench.ports.calls == [call] * 3


def test_a_pause_that_the_service_asked_for_is_kept() -> None:
    """Healing does not cut it short."""
    bench = WriterBench(limits=WriterLimits(backoff_base_s=1_000.0, backoff_max_s=1_000.0))
    answers: Iterator[Exception | None] = iter([Throttled("slower"), None, None])

    async def call() -> float:
        error = next(answers)
        if error is not None:
            raise error
        return bench.clock.monotonic_s()

    async def main() -> float:
        waiting = asyncio.ensure_future(bench.writer.patiently("eu", call))
        await bench.clock.sleep(1.0)
        await bench.writer.patiently("eu", call)
        return await waiting

    assert bench.run(main()) > 1.0


@pytest.mark.parametrize("error", [Fatal("refused"), Poison("too large"), ValueError("bug")])
def test_patience_is_only_for_what_may_pass(error: Exception) -> None:
    """Anything else is raised as it is."""
    bench = WriterBench()

    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        bench.run(bench.writer.patiently("eu", call))
    assert bench.failures == []


# --- what does not pass -------------------------------------------------------------------------


def test_poison_comes_out_at_once() -> None:
    """The caller parks the change."""
    bench = WriterBench()
    bench.region.write(KEY, item("old", at(1)))
    bench.ports.fail("put", Poison("too large"))
    with pytest.raises(Poison):
        bench.run(bench.deliver())
    assert bench.ports.calls == ["put"]


@pytest.mark.parametrize("error", [Fatal("access denied"), RuntimeError("a bug")])
def test_anything_else_begins_the_task_anew_after_a_pause(error: Exception) -> None:
    """Loudly, from its first operation, for as long as it takes."""
    bench = WriterBench()
    begun: list[float] = []
    bench.ports.fail("put", *[error] * 12)

    def steps() -> Steps[str]:
        begun.append(bench.clock.monotonic_s())
        yield Get("eu", KEY)
        yield Put("eu", KEY, item("new", V), Older(V))
        return "done"

    assert bench.run(bench.writer.run(Task(steps))) == "done"
    assert bench.ports.calls == ["get", "put"] * 13
    assert bench.troubles == [error] * 12
    assert bench.stuck_tasks == 0
    assert bench.failures == []
    pauses = [later - earlier for earlier, later in pairwise(begun)]
    assert max(pauses) <= LIMITS.restart_max_s + 1.0
    assert sum(pauses) > LIMITS.restart_base_s


def test_a_contended_key_is_begun_anew() -> None:
    """No call failed, but sixty lost races in a row are worth telling."""
    bench = WriterBench()
    rounds = iter([True, True, False])

    def steps() -> Steps[str]:
        yield Get("eu", KEY)
        if next(rounds):
            raise Contended
        return "done"

    assert bench.run(bench.writer.run(Task(steps))) == "done"
    assert bench.failures == []
    assert [type(error) for error in bench.troubles] == [Contended] * 2
    assert bench.ports.calls == ["get"] * 3


def test_a_task_is_told_as_stuck_from_its_first_failure_to_its_end() -> None:
    """Whether it ends well or is parked, and as one task however often it fails."""
    bench = WriterBench()
    seen: list[int] = []
    answers: Iterator[Exception | None] = iter([Fatal("no"), Fatal("no"), None])

    def steps() -> Steps[None]:
        seen.append(bench.stuck_tasks)
        yield Get("eu", KEY)
        error = next(answers, Poison("too large"))
        if error is not None:
            raise error

    bench.run(bench.writer.run(Task(steps)))
    answers = iter([Fatal("no")])
    with pytest.raises(Poison):
        bench.run(bench.writer.run(Task(steps)))
    assert seen == [0, 1, 1, 0, 1]
    assert bench.stuck_tasks == 0


@pytest.mark.parametrize("failures", [1, 2, 5])
def test_a_stuck_task_that_is_cancelled_is_stuck_no_more(failures: int) -> None:
    """A session that ends drops its tasks, and what it told of them must not outlive it."""
    bench = WriterBench()
    bench.ports.fail_always("get", Fatal("access denied"))

    def steps() -> Steps[None]:
        yield Get("eu", KEY)

    async def main() -> None:
        task = asyncio.ensure_future(bench.writer.run(Task(steps)))
        await bench.clock.until(lambda: len(bench.troubles) == failures, step_s=0.0005)
        assert bench.stuck_tasks == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.stuck_tasks == 0

    bench.run(main())


@pytest.mark.parametrize("when_s", [0.0005, 0.5, 40.0])
@pytest.mark.parametrize("error", [None, Transient("down"), Throttled("slower"), Fatal("no")])
def test_a_task_can_be_cancelled_at_any_time(error: Exception | None, when_s: float) -> None:
    """In a call, in a pause, between two starts: it ends at once, and nothing is left running."""
    bench = WriterBench(call_s=100.0 if error is None else 0.001)
    bench.region.write(KEY, item("old", at(1)))
    bench.ports.fail_always("put", error)

    async def main() -> None:
        task = asyncio.ensure_future(bench.deliver())
        await bench.clock.sleep(when_s)
        cancelled_s = bench.clock.monotonic_s()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.clock.monotonic_s() == cancelled_s
        calls = len(bench.ports.calls)
        await bench.clock.sleep(1_000.0)
        assert len(bench.ports.calls) == calls
        assert bench.ports.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    bench.run(main())


def test_a_cancelled_read_leaves_no_task_waiting() -> None:
    """The batch that was under way is answered to nobody."""
    bench = WriterBench(call_s=1.0)

    def steps() -> Steps[object]:
        return (yield Get("eu", KEY))

    async def main() -> None:
        task = asyncio.ensure_future(bench.writer.run(Task(steps)))
        await bench.clock.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bench.clock.sleep(10.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    bench.run(main())


def test_the_first_of_several_ends_the_others() -> None:
    """What lost the race is dropped, also when the waiting itself is cancelled."""
    clock = VirtualClock()

    async def main() -> None:
        await first_of(clock.sleep(5.0), clock.sleep(1.0))
        assert clock.monotonic_s() == 1.0
        waiting = asyncio.ensure_future(first_of(clock.sleep(50.0)))
        await clock.sleep(1.0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await clock.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    clock.run(main())
