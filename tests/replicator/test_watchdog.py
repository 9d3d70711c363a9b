"""Replication that stops without an error is found, and turns the health red."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from replicator.errors import Transient
from replicator.pipeline import Pipeline
from replicator.records import Mode
from replicator.telemetry import overall
from replicator.watchdog import Watchdog, WatchdogLimits
from support.pipelines import PipelineBench
from support.scripted_stream import Call

LIMITS = WatchdogLimits(stalled_after_s=60.0, look_every_s=5.0)


class Watched(PipelineBench):
    """A pipeline with a watchdog beside it."""

    tasks: Mapping[int, asyncio.Task[None]] = {}

    def watched(self, script: Callable[[], Awaitable[None]]) -> None:
        """Run a script beside the pipeline and its watchdog."""
        watchdog = Watchdog(
            pipelines=[self.stats],
            tasks=lambda: self.tasks,
            clock=self.clock,
            sleep=self.clock.sleep,
            limits=LIMITS,
        )

        async def both() -> None:
            over = asyncio.Event()
            watching = asyncio.create_task(watchdog.run(over))
            try:
                await script()
            finally:
                over.set()
                await watching

        self.run(both)

    @property
    def health(self) -> str:
        """What `/healthz` goes by."""
        return overall([self.snapshot()])


def test_a_pipeline_that_works_or_has_nothing_to_do_is_not_stalled() -> None:
    """A quiet table is as healthy as a busy one."""
    bench = Watched()

    async def script() -> None:
        for number in range(20):
            bench.write(str(number), "x")
            await bench.clock.sleep(10.0)
            assert bench.stats.stalled is None
        await bench.clock.sleep(900.0)
        assert bench.health == "ok"

    bench.watched(script)


def test_f06_no_progress_while_records_wait_is_red_until_it_moves() -> None:
    """A call that never comes back raises no error, and nothing else would tell."""
    bench = Watched()
    bench.ports["eu"].call_s = 10**6

    async def script() -> None:
        bench.write("1", "x")
        await bench.clock.sleep(40.0)
        assert bench.health != "failed"
        await bench.clock.sleep(60.0)
        assert bench.stats.stalled == "records wait and nothing has moved for 60 s"
        assert bench.health == "failed"
        bench.ports["eu"].call_s = 0.001
        bench.write("2", "x")
        await bench.until(lambda: bench.stats.stalled is None)
        bench.stop.set()

    bench.watched(script)


def test_f25_a_source_that_hangs_is_red() -> None:
    """Whether it moves is not known, and that is no good sign."""
    bench = Watched()
    bench.write("1", "x")

    async def script() -> None:
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        answered = bench.stream.stall(Call.RECORDS, "a")
        await bench.clock.sleep(150.0)
        assert bench.stats.stalled == "the source has not been readable for 60 s"
        assert bench.health == "failed"
        answered.set()
        await bench.until(lambda: bench.health == "ok")

    bench.watched(script)


def test_positions_that_nobody_looks_after_are_red() -> None:
    """Everything arrives, and after a restart all of it would be done again."""
    bench = Watched()

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.position is not None)
        bench.stores.call_s = 10**6
        for number in range(30):
            bench.write(str(number), "x")
            await bench.clock.sleep(5.0)
        assert bench.stats.stalled == "positions have not been looked after for 60 s"
        bench.stores.call_s = 0.001

    bench.watched(script)


def test_a_task_that_has_ended_is_red() -> None:
    """A pipeline whose task is gone cannot even say that it is."""
    bench = Watched()

    async def script() -> None:
        async def nothing() -> None:
            return

        bench.tasks = {0: asyncio.create_task(nothing())}
        await bench.clock.sleep(10.0)
        assert bench.stats.stalled == "its task has ended"
        assert bench.health == "failed"

    bench.watched(script)


def test_a_shard_without_a_reader_is_found_and_read_again() -> None:
    """Its task is gone, and no error has said so."""
    bench = PipelineBench(mode=Mode.ONE_WAY)

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        (reading,) = [task for task in asyncio.all_tasks() if task.get_name() == "reader:a"]
        reading.cancel()
        bench.write("2", "x")
        await bench.until(lambda: bench.stats.session_error is not None)
        assert bench.stats.session_error == "a shard has no reader; reading anew"
        await bench.until(lambda: bench.contents("eu") == {"1": "x", "2": "x"})
        await bench.until(lambda: bench.snapshot()["state"] == "running")

    bench.run(script)


# --- two processes for one source --------------------------------------------------------------


class Board:
    """The row that says who reads, and one reader's way to it."""

    def __init__(self, instance: str, row: list[str]) -> None:
        self.instance, self._row = instance, row
        self.errors: list[Exception] = []

    async def announce(self, table: str, source: str, now_us: int) -> str | None:
        """ports.Presence.announce."""
        if self.errors:
            raise self.errors.pop()
        found = self._row[-1] if self._row else None
        self._row.append(self.instance)
        return found


