"""Crashes, checkpoints and who owns them: a whole pipeline in memory and virtual time.

Rows of tests/FAULTS.md by their numbers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from conflict.operations import Outcome, Put
from replicator.errors import Transient
from replicator.parts import PipelineLimits
from replicator.positions import ControlCheckpoints
from replicator.records import After, Finished, Mode
from support.adapters import MemoryPorts
from support.clock import VirtualClock
from support.pipelines import PipelineBench, checkpoint
from support.scripted_api import ScriptedApi


def everywhere(bench: PipelineBench, expected: dict[str, str]) -> bool:
    """Whether home and target hold just this, and all of it is checkpointed."""
    last = bench.stream.sequences("a")[-1]
    held = bench.contents("us") == bench.contents("eu") == expected
    return held and bench.position == After(last)


def test_f01_a_crash_between_write_and_checkpoint_repeats_without_effect() -> None:
    """What the target has is delivered again by the next process, and changes nothing."""
    bench = PipelineBench(limits=PipelineLimits(checkpoint_interval_s=1_000.0))
    items = {str(number): "x" for number in range(5)}
    for name in items:
        bench.write(name, "x")

    async def arrive() -> None:
        await bench.until(lambda: bench.contents("eu") == items)

    bench.run_and_kill(arrive)
    assert bench.position is None
    landed = bench.regions["eu"].stream.written

    async def rest() -> None:
        await bench.until(lambda: everywhere(bench, items))

    bench.run(rest)
    assert bench.link["duplicate"] == len(items)
    assert bench.regions["eu"].stream.written == landed


class Obstinate:
    """A target's table that refuses one key while `shut`."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.shut = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def put(self, operation: Put) -> Outcome:
        """ports.Table.put."""
        if self.shut and operation.key.id == "first" and operation.region == "eu":
            await asyncio.sleep(0.01)
            raise Transient("down")
        outcome: Outcome = await self._port.put(operation)
        return outcome


def test_f02_a_checkpoint_never_passes_what_is_not_durable() -> None:
    """One record cannot be written while later ones arrive: the position stays beneath it, so a
    crash repeats it, and it arrives."""
    ports: list[Obstinate] = []

    def watch(port: Any) -> Any:
        if not isinstance(port, MemoryPorts):
            return port
        ports.append(Obstinate(port))
        return ports[-1]

    bench = PipelineBench(watch=watch)
    bench.write("before", "x")
    first = bench.write("first", "x")
    bench.write("second", "x")

    async def later_ones_arrive() -> None:
        await bench.until(lambda: bench.contents("eu") == {"before": "x", "second": "x"})
        await bench.clock.sleep(30.0)
        assert bench.position == After(first - 1)

    bench.run_and_kill(later_ones_arrive)
    for port in ports:
        port.shut = False

    async def rest() -> None:
        await bench.until(lambda: everywhere(bench, {"before": "x", "first": "x", "second": "x"}))

    bench.run(rest)


def test_f03_a_step_that_throws_is_begun_again_and_never_passed() -> None:
    """An error of a kind that nobody foresaw: the record is tried until it is done."""
    bench = PipelineBench()
    bench.ports["eu"].fail("put", *[RuntimeError("a bug")] * 3)
    bench.write("1", "x")

    async def script() -> None:
        await bench.until(lambda: bench.stats.links["eu"].stuck == 1)
        assert bench.position is None
        await bench.until(lambda: everywhere(bench, {"1": "x"}))

    bench.run(script)
    assert bench.stats.links["eu"].stuck == 0


def test_f19_a_checkpoint_of_another_stream_skips_nothing() -> None:
    """The table was made anew under its name: a position far ahead in the old stream is no
    position in the new one, and the loss between the two is told."""
    bench = PipelineBench()
    bench.stores.positions["arn:old", "a"] = checkpoint("arn:old", After(10**30))
    bench.write("1", "x")

    async def script() -> None:
        await bench.until(lambda: everywhere(bench, {"1": "x"}))

    bench.run(script)
    assert len(bench.stores.reported) == 1


@pytest.mark.parametrize("settled", ["12", "", "finished ", "x" * 40, "9" * 41, "-" + "1" * 39])
def test_f20_a_poisoned_checkpoint_counts_as_none(
    settled: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, left out, and so its shard is read from the beginning: replays are harmless."""
    row = {"pk": {"S": "p"}, "sk": {"S": "arn#shard"}, "settled": {"S": settled}}
    api = ScriptedApi({"Items": [row]})
    clock = VirtualClock()
    store = ControlCheckpoints(api=api, control_table="control", clock=clock)

    with caplog.at_level(logging.WARNING):
        assert clock.run(store.load("orders", "us")) == []

    assert [record.getMessage() for record in caplog.records] == ["checkpoint.malformed"]


def test_f21_a_deleted_checkpoint_means_reading_from_the_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody cleared the rows: all is read again, nothing changes, and the log says why."""
    bench = PipelineBench()
    for number in range(4):
        bench.write(str(number), "old")
    items = {str(number): "new" for number in range(4)}
    for name in items:
        bench.write(name, "new")

    async def rest() -> None:
        await bench.until(lambda: everywhere(bench, items))
        await bench.clock.sleep(120.0)  # until it is noted that all has been read

    bench.run_and_kill(rest)
    bench.stores.positions.clear()
    landed = {name: region.stream.written for name, region in bench.regions.items()}
    with caplog.at_level(logging.WARNING):
        bench.run(rest)
    assert {name: region.stream.written for name, region in bench.regions.items()} == landed
    assert "checkpoint.missing" in [record.getMessage() for record in caplog.records]


def test_f22_two_processes_for_one_source_do_no_harm() -> None:
    """They read the same records at the same time, each delivers them, and all ends as with one;
    the position is the further of the two and never goes back."""
    bench = PipelineBench()
    twin = bench.another()
    items = {str(number): "x" for number in range(20)}
    positions: list[After | Finished | None] = []

    async def script() -> None:
        beside = asyncio.create_task(twin.run(bench.stop))
        for name in items:
            bench.write(name, "x")
            positions.append(bench.position)
            await bench.clock.sleep(0.3)
        await bench.until(lambda: everywhere(bench, items))
        bench.stop.set()
        await beside

    bench.run(script)
    reached = [position.sequence for position in positions if isinstance(position, After)]
    assert reached == sorted(reached)
    assert bench.regions["eu"].stream.written == len(items)


@pytest.mark.parametrize("mode", Mode)
def test_f26_a_shard_is_finished_only_when_its_last_record_has_arrived(mode: Mode) -> None:
    """Its end was read while a record is still on the way: a crash then reads that again."""
    bench = PipelineBench(mode=mode, limits=PipelineLimits(checkpoint_interval_s=0.1))
    bench.ports["eu"].fail_always("put", Transient("down"))
    bench.write("1", "x")
    bench.stream.split("a", "b")
    bench.shard = "b"

    async def ended() -> None:
        await bench.until(lambda: bench.stats.shards_finished == 1)
        await bench.clock.sleep(30.0)
        assert bench.position is None

    bench.run_and_kill(ended)
    bench.ports["eu"].fail_always("put", None)

    async def rest() -> None:
        await bench.until(lambda: bench.position == Finished())

    bench.run(rest)
    assert bench.contents("eu") == {"1": "x"}
