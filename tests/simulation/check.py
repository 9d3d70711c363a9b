"""One schedule from beginning to end, with everything that must hold.

* equal        at quiescence every region holds the same content; where regions expire their own
               copies, once they have done so
* last write   a write that causally follows everything else is what every region ends up with (a
               delete: nothing), even when records that were settled are processed again
* no invention no region ever ends with content that no write produced
* purity       where one region alone writes, no replicator changes content there; the source of
               a one-way table is not written to at all
* silence      stream records per application write are bounded, and then there are no more
* no leap      no item ends with a version further ahead than the bound on the future
* no leftover  no item ends marked for removal, and no write is still held (a zombie's may be, and
               one whose REMOVE was lost to retention)
* checkpoints  none is above an unsettled record (see worker.py and ledger.py)
* gaps         records that retention took away leave a gap; it is mended beside live writes, by
               itself, and closed, after which all of the above holds again (a delete whose record
               was lost may have come back)
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from conflict.operations import Image, Item, Key
from conflict.version import Kind
from replicator.records import TtlDeletes
from simulation.application import Application
from simulation.coverage import Coverage, Situation
from simulation.mending import Mending
from simulation.points import Probe
from simulation.region import Region, may_expire
from simulation.schedule import FUTURE_BOUND_US, START_US, Loss, Outage, Schedule
from simulation.worker import HOME_SLACK_US, Tell, Violation, Worker

RECORDS_PER_WRITE_MAX = 3
RECORDS_PER_CRASH_MAX = 4
"""In one region. Seen at most in 6,000 schedules: 2.25 for each write, crashes or none."""

DRAIN_STEPS_MAX = 8_000
"""For a dozen writes; more of them get so much more. Seen at most in 2,000 schedules: 1,593."""

LOOK_EVERY_STEPS = 8
IDLE_RATE = 0.5
"""How likely a worker that has nothing left to do takes part all the same, and reads again."""
REPLAY_RATE, REPLAY_RATE_IDLE = 0.01, 0.02
"""How likely a worker begins anew at a step of a drain; where nobody has anything left to do."""

OUTAGE_US = 25 * 3_600 * 10**6
MEND_STEPS_MAX = 100_000
RECORDS_PER_MENDING_MAX = 4


@dataclass(frozen=True, slots=True)
class Report:
    """What one schedule did. The digest covers every stream record of every region."""

    writes: int
    records: int
    digest: int
    coverage: Counter[Situation]


class Simulation:
    """One schedule under way."""

    def __init__(
        self, schedule: Schedule, *, tell: Tell | None = None, probe: Probe | None = None
    ) -> None:
        self.schedule = schedule
        self.rng = random.Random(schedule.seed ^ 0x5EED)
        self.now_us = START_US
        self.world = {
            name: Region(name, view=schedule.view, reports_unchanged=schedule.reports_unchanged)
            for name in schedule.regions
        }
        self.coverage = Coverage()
        self.application = Application(schedule.habits, self.world, self.rng)
        self.workers = [
            Worker(
                self.world,
                home,
                schedule=schedule,
                rng=self.rng,
                coverage=self.coverage,
                tell=tell,
                probe=probe,
            )
            for home in schedule.sources
        ]
        self._present = list(self.workers)
        self._is_mended = False
        self._tell = tell
        self._tick(0)
        for key in schedule.keys if schedule.habits.stocked else ():
            self.application.stock(key)
        self._note_purity()
        for region in self.world.values():
            region.watcher = self._written

    def run(self) -> Report:
        """Run the schedule, then one last write; raise Violation for what does not hold."""
        self._busy(self.schedule.habits.writes)
        if self.schedule.outage is not None:
            self._outage(self.schedule.outage)
        self._drain()
        if self.schedule.ttl_deletes is TtlDeletes.IGNORE:
            self._expire_all()
        for key in self.schedule.keys:
            self._check_equal(key)
        self._check_tidy()
        self._last_write()
        self._check_tidy()
        records = sum(region.stream.written for region in self.world.values())
        return Report(self.application.writes, records, self._digest(), self.coverage.counts)

    # --- what happens -------------------------------------------------------------------------

    def _busy(self, writes: int) -> None:
        """Writers, replicators and faults together, until so much has been written."""
        schedule, rng = self.schedule, self.rng
        habits, faults = schedule.habits, schedule.faults
        while self.application.writes < writes:
            self._tick(rng.randint(0, 2))
            if rng.random() < habits.rate:
                self._write()
                continue
            if rng.random() < habits.expire_rate:
                early = habits.expire_early or schedule.ttl_deletes is TtlDeletes.REPLICATE
                self._expire(rng.choice(schedule.expiring), rng.choice(schedule.keys), early=early)
            chance = rng.random()
            if chance < faults.crash:
                rng.choice(self._present or self.workers).crash()
            elif chance < faults.crash + faults.split:
                self._split()
            else:
                self._step(self._present)
            self._check_purity()

    def _write(self) -> None:
        """An application writes, once or in a burst."""
        schedule, rng = self.schedule, self.rng
        writers = [schedule.only_writer] if schedule.only_writer else list(schedule.regions)
        region, key = rng.choice(writers), rng.choice(schedule.keys)
        for _ in range(rng.randint(1, schedule.habits.burst)):
            self.application.write(region, key)
        self._note_purity()

    def _outage(self, outage: Outage) -> None:
        """Some replicators are away for 25 hours; then they go on, and their gaps are mended."""
        away = [worker for worker in self.workers if worker.home in outage.away]
        self._present = [worker for worker in self.workers if worker not in away]
        self._busy(self.application.writes + outage.writes)
        self._tick(OUTAGE_US)
        for worker in away:
            self.coverage.note(Situation.LOST, self._lose(worker, outage.loss))
            worker.come_back()
        self._present = list(self.workers)
        self._mend(away, self.application.writes + outage.later)
        self._is_mended = True

    def _lose(self, worker: Worker, loss: Loss) -> int:
        stream = self.world[worker.home].stream
        if loss is Loss.RENEWED:
            return stream.renew()
        horizon = stream.written
        return stream.trim(horizon if loss is Loss.ALL else self.rng.randint(0, horizon))

    def _mend(self, away: list[Worker], writes: int) -> None:
        """Replication goes on, and every gap is mended by its own region's process."""
        mendings = [
            Mending(
                self.world,
                worker,
                workers=self.workers,
                schedule=self.schedule,
                rng=self.rng,
                coverage=self.coverage,
                tell=self._tell,
            )
            for worker in away
        ]
        for _ in range(MEND_STEPS_MAX):
            self._tick(self.rng.randint(0, 2))
            if self.application.writes < writes and self.rng.random() < self.schedule.habits.rate:
                self._write()
            self.rng.choice(mendings).step()
            self._step(self._present)
            if self.schedule.source:
                self._check_purity()
            if all(mending.over for mending in mendings):
                return
        raise Violation("a gap is not closed")

    def _drain(self, replays: int = 0) -> None:
        """Let everything arrive; `replays`: how often a worker begins anew from older positions.

        Who has nothing left to do is looked for now and then, and left out half the time: most
        steps would be empty reads otherwise. While replays are left, all take part.
        """
        faults, dozens = self.schedule.faults, max(1, self.schedule.habits.writes // 12)
        busy = list(self.workers)
        for step in range(DRAIN_STEPS_MAX * dozens):
            self._tick(self.rng.randint(0, 2))
            if replays and self.rng.random() < (REPLAY_RATE if busy else REPLAY_RATE_IDLE):
                replays -= 1
                self.rng.choice(self.workers).restart(orderly=faults.orderly)
            self._step(self.workers if replays else busy)
            self._check_purity()
            if step % LOOK_EVERY_STEPS == 0:
                idle = [worker.idle for worker in self.workers]
                if not replays and all(idle):
                    return
                busy = [
                    worker
                    for worker, is_idle in zip(self.workers, idle, strict=True)
                    if not is_idle or (worker.rereads and self.rng.random() < IDLE_RATE)
                ]
        raise Violation("no quiescence: a loop")

    def _last_write(self) -> None:
        """One more write, by whatever clock, with nothing concurrent to it but replays."""
        rng, application = self.rng, self.application
        key = rng.choice(self.schedule.keys)
        region = self.schedule.only_writer or rng.choice(self.schedule.regions)
        self._tick(5)
        what = rng.choice(["put", "update", "delete"])
        if what == "delete" and self.world[region].image(key) is not None:
            self.coverage.note(Situation.LAST_DELETE)
            application.delete(region, key)
        else:
            self.coverage.note(Situation.LAST_PUT)
            (application.update if what == "update" else application.put)(region, key)
        expected = self.world[region].image(key)
        self._note_purity()
        replays = self.schedule.faults.late_replays
        for worker in self.workers:
            worker.rereads = replays > 0
        self._drain(replays)
        self._check_equal(key)
        found = self.world[region].image(key)
        if found != expected:
            raise Violation(f"last write of {key.id} lost: wanted {expected}, found {found}")

    def _step(self, workers: Sequence[Worker]) -> None:
        """One of them does one thing, the more often the faster its pace is."""
        if workers:
            paces = [self.schedule.pace[worker.home] for worker in workers]
            self.rng.choices(workers, paces)[0].step()

    def _expire(self, region: str, key: Key, *, early: bool) -> None:
        if self.application.expire(region, key, early=early):
            self.coverage.note(Situation.EXPIRED)
            self._note_purity()

    def _expire_all(self) -> None:
        """Each region expires its copies, until none is left that may expire."""
        while any(
            may_expire(region.image(key))
            for region in self.world.values()
            for key in self.schedule.keys
        ):
            for name in self.schedule.regions:
                for key in self.schedule.keys:
                    self._expire(name, key, early=True)
            self._drain()

    def _split(self) -> None:
        stream = self.world[self.rng.choice(self.schedule.sources)].stream
        if len(stream.shards) < 8:
            self.coverage.note(Situation.SPLIT)
            stream.split(self.rng.choice(stream.open_shards()), self.rng.choice([1, 2]))

    def _tick(self, elapsed_us: int) -> None:
        self.now_us += elapsed_us
        clocks = self.schedule.clocks
        for name, region in self.world.items():
            clock_us = self.now_us + clocks.skew_us[name]
            if clocks.wobble_us:
                clock_us -= self.rng.randint(0, clocks.wobble_us)
            region.now_us = clock_us - clock_us % clocks.grain_us

    def _written(self, region: Region, key: Key, item: Item | None) -> None:
        if self._tell:
            self._tell(region.name, "write", (self.now_us, region.stream.written, key, item))

    # --- what must hold -----------------------------------------------------------------------

    def _note_purity(self) -> None:
        """An application has written: this is what the only writing region is to look like."""
        if self.schedule.only_writer:
            region = self.world[self.schedule.only_writer]
            self._pure = {key.id: region.image(key) for key in self.schedule.keys}
            self._source_records = region.stream.written

    def _check_purity(self) -> None:
        if not self.schedule.only_writer or (self._is_mended and not self.schedule.source):
            return
        region = self.world[self.schedule.only_writer]
        for key in self.schedule.keys:
            if region.image(key) != self._pure[key.id]:
                raise Violation(f"a replicator changed {key.id} in the only writing region")
        if self.schedule.source and region.stream.written != self._source_records:
            raise Violation("a replicator wrote to the source of a one-way table")

    def _check_equal(self, key: Key) -> None:
        contents: dict[str, Image | None] = {n: r.image(key) for n, r in self.world.items()}
        first = next(iter(contents.values()))
        if any(image != first for image in contents.values()):
            raise Violation(f"{key.id} differs: {contents}")
        if first is not None and not self.application.has_written(key, first):
            raise Violation(f"{key.id} holds what nobody wrote: {first}")

    def _check_tidy(self) -> None:
        counts = self.coverage.counts
        disturbances = counts[Situation.CRASH] + counts[Situation.REWOUND]
        bound = RECORDS_PER_WRITE_MAX * self.application.writes
        bound += RECORDS_PER_CRASH_MAX * disturbances
        bound += RECORDS_PER_MENDING_MAX * counts[Situation.MENDED]
        clocks = self.schedule.clocks
        latest_us = self.now_us + max(clocks.skew_us.values())  # whoever judged may be that early
        limit_us = latest_us + FUTURE_BOUND_US + HOME_SLACK_US
        for name, region in self.world.items():
            if region.stream.written > bound:
                raise Violation(f"{region.stream.written} stream records in {name}")
            for key, item in region.items.items():
                version = item.version
                if version is None or self.schedule.source:
                    continue
                if version.time_us > limit_us:
                    raise Violation(f"{key} of {name} has a version from the future: {version}")
                if version.kind is Kind.REMOVING:
                    raise Violation(f"{key} of {name} is still marked for removal")
            for key, state in region.states.items():
                if state.held is not None and not (disturbances or self._is_mended):
                    raise Violation(f"a write of {key} is still held in {name}")

    def _digest(self) -> int:
        digest = 0
        for name, region in self.world.items():
            for shard in region.stream.shards:
                digest = zlib.crc32(repr((name, shard.id, shard.records)).encode(), digest)
        return digest
