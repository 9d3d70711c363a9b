"""What a process prints for CloudWatch, and that nobody who reads it can hold anything up."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from replicator.metrics import LATENCY
from replicator.process_metrics import WRITE_WITHIN_S, ProcessMetrics, write_by_thread
from replicator.telemetry import PipelineStats
from support.clock import VirtualClock
from support.figures import document_of, pipeline

INTERVAL_S = 60.0
LONG = b"x" * 1_000_000
"""More than a pipe holds."""


def printing(
    clock: VirtualClock, stats: PipelineStats, write: Callable[[bytes], Awaitable[None]]
) -> ProcessMetrics:
    """The metrics of a process with one pipeline."""
    return ProcessMetrics(
        document=lambda: document_of(stats),
        pipelines=[stats],
        interval_s=INTERVAL_S,
        write=write,
        sleep=clock.sleep,
    )


def link_of(data: bytes) -> dict[str, Any]:
    """What a set says of one link."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in data.decode().splitlines()]
    (found,) = (line for line in lines if line.get("target") == "eu")
    return found


APPLIED = "replicator.deliveries.applied"


def test_each_minute_tells_what_was_added_and_the_end_what_is_left() -> None:
    """Gauges again, counters by their rise, each latency once."""
    clock, stats, sets = VirtualClock(), pipeline(), []
    applied = stats.links["eu"].applied

    async def write(data: bytes) -> None:
        sets.append(data)

    async def run() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(printing(clock, stats, write).run(stop))
        await clock.sleep(INTERVAL_S + 1)
        stats.links["eu"].applied += 2
        await clock.sleep(INTERVAL_S)
        stats.links["eu"].applied += 3
        stop.set()
        await running

    clock.run(run())
    links = [link_of(data) for data in sets]
    assert [link[APPLIED] for link in links] == [applied, 2, 3]
    assert [LATENCY in link for link in links] == [True, False, False]
    assert {link["replicator.backlog.age"] for link in links} == {1.5}


def test_a_reader_that_is_stuck_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """No second set is begun; what was counted meanwhile is told when the first is taken."""
    clock, stats, sets, taken = VirtualClock(), pipeline(), [], asyncio.Event()
    caplog.set_level(logging.INFO)

    async def write(data: bytes) -> None:
        sets.append(data)
        await taken.wait()

    async def run() -> float:
        stop = asyncio.Event()
        running = asyncio.create_task(printing(clock, stats, write).run(stop))
        await clock.sleep(10 * INTERVAL_S)
        assert len(sets) == 1
        stats.links["eu"].applied += 2
        taken.set()
        await clock.sleep(2 * INTERVAL_S)
        taken.clear()
        stopped_s = clock.monotonic_s()
        stop.set()
        await running
        return clock.monotonic_s() - stopped_s

    assert clock.run(run()) <= WRITE_WITHIN_S
    assert link_of(sets[1])[APPLIED] == 2
    assert [r.message for r in caplog.records][:2] == ["emf.failing", "emf.recovered"]


def test_what_could_not_be_written_is_told_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so once."""
    clock, stats, sets = VirtualClock(), pipeline(), []
    applied = stats.links["eu"].applied

    async def write(data: bytes) -> None:
        sets.append(data)
        if len(sets) <= 2:
            raise BrokenPipeError(32, "Broken pipe")

    async def run() -> None:
        running = asyncio.create_task(printing(clock, stats, write).run(asyncio.Event()))
        await clock.sleep(4 * INTERVAL_S + 1)
        running.cancel()

    clock.run(run())
    assert [link_of(data)[APPLIED] for data in sets] == [applied, applied, applied, 0]
    assert [r.message for r in caplog.records].count("emf.failing") == 1


def test_a_full_pipe_does_not_hold_the_loop(tmp_path: Path) -> None:
    """A thread waits for it, one that does not keep the process; a file takes all at once."""
    read, write = os.pipe()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await write_by_thread(write, LONG)
        (stuck,) = (each for each in threading.enumerate() if each.name == "emf")
        assert stuck.daemon
        with (tmp_path / "out").open("wb") as file:
            await write_by_thread(file.fileno(), LONG)
        taken = 0
        while taken < len(LONG):
            taken += len(os.read(read, 65_536))
        await asyncio.to_thread(stuck.join, 30)
        assert not stuck.is_alive()
        os.close(read)
        with pytest.raises(BrokenPipeError):
            await write_by_thread(write, LONG)

    asyncio.run(run())
    os.close(write)
    assert (tmp_path / "out").read_bytes() == LONG
