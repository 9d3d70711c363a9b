"""How fast a table is written to: never above its rate, less when it throttles; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from conflict.operations import Delete, Holds, Item, Key, Older, Put, Stamp
from replicator.errors import Throttled
from replicator.pace import Pace, PacedTable, Paces
from support.adapters import MemoryPorts
from support.clock import VirtualClock
from support.memory import MemoryRegion
from support.writers import V

WORKERS = 50


class Provisioned(MemoryPorts):
    """A table that takes so many puts a second and throttles the rest."""

    def __init__(self, clock: VirtualClock, capacity: int) -> None:
        super().__init__(MemoryRegion("eu"), sleep=clock.sleep)
        self.clock, self.capacity = clock, capacity
        self.taken: dict[int, int] = {}
        self.refused = 0

    async def put(self, operation: Put):  # type: ignore[no-untyped-def]  # as MemoryPorts.put
        """Take a put if this second has room."""
        second = int(self.clock.monotonic_s())
        if self.taken.get(second, 0) >= self.capacity:
            self.refused += 1
            raise Throttled("slower")
        self.taken[second] = self.taken.get(second, 0) + 1
        return await super().put(operation)


def put(number: int, body: str = "x") -> Put:
    """A put of one of many keys."""
    key = Key({"id": {"S": str(number)}}, str(number))
    item = Item({**key.attributes, "body": {"S": body}}, None).stamped(V)
    return Put("eu", key, item, Older(V))


def drained(clock: VirtualClock, table: PacedTable, seconds: float) -> int:
    """Write as fast as it goes for some seconds; returns how many went through."""
    done = 0

    async def worker(offset: int) -> None:
        nonlocal done
        number = offset
        while clock.monotonic_s() < seconds:
            number += WORKERS
            try:
                await table.put(put(number))
                done += 1
            except Throttled:
                await clock.sleep(0.05)

    async def main() -> None:
        await asyncio.gather(*(worker(offset) for offset in range(WORKERS)))

    clock.run(main(), limit_s=10 * seconds)
    return done


def test_a_configured_rate_is_kept() -> None:
    """However much waits; one second's worth may be saved up."""
    clock = VirtualClock()
    pace = Pace(100.0, clock=clock, sleep=clock.sleep)
    table = Provisioned(clock, 10**9)
    done = drained(clock, PacedTable(table, pace), 20.0)
    assert 1_900 <= done <= 2_200


def test_a_large_item_costs_its_units() -> None:
    """A rate is in write units, of a kilobyte each."""
    clock = VirtualClock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep)
    table = PacedTable(Provisioned(clock, 10**9), pace)

    async def main() -> None:
        for number in range(10):
            await table.put(put(number, "x" * 10_000))

    clock.run(main())
    assert clock.monotonic_s() == pytest.approx(10 * 1.0, abs=1.2)


@pytest.mark.parametrize("kind", ["stamp", "put", "delete"])
def test_what_a_write_is_seen_to_have_met_is_paid_for(kind: str) -> None:
    """A stamp, and what is refused, cost by the item that stands: ten kilobytes here."""
    clock = VirtualClock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep)
    memory = Provisioned(clock, 10**9)
    table = PacedTable(memory, pace)

    async def main() -> None:
        for number in range(10):
            large = put(number, "x" * 10_000)
            memory.region.items[large.key.id] = large.item
            if kind == "stamp":
                await table.stamp(Stamp("eu", large.key, V, Holds(large.item.marker)))
            elif kind == "put":
                await table.put(put(number))
            else:
                await table.delete(Delete("eu", large.key, Holds(None)))

    clock.run(main())
    assert clock.monotonic_s() == pytest.approx(9 * 1.0, abs=1.2)


