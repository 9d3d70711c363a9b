"""What a reader knows of its distance to the end of the stream, and what it does there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from replicator.errors import Transient
from replicator.reader import ReaderLimits, StreamReader
from replicator.records import Page
from support.clock import VirtualClock
from support.scripted_stream import Call, ScriptedStream, Shape


class Bench:
    """One reader of a scripted stream, that hands on to nobody."""

    def __init__(self, shape: Shape) -> None:
        self.clock = VirtualClock()
        self.stream = ScriptedStream(clock=self.clock, shape=shape)
        self.stop = asyncio.Event()
        self.taken = 0
        self.reader = StreamReader(
            source=self.stream,
            checkpoints={},
            deliver=self.deliver,
            ended=lambda _: None,
            on_gap=self.on_gap,
            on_error=lambda *_: None,
            on_ok=lambda _: None,
            on_anomaly=lambda _: None,
            clock=self.clock,
            sleep=self.clock.sleep,
            rng=Random(1),
            limits=ReaderLimits(),
        )

    async def deliver(self, shard: str, page: Page) -> None:
        """Take a page."""
        self.taken += len(page.records)

    async def on_gap(self, shard: str, reason: str) -> None:
        """No test here leaves one."""
        raise AssertionError(reason)

    def run(self, script: Callable[[], Awaitable[None]], *, stops: bool = True) -> None:
        """Run the reader and the script; the reader is stopped, or ends by itself."""

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.reader.run(self.stop))
                await script()
                if stops:
                    self.stop.set()

        self.clock.run(main(), limit_s=3_600.0)


def test_a_shard_is_behind_until_an_answer_of_it_was_empty() -> None:
    """Before its first answer as well, and again with every record."""
    bench = Bench({"a": {}, "b": {}})
    assert not bench.reader.caught_up

    async def script() -> None:
        bench.stream.write("a", "1")
        await bench.clock.until(lambda: bench.taken == 1)
        assert "a" in bench.reader.behind
        assert not bench.reader.caught_up
        await bench.clock.until(lambda: bench.reader.caught_up)
        assert bench.reader.behind == frozenset()
        bench.stream.write("b", "2")
        await bench.clock.until(lambda: bench.taken == 2)
        assert bench.reader.behind == {"b"}

    bench.run(script)


def test_a_failed_answer_is_not_an_empty_one() -> None:
    """A shard that cannot be read has not been found empty."""
    bench = Bench({"a": {}})
    bench.stream.fail(Call.RECORDS, *[Transient("down")] * 5, shard="a")

    async def script() -> None:
        await bench.clock.until(lambda: "a" in bench.reader.failing)
        assert bench.reader.behind == {"a"}
        await bench.clock.until(lambda: bench.reader.caught_up)
        assert not bench.reader.failing

    bench.run(script)


def test_a_shard_that_has_ended_is_not_behind() -> None:
    """Its child is, until it has answered."""
    bench = Bench({"a": {"b": {}}})
    bench.stream.write("a", "1")
    bench.run(lambda: bench.clock.until(lambda: bench.reader.caught_up))
    assert bench.taken == 1


def test_a_stream_that_was_turned_off_is_read_to_its_end_and_left() -> None:
    """All of its shards, children after their parents, and only then."""
    bench = Bench({"a": {"b": {}}, "c": {}})
    for shard in "abc":
        bench.stream.write(shard, "1", "2")
    bench.stream.enabled = False

    async def script() -> None:
        await bench.clock.sleep(60.0)
        assert bench.taken == 6
        bench.stream.close("b")
        bench.stream.close("c")

    bench.run(script, stops=False)


@pytest.mark.parametrize("enabled", [True, False])
def test_an_open_shard_is_read_on_whatever_the_stream_says(*, enabled: bool) -> None:
    """A stream that is being turned off may still close its shards, and take a last record."""
    bench = Bench({"a": {}})
    bench.stream.enabled = enabled

    async def script() -> None:
        await bench.clock.sleep(60.0)
        bench.stream.write("a", "late")
        await bench.clock.until(lambda: bench.taken == 1)

    bench.run(script)
