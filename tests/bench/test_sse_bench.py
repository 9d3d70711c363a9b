"""The benchmark of browsers: it runs, with browsers that look and one that does not read."""

from __future__ import annotations

import asyncio

from bench.sse import Meter, measure


def test_both_sides_are_measured() -> None:
    """Each replicates every record; what goes to the page is a part of the CPU, never all of it."""
    found = measure(records=300, clients=3)
    assert min(found["alone_us"], found["seen_us"]) > 0
    assert 0 <= found["share"] < 1


def test_waiting_is_not_metered() -> None:
    """Only steps count: a coroutine that sleeps takes next to nothing, one that works does."""

    async def work(turns: int) -> None:
        for _ in range(3):
            sum(range(turns))
            await asyncio.sleep(0.01)

    def spent(turns: int) -> float:
        meter = Meter()

        async def main() -> None:
            await meter.steps(work(turns))

        asyncio.run(main())
        return meter.spent_s

    assert 0 < spent(1) < spent(300_000)
