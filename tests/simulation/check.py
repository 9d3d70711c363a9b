"""One schedule from beginning to end, with everything that must hold.

* equal        at quiescence every region holds the same content
* last write   a write that causally follows everything else is what every region ends up with
* no invention no region ever ends with content that no write produced
* purity       where one region alone writes, no replicator changes content there; the source of
               a one-way table is not written to at all
* silence      stream records per application write are bounded, and then there are no more
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from conflict.operations import Image, Key
from replicator.records import Mode
from simulation.schedule import START_US, Application, Schedule
from simulation.worker import Worker
from support.memory import MemoryRegion

RECORDS_PER_WRITE_MAX = 60
"""Per region; seen at most are a few. A loop goes through any bound."""

DRAIN_STEPS_MAX = 200_000


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one schedule did. The digest covers every stream record of every region."""

    writes: int
    records: int
    digest: int


class Simulation:
    """One schedule under way."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.rng = random.Random(schedule.seed ^ 0x5EED)
        self.now_us = START_US
        self.world = {
            name: MemoryRegion(
                name, view=schedule.view, reports_unchanged=schedule.reports_unchanged
            )
            for name in schedule.regions
        }
        self.application = Application(schedule, self.world)
        mode = Mode.ONE_WAY if schedule.source else Mode.MULTI_WRITER
        sources = [schedule.source] if schedule.source else list(schedule.regions)
        self.workers = [
            Worker(
                self.world,
                home,
                targets=[name for name in schedule.regions if name != home],
                mode=mode,
                rng=self.rng,
                faults=schedule.faults,
                page_max=schedule.page_max,
            )
            for home in sources
        ]
        self._tick(0)

    def run(self) -> Report:
        """Run the schedule, then one last write; raise Violation for what does not hold."""
        self._busy()
        self._drain()
        for key in self.schedule.keys:
            self._equal(key)
        self._last_write()
        records = sum(region.stream.written for region in self.world.values())
        return Report(self.application.writes, records, self._digest())

    def _busy(self) -> None:
        """Writers, replicators and faults together."""
        schedule, rng = self.schedule, self.rng
        writers = [schedule.only_writer] if schedule.only_writer else list(schedule.regions)
        while self.application.writes < schedule.writes:
            self._tick(rng.randint(0, 2))
            if rng.random() < schedule.write_rate:
                self.application.write(rng, rng.choice(writers), rng.choice(schedule.keys))
                self._note_purity()
                continue
            worker = rng.choice(self.workers)
            chance = rng.random()
            if chance < schedule.faults.crash:
                worker.crash()
            elif chance < schedule.faults.crash + schedule.split_rate:
                self._split()
            else:
                worker.step()
            self._check_purity()

    def _drain(self) -> None:
        for step in range(DRAIN_STEPS_MAX):
            self._tick(self.rng.randint(0, 2))
            self.rng.choice(self.workers).step()
            self._check_purity()
            if step % 8 == 0 and all(worker.idle for worker in self.workers):
                return
        raise Violation("no quiescence: a loop")

    def _split(self) -> None:
        stream = self.world[self.rng.choice(self.schedule.regions)].stream
        if len(stream.shards) < 8:
            stream.split(self.rng.choice(stream.open_shards()), self.rng.choice([1, 2]))

    def _tick(self, elapsed_us: int) -> None:
        self.now_us += elapsed_us
        grain_us = self.schedule.grain_us
        for name, region in self.world.items():
            clock_us = self.now_us + self.schedule.skew_us[name]
            region.now_us = clock_us - clock_us % grain_us

    # --- what must hold -----------------------------------------------------------------------

    def _note_purity(self) -> None:
        if self.schedule.only_writer:
            region = self.world[self.schedule.only_writer]
            self._written = {key.id: region.image(key) for key in self.schedule.keys}
            self._source_records = region.stream.written

    def _check_purity(self) -> None:
        if not self.schedule.only_writer or not self.application.writes:
            return
        region = self.world[self.schedule.only_writer]
        for key in self.schedule.keys:
            if region.image(key) != self._written[key.id]:
                raise Violation(f"a replicator changed {key.id} in the only writing region")
        if self.schedule.source and region.stream.written != self._source_records:
            raise Violation("a replicator wrote to the source of a one-way table")

    def _contents(self, key: Key) -> dict[str, Image | None]:
        return {name: region.image(key) for name, region in self.world.items()}

    def _equal(self, key: Key, expected: Image | None = None, *, last: bool = False) -> None:
        contents = self._contents(key)
        first = next(iter(contents.values()))
        if any(image != first for image in contents.values()):
            raise Violation(f"{key.id} differs: {contents}")
        if last and first != expected:
            raise Violation(f"last write of {key.id} lost: wanted {expected}, found {first}")
        if first is not None and first not in self.application.produced[key.id]:
            raise Violation(f"{key.id} holds what nobody wrote: {first}")
        bound = RECORDS_PER_WRITE_MAX * max(1, self.application.writes)
        for name, region in self.world.items():
            if region.stream.written > bound:
                raise Violation(f"{region.stream.written} stream records in {name}")

    def _last_write(self) -> None:
        """One more write, by whatever clock, with nothing concurrent to it."""
        rng, application = self.rng, self.application
        key = rng.choice(self.schedule.keys)
        region = self.schedule.only_writer or rng.choice(self.schedule.regions)
        self._tick(5)
        application.writes += 1
        what = rng.choice(["put", "update", "delete"])
        if what == "delete" and self.world[region].image(key) is not None:
            application.delete(region, key)
        elif what == "update":
            application.update(rng, region, key)
        else:
            application.put(rng, region, key)
        expected = self.world[region].image(key)
        self._note_purity()
        self._drain()
        self._equal(key, expected, last=True)

    def _digest(self) -> int:
        digest = 0
        for name, region in self.world.items():
            for shard in region.stream.shards:
                digest = zlib.crc32(repr((name, shard.id, shard.records)).encode(), digest)
        return digest
