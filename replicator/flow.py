"""Which step runs when: one change in flight per key, and what is settled.

A change passes three stations. At home one change per key is settled at a time; those waiting
behind it fold into the newest. What a change ships goes to every target on its own: one delivery
per key and target at a time, the newest waiting, so that a slow target delays only itself. When
the last target has it, the change is settled, and with it every change that it replaced.

    offer ─► home lane (per key) ─► settle ─► link lane (per key and target) ─► deliver ─► settled
                                                                                   │
                                                watermark of the shard ◄───────────┘

The position of a shard is its low-water mark: the highest sequence beneath which everything is
settled. It is the only thing that may be checkpointed.

Pure: this module hands out tasks and is told how they ended; who runs them, and when, it must
not know. Not safe for threads: one owner calls it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from conflict.merge import Delivery, Settlement, Shipment, Steps, deliver, newest
from conflict.one_way import deliver_one_way, newest_one_way, settle_one_way
from conflict.origin import Change
from conflict.protocol import release, settle
from replicator.records import After, Finished, Mode
from replicator.transformer import fold, folds_into


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that a table's mode asks for."""

    settle: Callable[[str, Change], Steps[Settlement]]
    deliver: Callable[[str, Shipment], Steps[Delivery]]
    release: Callable[[str, Change], Steps[None]]
    newest: Callable[[Shipment, Shipment], Shipment]


PLANS = {
    Mode.MULTI_WRITER: Plan(settle, deliver, release, newest),
    Mode.ONE_WAY: Plan(settle_one_way, deliver_one_way, release, newest_one_way),
}


