"""Gathering reads of single keys into batches; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest

from conflict.operations import Item, Key
from replicator.batch_reader import READ_BATCHES_IN_FLIGHT, BatchReader
from replicator.errors import Poison, Transient
from replicator.ports import READ_BATCH_MAX
from support.clock import VirtualClock
from support.writers import WriterBench, key


class Reading:
    """A batch read that takes a second, and what it was asked."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.batches: list[list[str]] = []
        self.reader: BatchReader[str] = BatchReader(self.read)

    async def read(self, keys: Any) -> list[str]:
        """Answer with the time at which the batch was asked for."""
        self.batches.append([each.id for each in keys])
        asked_s = self.clock.monotonic_s()
        await self.clock.sleep(1.0)
        return [f"{each.id}@{asked_s:g}" for each in keys]


def test_reads_that_are_asked_for_together_go_in_batches_of_at_most_a_hundred() -> None:
    """Each key once, in the order of asking, and everybody gets the answer to the own key."""
    clock = VirtualClock()

    async def main() -> list[str]:
        reading = Reading(clock)
        numbers = [*range(250), 0, 0, 249]
        answers = await asyncio.gather(*(reading.reader.get(key(n)) for n in numbers))
        assert [*chain.from_iterable(reading.batches)] == [str(n) for n in range(250)]
        assert all(len(batch) <= READ_BATCH_MAX for batch in reading.batches)
        assert [answer.partition("@")[0] for answer in answers] == [str(n) for n in numbers]
        return answers

    answers = clock.run(main())
    assert answers[0] == answers[250] == answers[251]


def test_a_key_asked_for_while_it_is_read_is_read_again() -> None:
    """An answer is never older than the question."""
    clock = VirtualClock()

    async def main() -> None:
        reading = Reading(clock)
        first = asyncio.ensure_future(reading.reader.get(key(1)))
        await clock.sleep(0.5)
        second = asyncio.ensure_future(reading.reader.get(key(1)))
        assert [await first, await second] == ["1@0", "1@0.5"]

    clock.run(main())


def test_what_is_asked_for_while_all_batches_are_under_way_is_gathered_behind_them() -> None:
    """Batches grow with the load."""
    clock = VirtualClock()

    async def main() -> None:
        reading = Reading(clock)
        async with asyncio.TaskGroup() as group:
            for number in range(READ_BATCHES_IN_FLIGHT + 10):
                group.create_task(reading.reader.get(key(number)))
                await clock.sleep(0.01)
        alone, together = reading.batches[:READ_BATCHES_IN_FLIGHT], reading.batches[-1]
        assert [len(batch) for batch in alone] == [1] * READ_BATCHES_IN_FLIGHT
        assert len(together) == 10

    clock.run(main())


def test_a_failed_batch_fails_those_who_asked_and_no_later_ones() -> None:
    """The error goes to whoever waits for the batch; the next is read as if nothing had been."""
    bench = WriterBench()
    bench.ports.fail("get", Transient("lost"))
    reader: BatchReader[Item | None] = BatchReader(bench.ports.get)

    async def main() -> None:
        failed = await asyncio.gather(
            reader.get(key(1)), reader.get(key(2)), return_exceptions=True
        )
        assert [type(each) for each in failed] == [Transient, Transient]
        assert await reader.get(key(1)) is None

    bench.run(main())


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_one_bad_key_does_not_fail_those_that_were_read_with_it(bad: int) -> None:
    """Poison concerns one change; which of a batch is found out by reading them alone."""
    clock = VirtualClock()
    asked: list[list[str]] = []

    async def read(keys: Sequence[Key]) -> list[str]:
        asked.append([each.id for each in keys])
        await clock.sleep(0.1)
        if any(each == key(bad) for each in keys):
            raise Poison("ValidationException")
        return [each.id for each in keys]

    async def main() -> None:
        reader: BatchReader[str] = BatchReader(read)
        reading = [reader.get(key(number)) for number in range(5)]
        answers = await asyncio.gather(*reading, return_exceptions=True)
        assert isinstance(answers.pop(bad), Poison)
        assert answers == [str(number) for number in range(5) if number != bad]
        assert [len(batch) for batch in asked] == [5, 1, 1, 1, 1, 1]

    clock.run(main())


def test_one_who_stops_waiting_does_not_disturb_the_others() -> None:
    """A cancelled reader is left out when the batch is answered."""
    clock = VirtualClock()

    async def main() -> None:
        reading = Reading(clock)
        tasks = [asyncio.ensure_future(reading.reader.get(key(1))) for _ in range(2)]
        await clock.sleep(0.5)
        tasks[0].cancel()
        assert await tasks[1] == "1@0"

    clock.run(main())
