"""The benchmark of browsers: it runs, with browsers that look and one that does not read."""

from __future__ import annotations

import asyncio

import pytest

from bench.sse import GOAL, Meter, is_met, measure, medians


def test_both_sides_are_measured() -> None:
    """Each replicates every record; what goes to the page is a part of the CPU, never all of it.

    It ends only after the page has dropped the browser that does not read.
    """
    found = measure(records=300, clients=3)
    assert min(found["alone_us"], found["seen_us"]) > 0
    assert 0 <= found["share"] < 1


@pytest.mark.parametrize(
    ("shares", "less", "expected"),
    [
        ((0.01, 0.02, 0.9), (-0.5, 0.01, 0.5), True),
        ((0.01, GOAL, 0.9), (-0.5, 0.01, 0.5), False),
        ((0.01, 0.02, 0.9), (-0.5, GOAL, 0.5), False),
    ],
)
def test_both_figures_are_judged(
    shares: tuple[float, ...], less: tuple[float, ...], expected: bool
) -> None:
    """What the meter says and what was replicated, each by its median."""
    pairs = zip(shares, less, strict=True)
    rounds = [{"share": share, "less_by_cpu": by_cpu} for share, by_cpu in pairs]
    assert is_met(medians(rounds)) is expected


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