def with_presence(bench: PipelineBench, board: Board) -> PipelineBench:
    """The bench with a pipeline that says who it is."""
    parts = bench._parts()
    parts = replace(parts, stores=replace(parts.stores, presence=board))
    bench.pipeline = Pipeline(parts)
    return bench


def test_two_processes_for_one_source_are_noticed_and_harmless() -> None:
    """Each sees the other's name come back; what they write is the same."""
    row: list[str] = []
    bench = with_presence(PipelineBench(), Board("one", row))
    second = Pipeline(with_presence(bench, Board("two", row)).pipeline._parts)
    bench.pipeline = Pipeline(with_presence(bench, Board("one", row)).pipeline._parts)

    async def script() -> None:
        stop = asyncio.Event()
        other = asyncio.create_task(second.run(stop))
        for number in range(30):
            bench.write(str(number % 5), str(number))
            await bench.clock.sleep(2.0)
        assert bench.stats.rival in ("one", "two")
        assert overall([bench.snapshot()]) == "degraded"
        await bench.until(lambda: bench.contents("eu") == bench.contents("us"))
        stop.set()
        await other
        await bench.until(lambda: bench.stats.rival is None)

    bench.run(script)


def test_a_process_that_takes_over_is_no_second_one() -> None:
    """The name that stood there before is that of the one it replaces."""
    bench = with_presence(PipelineBench(), Board("new", ["old"]))

    async def script() -> None:
        for _ in range(60):
            await bench.clock.sleep(1.0)
            assert bench.stats.rival is None

    bench.run(script)


def test_a_name_that_cannot_be_written_down_holds_nothing_up() -> None:
    """It is tried again, and replication goes on."""
    row: list[str] = []
    board = Board("one", row)
    board.errors = [Transient("down")] * 5
    bench = with_presence(PipelineBench(), board)

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("eu") == {"1": "x"})
        await bench.until(lambda: row == ["one"])

    bench.run(script)
    assert not board.errors


def test_f06_reading_is_no_progress() -> None:
    """The target hangs and the application goes on writing: it is read, and nothing arrives."""
    bench = Watched()
    bench.ports["eu"].call_s = 10**6

    async def script() -> None:
        for number in range(60):
            bench.write(str(number), "x")
            await bench.clock.sleep(10.0)
        assert bench.contents("eu") == {}
        assert bench.stats.stalled == "records wait and nothing has moved for 60 s"
        assert bench.health == "failed"
        bench.stop.set()

    bench.watched(script)


def test_what_waits_for_a_paused_link_is_meant_to() -> None:
    """The other link has everything, and the table falls quiet."""
    bench = Watched(targets=("eu", "ap"))

    async def script() -> None:
        bench.pauses.paused = {"eu": bench.clock.now_us()}
        await bench.clock.sleep(5.0)
        bench.write("1", "x")
        await bench.until(lambda: bench.contents("ap") == {"1": "x"})
        await bench.clock.sleep(2 * LIMITS.stalled_after_s)
        assert bench.stats.stalled is None
        assert bench.health == "degraded"
        bench.pauses.paused = {}

    bench.watched(script)


def test_a_source_that_does_not_answer_after_a_resume_is_found() -> None:
    """It is paused no more."""
    bench = Watched()

    async def script() -> None:
        bench.pauses.paused = {"eu": bench.clock.now_us()}
        await bench.until(lambda: bench.snapshot()["state"] == "paused")
        bench.find_errors = [Transient("the stream does not answer")] * 10_000
        bench.pauses.paused = {}
        await bench.clock.sleep(4 * LIMITS.stalled_after_s)
        assert bench.health == "failed"
        bench.find_errors = []

    bench.watched(script)
