"""One region's replicator in the simulation: the shipping code, one operation at a time.

Lineage, transformer, flow and protocol steps are the product's own; only the loop around them is
the simulator's, so that it can stop anywhere. A crash forgets everything but the checkpoints.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from conflict.merge import Steps
from conflict.operations import Image, Key, Result
from replicator.flow import DeliverTask, Flow, SettleTask, Task
from replicator.records import After, Finished, Mode
from replicator.shards import Lineage
from replicator.transformer import Transformer
from support.memory import MARKER, MemoryRegion, MemoryShard

FUTURE_BOUND_US = 5_000


def key_of(attributes: Image) -> Key:
    """The key of an item whose only key attribute is the string `id`."""
    return Key(attributes, str(attributes["id"]["S"]))


@dataclass(slots=True)
class _Running:
    """A task between two of its operations; `answer` is the result of the last one."""

    task: Task
    steps: Steps[object]
    answer: Result = None


@dataclass(slots=True)
class _Cursor:
    """How far an open shard has been read: an index into its records."""

    shard: MemoryShard
    index: int


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong, as probabilities per step."""

    lost_answer: float = 0.0
    crash: float = 0.0
    zombie: float = 0.0


class Worker:
    """The replicator of one source region. Every `step` is one operation, page or checkpoint."""

    def __init__(
        self,
        world: Mapping[str, MemoryRegion],
        home: str,
        *,
        targets: list[str],
        mode: Mode,
        rng: random.Random,
        faults: Faults,
        page_max: int,
    ) -> None:
        self._world, self._home, self._targets, self._mode = world, home, targets, mode
        self._rng, self._faults, self._page_max = rng, faults, page_max
        self._transformer = Transformer(
            home=home,
            mode=mode,
            marker=MARKER,
            key_of=key_of,
            future_bound_us=FUTURE_BOUND_US,
        )
        self._stream = world[home].stream
        self.checkpoints: dict[str, After | Finished] = {}
        self._zombies: list[_Running] = []
        self._zombie_flow: Flow | None = None
        self._start()

    def _start(self) -> None:
        self._flow = Flow(home=self._home, targets=self._targets, mode=self._mode)
        self._lineage = Lineage(self.checkpoints)
        self._cursors: list[_Cursor] = []
        self._running: list[_Running] = []

    def crash(self) -> None:
        """Forget everything but the checkpoints; what was under way may go on as a zombie."""
        if self._faults.zombie and self._rng.random() < self._faults.zombie:
            self._zombies, self._zombie_flow = self._running, self._flow
        self._start()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and every record has been read and checkpointed."""
        if self._running or self._zombies or self._flow.unsettled:
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
        if self._zombies and rng.random() < 0.3:
            assert self._zombie_flow is not None
            self._advance(self._zombies, self._zombie_flow)
        elif self._running and rng.random() < 0.85:
            self._advance(self._running, self._flow)
        else:
            chance = rng.random()
            if chance < 0.7:
                self._read()
            elif chance < 0.85:
                self._checkpoint()
            else:
                self._discover()

    def _advance(self, running: list[_Running], flow: Flow) -> None:
        """One operation of one task, or its end."""
        index = self._rng.randrange(len(running))
        current = running[index]
        try:
            operation = current.steps.send(current.answer)
        except StopIteration as end:
            running[index] = running[-1]
            running.pop()
            self._enter(running, _finish(flow, current.task, end.value))
            return
        region = self._world[operation.region]
        current.answer = region.execute(operation)
        if self._faults.lost_answer and self._rng.random() < self._faults.lost_answer:
            current.answer = region.execute(operation)  # the answer was lost, the call made again

    def _enter(self, running: list[_Running], tasks: list[Task]) -> None:
        running.extend(_Running(task, task.start()) for task in tasks)

    def _read(self) -> None:
        """One page of one open shard."""
        if not self._cursors:
            self._discover()
            return
        index = self._rng.randrange(len(self._cursors))
        cursor = self._cursors[index]
        shard = cursor.shard
        size = self._rng.randint(1, self._page_max)
        page = shard.records[cursor.index : cursor.index + size]
        now_us = self._world[self._home].now_us
        changes = [self._transformer.change(record, now_us) for record in page]
        self._enter(self._running, self._flow.offer(shard.id, changes))
        cursor.index += len(page)
        if shard.closed and cursor.index == len(shard.records):
            self._cursors.pop(index)
            self._flow.end(shard.id)
            self._lineage.ended(shard.id)

    def _discover(self) -> None:
        self._lineage.observe(self._stream.describe())
        for name, start in self._lineage.ready():
            shard = self._stream.shard(name)
            after = start.sequence if isinstance(start, After) else 0
            index = sum(record.sequence <= after for record in shard.records)
            self._lineage.opened(name)
            self._cursors.append(_Cursor(shard, index))

    def _checkpoint(self) -> None:
        for shard, position in self._flow.positions().items():
            self.checkpoints[shard] = position
            if isinstance(position, Finished):
                self._flow.forget(shard)


def _finish(flow: Flow, task: Task, result: object) -> list[Task]:
    if isinstance(task, SettleTask):
        return flow.settled(task, result)  # type: ignore[arg-type]
    if isinstance(task, DeliverTask):
        return flow.delivered(task)
    return flow.released(task)
