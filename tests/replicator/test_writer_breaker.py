"""What a region that is down costs, and how it is found again; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from conflict.merge import Steps
from conflict.operations import Older, Put
from replicator.errors import Throttled, Transient
from replicator.writer import BREAK_AFTER, PROBE_S_MAX, WriterLimits
from support.scenes import KEY, at, item
from support.writers import CONCURRENCY, LIMITS, Task, V, WriterBench, key

HOUR_S = 3_600.0
WAITING = 200
"""Changes that wait for the region."""


def put(number: int) -> Task:
    """A change of its own key."""

    def steps() -> Steps[None]:
        yield Put("eu", key(number), item("new", V), Older(V))

    return Task(steps)


def test_one_call_is_made_again_with_growing_pauses_up_to_a_bound() -> None:
    """An outage of an hour costs calls by the bound, not by the base."""
    bench = WriterBench()
    bench.ports.fail_always("put", Transient("down"))

    async def main() -> None:
        task = asyncio.ensure_future(bench.deliver())
        await bench.clock.sleep(HOUR_S)
        bench.ports.fail_always("put", None)
        await task

    bench.run(main(), limit_s=2 * HOUR_S)
    assert HOUR_S / PROBE_S_MAX < len(bench.ports.calls) < 4 * HOUR_S / PROBE_S_MAX


def test_pauses_that_the_service_asked_for_grow_up_to_their_bound() -> None:
    """A throttled table is not broken: each call keeps its own distance."""
    bench = WriterBench()
    bench.ports.fail_always("put", Throttled("slower"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(bench.writer.run(put(n))) for n in range(10)]
        await bench.clock.sleep(HOUR_S)
        bench.ports.fail_always("put", None)
        await asyncio.gather(*tasks)

    bench.run(main(), limit_s=2 * HOUR_S)
    each = HOUR_S / LIMITS.backoff_max_s
    assert 10 * each < len(bench.ports.calls) < 40 * each


def test_a_dead_region_costs_one_call_now_and_then_however_much_waits() -> None:
    """Besides those that were under way when it broke."""
    bench = WriterBench()
    bench.ports.fail_always("put", Transient("down"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(bench.writer.run(put(n))) for n in range(WAITING)]
        await bench.clock.sleep(10.0)
        calls = len(bench.ports.calls)
        bench.ports.under_way_max = 0
        await bench.clock.sleep(HOUR_S)
        assert HOUR_S / PROBE_S_MAX < len(bench.ports.calls) - calls < 4 * HOUR_S / PROBE_S_MAX
        assert bench.ports.under_way_max == 1
        bench.ports.fail_always("put", None)
        await asyncio.gather(*tasks)

    bench.run(main(), limit_s=2 * HOUR_S)


def test_what_waits_for_a_dead_region_has_not_called_it_yet() -> None:
    """Of many changes that come at once, those beyond the bound stand behind those that failed."""
    bench = WriterBench()
    bench.ports.fail_always("put", Transient("down"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(bench.writer.run(put(n))) for n in range(WAITING)]
        await bench.clock.until(lambda: len(bench.failures) >= BREAK_AFTER)
        await bench.clock.sleep(0.1)
        assert len(bench.ports.calls) < BREAK_AFTER + 2 * CONCURRENCY
        bench.ports.fail_always("put", None)
        await asyncio.gather(*tasks)

    bench.run(main())


def test_one_call_at_a_time_tries_a_region_whose_calls_hang() -> None:
    """A call that takes as long as its timeout holds the turn until it has failed."""
    bench = WriterBench()
    bench.ports.fail_always("put", Transient("timed out"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(bench.writer.run(put(n))) for n in range(WAITING)]
        await bench.clock.sleep(10.0)
        bench.ports.call_s = 15.0
        bench.ports.under_way_max = 0
        await bench.clock.sleep(300.0)
        assert bench.ports.under_way_max == 1
        bench.ports.fail_always("put", None)
        await asyncio.gather(*tasks)

    bench.run(main())


def test_the_first_success_opens_the_region_for_all() -> None:
    """A healed region catches up at once, at its full width."""
    bench = WriterBench()
    bench.ports.fail_always("put", Transient("down"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(bench.writer.run(put(n))) for n in range(WAITING)]
        await bench.clock.sleep(600.0)
        bench.ports.fail_always("put", None)
        bench.ports.under_way_max = 0
        healed_s = bench.clock.monotonic_s()
        await asyncio.gather(*tasks)
        assert bench.clock.monotonic_s() - healed_s < PROBE_S_MAX + 1.0
        assert bench.ports.under_way_max == CONCURRENCY

    bench.run(main())


def test_an_answer_to_anybody_ends_the_wait_of_who_is_next_to_try() -> None:
    """What was under way when the region broke may be answered first."""
    bench = WriterBench(limits=WriterLimits(backoff_base_s=1_000.0))
    answers: Iterator[Exception | None] = chain(
        repeat(Transient("down"), BREAK_AFTER), repeat(None)
    )

    async def call() -> float:
        error = next(answers)
        if error is not None:
            raise error
        return bench.clock.monotonic_s()

    async def slow() -> None:
        await bench.clock.sleep(0.001)

    async def main() -> list[float]:
        answered = asyncio.ensure_future(bench.writer.patiently("eu", slow))
        failing = [
            asyncio.ensure_future(bench.writer.patiently("eu", call)) for _ in range(BREAK_AFTER)
        ]
        late = asyncio.ensure_future(bench.writer.patiently("eu", call))
        await answered
        found_s = await late
        for task in failing:
            task.cancel()
        return [found_s]

    assert bench.run(main()) == [0.001]


def test_failures_that_are_not_in_a_row_break_nothing() -> None:
    """An answer in between is the sign that the region is there."""
    bench = WriterBench()
    errors = [Transient("lost")] * (BREAK_AFTER - 1)

    async def main() -> None:
        for number in range(20):
            bench.ports.fail("put", *errors)
            await bench.writer.run(put(number))
        bench.ports.fail("put", *errors)
        bench.ports.under_way_max = 0
        await asyncio.gather(*(bench.writer.run(put(100 + n)) for n in range(WAITING)))
        assert bench.ports.under_way_max == CONCURRENCY

    bench.run(main())


@pytest.mark.parametrize("when_s", [100.0, 100.3])
def test_one_who_is_cancelled_in_its_turn_hands_it_on(when_s: float) -> None:
    """The others still find the region again."""
    bench = WriterBench()
    bench.region.write(KEY, item("old", at(1)))
    bench.ports.fail_always("put", Transient("down"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(bench.writer.run(put(n))) for n in range(20)]
        await bench.clock.sleep(when_s)
        for task in tasks[:19]:
            task.cancel()
        bench.ports.fail_always("put", None)
        await tasks[19]
        assert bench.ports.under_way == 0

    bench.run(main())
