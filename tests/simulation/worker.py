"""One region's replicator in the simulation: the shipping code, one operation at a time.

Lineage, transformer, flow and protocol steps are the product's own; only the loop around them is
the simulator's, so that it can stop anywhere. A crash forgets everything but the checkpoints. What
a checkpoint says is held against the ledger's own account.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from conflict.merge import Delivery, Settlement, Steps
from conflict.operations import AnyOperation, Result
from replicator.flow import DeliverTask, Flow, SettleTask, Task
from replicator.records import After, Finished, Shard
from replicator.shards import Lineage
from replicator.transformer import Transformer
from simulation.coverage import Coverage, Situation, is_ahead
from simulation.ledger import Ledger, RecordId
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
    ) -> None:
        self.home = home
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
        self._dead: _Life | None = None
        self.rereads = True
        """Whether pages may be read twice."""
        self._begin()

    def _begin(self) -> None:
        self._life = _Life(
            Flow(home=self.home, targets=self._targets, mode=self._mode),
            Ledger(self._mode, self._targets, self._settled),
            [],
        )
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

    def rewind(self) -> None:
        """Begin anew from older positions: what is settled will be processed again."""
        self._note(Situation.REWOUND, None)
        for shard in self._stream.shards:
            position = self.checkpoints.pop(shard.id, None)
            if position is None or not shard.records:
                continue
            low = shard.records[0].sequence
            high = position.sequence if isinstance(position, After) else shard.records[-1].sequence
            sequence = self._rng.randint(low - 1, max(low, high))
            if sequence >= low:
                self.checkpoints[shard.id] = After(sequence)
        self._begin()

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
        self._call(current, current.operation)

    def _call(self, current: _Running, operation: AnyOperation) -> None:
        """Make a call, which may be refused, or whose answer may be lost: then it is made again."""
        chance = self._rng.random()
        if chance < self._faults.throttle:
            self._coverage.note(Situation.THROTTLED)
            return
        region = self._world[operation.region]
        answer = believed(region.execute(operation), self._limit_us(operation.region))
        self._coverage.operation(current.task, operation, answer, region, self._mode)
        if self._tell:
            self._tell(self.home, "call", (operation, answer))
        if chance > 1 - self._faults.lost_answer:
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
        index = self._rng.randrange(len(self._cursors))
        cursor, life, page_max = self._cursors[index], self._life, self._page_max
        shard = cursor.shard
        twice = self.rereads and self._rng.random() < self._faults.reread
        if twice and cursor.index > cursor.begun:
            self._note(Situation.REREAD, shard.id)
            cursor.index = max(cursor.begun, cursor.index - self._rng.randint(1, page_max))
        page = shard.records[cursor.index : cursor.index + self._rng.randint(1, page_max)]
        now_us = self._world[self.home].now_us
        changes = [self._transformer.change(record, now_us) for record in page]
        again = sum(life.ledger.read(shard.id, change) for change in changes)
        self._coverage.note(Situation.REPLAYED, again)
        folded = life.flow.coalesced
        self._enter(life, life.flow.offer(shard.id, changes))
        self._coverage.note(Situation.FOLDED, life.flow.coalesced - folded)
        cursor.index += len(page)
        if shard.closed and cursor.index == len(shard.records):
            self._cursors.pop(index)
            life.flow.end(shard.id)
            self._lineage.ended(shard.id)

    def _discover(self) -> None:
        self._lineage.observe(self._described())
        for name, start in self._lineage.ready():
            shard = self._stream.shard(name)
            after = start.sequence if isinstance(start, After) else 0
            index = sum(record.sequence <= after for record in shard.records)
            self._lineage.opened(name)
            self._cursors.append(_Cursor(shard, index, index))

    def _described(self) -> tuple[Shard, ...]:
        """The shards as DescribeStream lists them; now and then the youngest are not listed yet."""
        shards = self._stream.describe()
        if len(shards) > 1 and self._rng.random() < 0.3:
            return shards[: self._rng.randint(1, len(shards))]
        return shards

    def _checkpoint(self) -> None:
        for name, position in self._life.flow.positions().items():
            passed_over = self._life.ledger.unsettled_below(self._stream.shard(name), position)
            if passed_over:
                raise Violation(
                    f"checkpoint {position} of {self.home}/{name} is above unsettled {passed_over}"
                )
            if self.checkpoints.get(name) != position and self._tell:
                self._tell(self.home, "checkpoint", (name, position))
            self.checkpoints[name] = position
            if isinstance(position, Finished):
                self._life.flow.forget(name)

    def _note(self, situation: Situation, about: object) -> None:
        self._coverage.note(situation)
        if self._tell:
            self._tell(self.home, situation, about)
