"""The bound on units per second holds, whoever takes them, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from replicator.backfill.rate import Bucket
from support.clock import VirtualClock


def bucket(rate: float | None, clock: VirtualClock) -> Bucket:
    """A bucket in virtual time."""
    return Bucket(rate, monotonic_s=clock.monotonic_s, sleep=clock.sleep)


@pytest.mark.parametrize("rate", [1.0, 40.0, 2_500.0])
def test_the_rate_holds_over_many_takers(rate: float) -> None:
    """In no second after the first do they get more than the rate, however many ask at once."""
    clock = VirtualClock()
    taken: list[tuple[float, float]] = []

    async def main() -> None:
        shared = bucket(rate, clock)

        async def take() -> None:
            for units in (1.0, 3.0, 0.5, 7.0):
                await shared.take(units)
                taken.append((clock.monotonic_s(), units))

        await asyncio.gather(*(take() for _ in range(20)))

    clock.run(main())
    total = sum(units for _, units in taken)
    assert total == 20 * 11.5
    for start_s, _ in taken:
        within = sum(units for at_s, units in taken if start_s < at_s <= start_s + 1.0)
        assert within <= rate + 7.0
    assert clock.monotonic_s() >= total / rate - 1.0


def test_what_is_larger_than_the_bucket_passes() -> None:
    """An item of 400 units at 10 a second takes 40 seconds, and the next one waits."""
    clock = VirtualClock()

    async def main() -> None:
        shared = bucket(10.0, clock)
        await shared.take(400)
        await shared.take(10)

    clock.run(main())
    assert clock.monotonic_s() == pytest.approx(41.0, abs=1.01)


def test_little_is_saved_up() -> None:
    """After an hour of rest a second's worth goes at once, and not an hour's."""
    clock = VirtualClock()

    async def main() -> float:
        shared = bucket(10.0, clock)
        await clock.sleep(3_600)
        before_s = clock.monotonic_s()
        for _ in range(100):
            await shared.take(1)
        return clock.monotonic_s() - before_s

    assert clock.run(main()) == pytest.approx(9.0)


def test_without_a_rate_nothing_waits() -> None:
    """No bound is no bound."""
    clock = VirtualClock()
    clock.run(bucket(None, clock).take(10**9))
    assert clock.monotonic_s() == 0
