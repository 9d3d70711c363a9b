"""The bound on units per second holds, whoever takes them, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from replicator.rate import GRANT_S, Allowance, Bucket, hand_out
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


class Queue:
    """What holds one grant, on its way to whoever asks first."""

    def __init__(self) -> None:
        self._grants: asyncio.Queue[float] = asyncio.Queue(maxsize=1)
        self.given = 0.0

    async def give(self, grant: float) -> None:
        await self._grants.put(grant)
        self.given += grant

    async def fetch(self) -> float:
        return await self._grants.get()


def test_many_processes_share_one_rate_and_what_a_dead_one_leaves() -> None:
    """Five spend the rate between them; once three have died, the two who are left spend it."""
    clock, queue, rate = VirtualClock(), Queue(), 100.0
    spent: list[tuple[float, int]] = []

    async def spend(worker: int) -> None:
        allowance = Allowance(queue.fetch)
        while True:
            await allowance.take(1.0)
            spent.append((clock.monotonic_s(), worker))

    async def main() -> None:
        giving = asyncio.create_task(hand_out(rate, queue.give, bucket(rate, clock)))
        workers = [asyncio.create_task(spend(number)) for number in range(5)]
        await clock.sleep(30.0)
        for worker in workers[:3]:
            worker.cancel()
        await clock.sleep(30.0)
        for task in (giving, *workers):
            task.cancel()

    clock.run(main())
    for start_s in range(5, 60, 5):
        within = [worker for at_s, worker in spent if start_s <= at_s < start_s + 5]
        assert len(within) == pytest.approx(5 * rate, abs=8 * rate * GRANT_S)
        assert set(within) == ({0, 1, 2, 3, 4} if start_s < 30 else {3, 4})
    assert queue.given - len(spent) <= 6 * rate * GRANT_S


def test_an_allowance_is_spent_in_the_order_of_arrival() -> None:
    """What is larger than a grant waits for several, and is not overtaken."""
    clock, queue = VirtualClock(), Queue()
    done: list[str] = []

    async def main() -> None:
        allowance = Allowance(queue.fetch)

        async def take(name: str, units: float) -> None:
            await allowance.take(units)
            done.append(name)

        taking = [asyncio.create_task(take(*each)) for each in (("large", 12.0), ("small", 1.0))]
        for grants in range(1, 4):
            await queue.give(4.5)
            await clock.sleep(0.001)
            assert done == ([] if grants < 3 else ["large", "small"])
        await asyncio.gather(*taking)

    clock.run(main())
