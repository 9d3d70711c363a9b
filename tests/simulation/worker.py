"""One region's replicator in the simulation: the shipping code, one operation at a time.

Lineage, transformer, flow and protocol steps are the product's own; only the loop around them is
the simulator's, so that it can stop anywhere. A crash forgets everything but the checkpoints. What
a checkpoint says is held against the ledger's own account.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from conflict.merge import Delivery, Settlement, Steps
from conflict.operations import AnyOperation, Result
from replicator.flow import Flow
from replicator.records import After, Finished, Record, Shard, further
from replicator.shards import Lineage
from replicator.tasks import DeliverTask, SettleTask, Task
from replicator.transformer import Transformer
from simulation.coverage import Coverage, Situation, is_ahead
from simulation.ledger import Ledger, RecordId
from simulation.points import (
    DESCRIBE,
    PAGE,
    SAVE,
    SAVE_END,
    SAVE_HOME,
    Moment,
    Probe,
    point_of,
)
from simulation.region import Region, believed, key_of
from simulation.schedule import FUTURE_BOUND_US, Faults, Schedule
from support.memory import MARKER, MemoryShard

HOME_SLACK_US = 3_000
"""More than the clocks of the schedules differ."""

Tell = Callable[[str, str, object], None]
"""Told of each thing done: who, what, and the value it concerns."""


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass(slots=True)
class _Running:
    """A task between two of its operations.

    `operation`: the call that is to be made (again); `answer`: the result of the last one.
    """

    task: Task
    steps: Steps[object]
    operation: AnyOperation | None = None
    answer: Result = None


@dataclass(slots=True)
class _Cursor:
    """How far an open shard has been read, and where reading began: indices into its records."""

    shard: MemoryShard
    begun: int
    index: int


@dataclass(slots=True)
class _Life:
    """What a crash forgets."""

    flow: Flow
    ledger: Ledger
    running: list[_Running]


class Worker:
    """The replicator of one source region. Every `step` is one operation, page or checkpoint."""

    def __init__(
        self,
        world: Mapping[str, Region],
        home: str,
        *,
        schedule: Schedule,
        rng: random.Random,
        coverage: Coverage,
        tell: Tell | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.home = home
        self._probe = probe
        self._world, self._rng, self._coverage, self._tell = world, rng, coverage, tell
        self._targets = [name for name in schedule.regions if name != home]
        self._mode, self._page_max = schedule.mode, schedule.page_max
        self._faults: Faults = schedule.faults
        self._transformer = Transformer(
            home=home,
            mode=schedule.mode,
            marker=MARKER,
            key_of=key_of,
            ttl_deletes=schedule.ttl_deletes,
            future_bound_us=FUTURE_BOUND_US + HOME_SLACK_US,
        )
        self._stream = world[home].stream
        self._settled: set[RecordId] = set()
        self.checkpoints: dict[str, After | Finished] = {}
        self._at_home: dict[str, After | Finished] = {}
        self._dead: _Life | None = None
        self.rereads = True
        """Whether pages may be read twice."""
        self.gaps: list[str] = []
        """What the stream no longer held when it was due."""
        self._generation = self._stream.generation
        self._begin()

    def _begin(self) -> None:
        flow = Flow(home=self.home, targets=self._targets, mode=self._mode)
        flow.resume(dict(self._at_home))
        self._life = _Life(flow, Ledger(self._mode, self._targets, self._settled), [])
        self._lineage = Lineage(self.checkpoints)
        self._cursors: list[_Cursor] = []

    def crash(self) -> None:
        """Forget everything but the checkpoints; what was under way may go on as a zombie."""
        faults, rng = self._faults, self._rng
        self._note(Situation.CRASH, self.checkpoints)
        if self._dead is None and faults.zombie and rng.random() < faults.zombie:
            self._dead = self._life
        if faults.rewind and rng.random() < faults.rewind:
            self.rewind()
        self._begin()

    def restart(self, *, orderly: bool) -> None:
        """Begin anew from older positions. `orderly`: as SIGTERM does, with a last save."""
        if orderly:
            self._checkpoint()
        self.rewind()

    def _die(self, *, overtaken: bool = False) -> None:
        """End at a point that a probe has chosen; one that was overtaken goes on beside."""
        self._note(Situation.CRASH, self.checkpoints)
        if overtaken and self._dead is None:
            self._dead = self._life
        self._begin()

    def _moment(self, point: str) -> Moment | None:
        return self._probe.at(point) if self._probe else None

    def rewind(self) -> None:
        """Begin anew from older positions, as if a target had been out of reach since then.

        What was saved as settled at home is known to be.
        """
        self._note(Situation.REWOUND, None)
        for shard in self._stream.shards:
            position = self.checkpoints.pop(shard.id, None)
            if position is None or not shard.records:
                continue
            self._at_home[shard.id] = further(self._at_home.get(shard.id), position)
            low = shard.records[0].sequence
            high = position.sequence if isinstance(position, After) else shard.records[-1].sequence
            sequence = self._rng.randint(low - 1, max(low, high))
            if sequence >= low:
                self.checkpoints[shard.id] = After(sequence)
        self._begin()

    def come_back(self) -> None:
        """Begin anew after more than a stream's retention, as `keeper.Keeper.load` does: that alone
        is a gap, and the positions of another stream mean nothing.

        A zombie does not come back with it: a process that slept for a day in the midst of a put
        may bring back what was deleted while no stream told of it.
        """
        self._dead = None
        self._note_gap("unread for longer than a stream holds")
        if self._stream.generation != self._generation:
            self._generation = self._stream.generation
            self.checkpoints.clear()
        self._begin()

    @property
    def caught_up(self) -> bool:
        """Whether it has read all there is."""
        read = {cursor.shard.id: cursor.index for cursor in self._cursors}
        return all(
            isinstance(self.checkpoints.get(shard.id), Finished)
            or read.get(shard.id, -1) == len(shard.records)
            for shard in self._stream.shards
            if not shard.gone
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and every record has been read and checkpointed."""
        if self._life.running or self._dead or self._life.flow.unsettled:
            return False
        read = {cursor.shard.id: cursor.index for cursor in self._cursors}
        return all(
            isinstance(self.checkpoints.get(shard.id), Finished)
            or (not shard.closed and read.get(shard.id, -1) == len(shard.records))
            for shard in self._stream.shards
            if not shard.gone
        )

    def step(self) -> None:
        """Do one thing."""
        rng = self._rng
        if self._dead and rng.random() < 0.3:
            self._coverage.note(Situation.ZOMBIE)
            self._advance(self._dead)
            if not self._dead.running:
                self._dead = None
        elif self._life.running and rng.random() < 0.85:
            self._advance(self._life)
        else:
            chance = rng.random()
            if chance < 0.7:
                self._read()
            elif chance < 0.85:
                self._checkpoint()
            else:
                self._discover()

    def _limit_us(self, region: str) -> int:
        """How far ahead a stamp may lie that is read there; see compose.HOME_SLACK_US."""
        slack_us = HOME_SLACK_US if region == self.home else 0
        return self._world[self.home].now_us + FUTURE_BOUND_US + slack_us

    # --- tasks --------------------------------------------------------------------------------

    def _advance(self, life: _Life) -> None:
        """One call of one task, or its end."""
        if not life.running:
            return
        index = self._rng.randrange(len(life.running))
        current = life.running[index]
        if current.operation is None:
            try:
                current.operation = current.steps.send(current.answer)
            except StopIteration as end:
                life.running[index] = life.running[-1]
                life.running.pop()
                self._end(life, current.task, end.value)
                return
        chance = self._rng.random()
        if chance < self._faults.throttle:
            self._coverage.note(Situation.THROTTLED)
            return
        moment = self._moment(point_of(current.steps)) if life is self._life else None
        if moment in (Moment.BEFORE, Moment.OVERTAKEN):
            self._die(overtaken=moment is Moment.OVERTAKEN)
            return
        lost = chance > 1 - self._faults.lost_answer or moment is Moment.LOST
        self._call(current, current.operation, lost=lost)
        if moment is Moment.AFTER:
            self._die()

    def _call(self, current: _Running, operation: AnyOperation, *, lost: bool) -> None:
        """Make a call; where its answer is lost it is made again."""
        region = self._world[operation.region]
        answer = believed(region.execute(operation), self._limit_us(operation.region))
        self._coverage.operation(current.task, operation, answer, region, self._mode)
        if self._tell:
            self._tell(self.home, "call", (operation, answer))
        if lost:
            self._coverage.note(Situation.LOST_ANSWER)
            return
        current.operation, current.answer = None, answer

    def _enter(self, life: _Life, tasks: list[Task]) -> None:
        for task in tasks:
            life.ledger.begun(task)
            life.running.append(_Running(task, task.start()))
            if is_ahead(task):
                self._coverage.note(Situation.AHEAD)

    def _end(self, life: _Life, task: Task, result: object) -> None:
        self._coverage.ended(task, result)
        if self._tell:
            self._tell(self.home, "end", result)
        if isinstance(task, SettleTask):
            assert isinstance(result, Settlement)
            life.ledger.ended_settle(task, result)
            ready = life.flow.settled(task, result)
        elif isinstance(task, DeliverTask):
            assert isinstance(result, Delivery)
            life.ledger.ended_deliver(task)
            ready = life.flow.delivered(task)
        else:
            life.ledger.ended_release(task)
            ready = life.flow.released(task)
        self._enter(life, ready)

    # --- the stream ---------------------------------------------------------------------------

    def _read(self) -> None:
        """One page of one open shard."""
        if not self._cursors:
            self._discover()
            return
        moment = self._moment(PAGE)
        if moment is Moment.BEFORE:
            self._die()
        if moment in (Moment.BEFORE, Moment.LOST):
            return
        self._read_page()
        if moment is Moment.AFTER:
            self._die()

    def _read_page(self) -> None:
        index = self._rng.randrange(len(self._cursors))
        cursor, life, page_max = self._cursors[index], self._life, self._page_max
        shard = cursor.shard
        twice = self.rereads and self._rng.random() < self._faults.reread
        if twice and cursor.index > cursor.begun:
            self._note(Situation.REREAD, shard.id)
            cursor.index = max(cursor.begun, cursor.index - self._rng.randint(1, page_max))
        page = shard.records[cursor.index : cursor.index + self._rng.randint(1, page_max)]
        if page:
            self._offer(shard.id, page)
            cursor.index += len(page)
        if shard.closed and cursor.index == len(shard.records):
            self._cursors.pop(index)
            life.flow.end(shard.id)
            self._lineage.ended(shard.id)

    def _offer(self, shard: str, page: Sequence[Record]) -> None:
        """Hand a page on, as the reader does."""
        life, now_us = self._life, self._world[self.home].now_us
        changes = [self._transformer.change(record, now_us) for record in page]
        again = sum(life.ledger.read(shard, change) for change in changes)
        self._coverage.note(Situation.REPLAYED, again)
        folded = life.flow.coalesced
        self._enter(life, life.flow.offer(shard, changes))
        self._coverage.note(Situation.FOLDED, life.flow.coalesced - folded)

    def _discover(self) -> None:
        moment, described = self._moment(DESCRIBE), self._described()
        if moment is not None:
            if moment is not Moment.LOST:
                self._die()
            return
        self._lineage.observe(described)
        for name, start in self._lineage.ready():
            shard = self._stream.shard(name)
            after = start.sequence if isinstance(start, After) else 0
            index = sum(record.sequence <= after for record in shard.records)
            self._lineage.opened(name)
            if after < shard.trimmed_to and isinstance(start, After):
                self._note_gap(f"{name}: trimmed")
            if shard.gone:
                self._life.flow.end(name)
                self._lineage.ended(name)
                continue
            self._cursors.append(_Cursor(shard, index, index))

    def _described(self) -> tuple[Shard, ...]:
        """The shards as DescribeStream lists them; now and then the youngest are not listed yet."""
        shards = self._stream.describe()
        if len(shards) > 1 and self._rng.random() < 0.3:
            return shards[: self._rng.randint(1, len(shards))]
        return shards

    def _checkpoint(self) -> None:
        if self._checkpoint_at_home():
            self._checkpoint_everywhere()

    def _checkpoint_at_home(self) -> bool:
        """Save what is settled at home; whether the process lived through it."""
        for name, position in self._life.flow.positions_at_home().items():
            higher = further(self._at_home.get(name), position)
            moment = self._moment(SAVE_HOME) if higher != self._at_home.get(name) else None
            if moment is not Moment.BEFORE:
                self._at_home[name] = higher
            if moment in (Moment.BEFORE, Moment.AFTER):
                self._die()
                return False
        return True

    def _checkpoint_everywhere(self) -> None:
        for name, position in self._life.flow.positions().items():
            passed_over = self._life.ledger.unsettled_below(self._stream.shard(name), position)
            if passed_over:
                raise Violation(
                    f"checkpoint {position} of {self.home}/{name} is above unsettled {passed_over}"
                )
            if self.checkpoints.get(name) != position and self._tell:
                self._tell(self.home, "checkpoint", (name, position))
            moment = self._moment_of_save(name, position)
            if moment is not Moment.BEFORE:
                self.checkpoints[name] = position
            if moment in (Moment.BEFORE, Moment.AFTER):
                self._die()
                return
            if isinstance(position, Finished) and moment is not Moment.LOST:
                self._life.flow.forget(name)

    def _note_gap(self, reason: str) -> None:
        self._note(Situation.GAP, reason)
        self.gaps.append(reason)

    def _moment_of_save(self, name: str, position: After | Finished) -> Moment | None:
        """What hits a save. A position that is stored already is not stored again."""
        if self.checkpoints.get(name) == position:
            return None
        return self._moment(SAVE_END if isinstance(position, Finished) else SAVE)

    def _note(self, situation: Situation, about: object) -> None:
        self._coverage.note(situation)
        if self._tell:
            self._tell(self.home, situation, about)