class Watermark:
    """The low-water mark of one shard."""

    def __init__(self) -> None:
        self._open: deque[list[int]] = deque()  # [sequence, readings unsettled], as read
        self._entries: dict[int, list[int]] = {}
        self._low: int | None = None
        self.ended = False

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, sequence: int) -> None:
        """A record was read. One that is open already (read again) keeps its place, and is settled
        only when each reading of it is."""
        entry = self._entries.get(sequence)
        if entry is None:
            entry = self._entries[sequence] = [sequence, 0]
            self._open.append(entry)
        entry[1] += 1

    def settle(self, sequence: int) -> None:
        """A record is durable in every target, or parked durably, or needs nothing."""
        entry = self._entries.get(sequence)
        if entry is not None:
            entry[1] -= 1
        while self._open and not self._open[0][1]:
            sequence = self._open.popleft()[0]
            del self._entries[sequence]
            self._low = sequence if self._low is None else max(self._low, sequence)

    @property
    def position(self) -> After | Finished | None:
        """How far the shard is settled; None while nothing is."""
        if self.ended and not self._entries:
            return Finished()
        return None if self._low is None else After(self._low)


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that no change could be made of, and that has been parked durably."""

    sequence: int


Token: TypeAlias = tuple[Watermark, int]
"""A record whose settling waits for something."""


@dataclass(slots=True)
class _Entry:
    """A change at home, with the records that are settled when it is."""

    change: Change
    tokens: list[Token]


@dataclass(slots=True)
class _Voyage:
    """A change under way to its targets."""

    entry: _Entry
    release: bool
    remaining: int
    contended: bool


@dataclass(frozen=True, slots=True, eq=False)
class SettleTask:
    """Settle a change at home."""

    region: str
    entry: _Entry
    plan: Plan

    def start(self) -> Steps[Settlement]:
        return self.plan.settle(self.region, self.entry.change)


@dataclass(frozen=True, slots=True, eq=False)
class DeliverTask:
    """Bring a shipment to one target."""

    region: str
    shipment: Shipment
    voyages: list[_Voyage]
    plan: Plan

    def start(self) -> Steps[Delivery]:
        return self.plan.deliver(self.region, self.shipment)

    def note_conflict(self) -> bool:
        """Note that the write was decided against a concurrent one; whether that is news.

        One write that wins over the same rival in several targets is one conflict.
        """
        news = not any(voyage.contended for voyage in self.voyages)
        for voyage in self.voyages:
            voyage.contended = True
        return news


@dataclass(frozen=True, slots=True, eq=False)
class ReleaseTask:
    """Forget a held write that has been decided."""

    region: str
    entry: _Entry
    plan: Plan

    def start(self) -> Steps[None]:
        return self.plan.release(self.region, self.entry.change)


Task: TypeAlias = SettleTask | DeliverTask | ReleaseTask


@dataclass(slots=True)
class _LinkLane:
    """One key on its way to one target: since when, and the newest that waits behind it."""

    since_us: int
    waiting: Shipment | None = None
    waiting_since_us: int = 0
    voyages: list[_Voyage] = field(default_factory=list)


class Flow:
    """The changes of one table and source region, from the stream to every target."""

    def __init__(self, *, home: str, targets: Sequence[str], mode: Mode) -> None:
        self._home = home
        self._plan = PLANS[mode]
        self._lanes: dict[str, deque[_Entry]] = {}
        self._settling: dict[str, int] = {}
        self._links: dict[str, dict[str, _LinkLane]] = {target: {} for target in targets}
        self._shards: dict[str, Watermark] = {}
        self.coalesced = 0

    # --- reading ------------------------------------------------------------------------------

    def offer(self, shard: str, entries: Iterable[Change | SetAside]) -> list[Task]:
        """Take in changes as read from a shard, in order; returns what can start now.

        A whole page is taken in before anything starts, so that a hot key folds at its best, and
        before anything is settled, so that no position can pass over a record not yet taken in.
        """
        watermark = self._shards.setdefault(shard, Watermark())
        idle: dict[str, None] = {}
        settled: list[int] = []
        for change in entries:
            watermark.add(change.sequence)
            if isinstance(change, SetAside) or change.nature.needs_nothing:
                settled.append(change.sequence)
            elif self._queue(change, (watermark, change.sequence)):
                idle[change.key.id] = None
        for sequence in settled:
            watermark.settle(sequence)
        return [self._start(key) for key in idle]

    def end(self, shard: str) -> None:
        """The shard was read to its end."""
        self._shards.setdefault(shard, Watermark()).ended = True

    def forget(self, shard: str) -> None:
        """Drop a shard whose end is checkpointed."""
        self._shards.pop(shard, None)

    def _queue(self, change: Change, token: Token) -> bool:
        """Queue a change behind those of its key; whether the key was idle."""
        queue = self._lanes.get(change.key.id)
        if queue is None:
            self._lanes[change.key.id] = deque((_Entry(change, [token]),))
            return True
        # What runs has been taken off the queue, so everything in it may still be replaced.
        if queue and folds_into(queue[-1].change, change):
            last = queue[-1]
            last.change = fold(last.change, change)
            last.tokens.append(token)
            self.coalesced += 1
        else:
            queue.append(_Entry(change, [token]))
        return False

    def _start(self, key: str) -> Task:
        entry = self._lanes[key].popleft()
        self._settling[key] = entry.change.created_us
        return SettleTask(self._home, entry, self._plan)

    # --- how tasks ended ----------------------------------------------------------------------

    def settled(self, task: SettleTask, result: Settlement) -> list[Task]:
        """A change is settled at home; returns what can start now."""
        tasks = self._next_at_home(task)
        shipment = result.shipment
        if shipment is None or not self._links:
            return tasks + self._arrived(task.entry, result.release)
        voyage = _Voyage(task.entry, result.release, len(self._links), result.conflict)
        for target in self._links:
            started = self._ship(target, shipment, voyage)
            if started is not None:
                tasks.append(started)
        return tasks

    def delivered(self, task: DeliverTask) -> list[Task]:
        """A shipment is durable in a target, beaten there, or parked durably."""
        tasks: list[Task] = []
        for voyage in task.voyages:
            voyage.remaining -= 1
            if voyage.remaining == 0:
                tasks += self._arrived(voyage.entry, voyage.release)
        links = self._links[task.region]
        lane = links[task.shipment.key.id]
        if lane.waiting is None:
            del links[task.shipment.key.id]
        else:
            shipment, voyages = lane.waiting, lane.voyages
            lane.since_us, lane.waiting, lane.voyages = lane.waiting_since_us, None, []
            tasks.append(DeliverTask(task.region, shipment, voyages, self._plan))
        return tasks

    def released(self, task: ReleaseTask) -> list[Task]:
        """A held write is forgotten."""
        return self._arrived(task.entry, release=False)

    def parked(self, task: Task) -> list[Task]:
        """A task that can never be done has been parked durably: it holds up nothing."""
        if isinstance(task, SettleTask):
            return self.settled(task, Settlement())
        if isinstance(task, DeliverTask):
            return self.delivered(task)
        return self.released(task)

    def _next_at_home(self, task: SettleTask) -> list[Task]:
        key = task.entry.change.key.id
        if self._lanes[key]:
            return [self._start(key)]
        del self._lanes[key], self._settling[key]
        return []

    def _ship(self, target: str, shipment: Shipment, voyage: _Voyage) -> Task | None:
        """Queue a shipment for a target. Of those waiting only the newest is kept."""
        lanes = self._links[target]
        lane = lanes.get(shipment.key.id)
        if lane is None:
            lanes[shipment.key.id] = _LinkLane(shipment.created_us)
            return DeliverTask(target, shipment, [voyage], self._plan)
        lane.voyages.append(voyage)
        if lane.waiting is None:
            lane.waiting, lane.waiting_since_us = shipment, shipment.created_us
        else:
            lane.waiting = self._plan.newest(lane.waiting, shipment)
        return None

    def _arrived(self, entry: _Entry, release: bool) -> list[Task]:
        if release:
            return [ReleaseTask(self._home, entry, self._plan)]
        for watermark, sequence in entry.tokens:
            watermark.settle(sequence)
        return []

    # --- what is settled ----------------------------------------------------------------------

    @property
    def unsettled(self) -> int:
        """Records read and not yet settled."""
        return sum(len(watermark) for watermark in self._shards.values())

    def positions(self) -> dict[str, After | Finished]:
        """How far each shard is settled; shards of which nothing is are left out."""
        found = ((shard, watermark.position) for shard, watermark in self._shards.items())
        return {shard: position for shard, position in found if position is not None}

    def pending(self, target: str) -> tuple[int, int | None]:
        """Changes not yet durable in a target, and the creation time of the oldest.

        What is still to be settled at home counts for every target: it is behind everywhere.
        """
        created_us = list(self._settling.values())
        created_us += [entry.change.created_us for queue in self._lanes.values() for entry in queue]
        for lane in self._links[target].values():
            created_us.append(lane.since_us)
            if lane.waiting is not None:
                created_us.append(lane.waiting_since_us)
        return len(created_us), min(created_us, default=None)

    def progress(self) -> tuple[int, int, dict[str, tuple[int, int | None]]]:
        """Records unsettled, changes folded, and what is pending for each target."""
        return self.unsettled, self.coalesced, {name: self.pending(name) for name in self._links}