@pytest.mark.parametrize("capacity", [20, 200])
def test_a_throttled_table_gets_about_what_it_takes(capacity: int) -> None:
    """Most of its capacity is used, and few calls are refused."""
    clock = VirtualClock()
    pace = Pace(None, clock=clock, sleep=clock.sleep)
    table = Provisioned(clock, capacity)
    done = drained(clock, PacedTable(table, pace), 120.0)
    assert 0.5 * capacity * 120 < done <= capacity * 121
    assert table.refused < 0.25 * done


def test_without_it_most_calls_are_refused() -> None:
    """The measure of the test before: the same load without a pace."""
    clock = VirtualClock()
    table = Provisioned(clock, 20)
    done = drained(clock, table, 120.0)  # type: ignore[arg-type]
    assert table.refused > 5 * done


def test_a_table_that_takes_more_again_gets_more() -> None:
    """In the end the pace is no bound at all."""
    clock = VirtualClock()
    pace = Pace(None, clock=clock, sleep=clock.sleep)
    table = Provisioned(clock, 20)
    drained(clock, PacedTable(table, pace), 30.0)
    assert pace.limit is not None
    table.capacity = 10**9

    async def quiet() -> None:
        for _ in range(120):
            await clock.sleep(1.0)
            await pace.take(1)
            pace.passed(1)

    clock.run(quiet())
    assert pace.limit is None


async def passing(pace: Pace, clock: VirtualClock, per_s: int, seconds: float) -> None:
    """So many units a second go through, for so long."""
    for _ in range(round(per_s * seconds)):
        pace.passed(1)
        await clock.sleep(1 / per_s)


@pytest.mark.parametrize("rate", [None, 400.0, 10_000.0])
@pytest.mark.parametrize("quiet_s", [0.0, 3_600.0])
def test_a_throttle_halves_what_has_just_gone_through(rate: float | None, quiet_s: float) -> None:
    """However quiet it was before: a pace that follows an hour's average never gets up again."""
    clock = VirtualClock()
    pace = Pace(rate, clock=clock, sleep=clock.sleep)

    async def main() -> None:
        await clock.sleep(quiet_s)
        await passing(pace, clock, per_s=500, seconds=2.0)
        pace.throttled()

    clock.run(main(), limit_s=4_000.0)
    assert pace.limit == pytest.approx(200.0 if rate == 400.0 else 250.0, rel=0.02)


@pytest.mark.parametrize("quiet_s", [0.0, 3_600.0])
def test_a_throttle_within_the_first_second_halves_what_went_through_in_it(quiet_s: float) -> None:
    """Less than a second counts as one: what a moment let pass is no pace yet."""
    clock = VirtualClock()
    pace = Pace(None, clock=clock, sleep=clock.sleep)

    async def main() -> None:
        await clock.sleep(quiet_s)
        await passing(pace, clock, per_s=500, seconds=0.4)
        pace.throttled()

    clock.run(main(), limit_s=4_000.0)
    assert pace.limit == pytest.approx(100.0)


def test_a_throttle_right_after_a_second_has_ended_knows_what_went_through_in_it() -> None:
    """The count of a second does not begin at nothing: the one before it is counted, too."""
    clock = VirtualClock()
    pace = Pace(None, clock=clock, sleep=clock.sleep)

    async def main() -> None:
        await passing(pace, clock, per_s=500, seconds=1.0)
        pace.throttled()
        await passing(pace, clock, per_s=250, seconds=1.1)
        await pace.take(1)
        pace.throttled()

    clock.run(main())
    assert pace.limit == pytest.approx(125.0, rel=0.05)


def test_tables_do_not_share_a_pace_and_pipelines_do() -> None:
    """What one table throttles costs no other; what two pipelines write to one adds up."""
    clock = VirtualClock()
    paces = Paces(rates={"orders": 5.0}, clock=clock, sleep=clock.sleep)
    assert paces.of("orders", "eu") is paces.of("orders", "eu")
    assert paces.of("orders", "eu") is not paces.of("orders", "ap")
    assert paces.of("ledger", "eu").limit is None
    paces.of("ledger", "eu").throttled()
    assert paces.of("orders", "eu").limit == 5.0
