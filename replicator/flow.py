"""Which step runs when: one change in flight per key, and what is settled.

A change passes three stations. At home one change per key is settled at a time; those waiting
behind it fold into the newest. What a change ships goes to every target on its own: one delivery
per key and target at a time, the newest waiting, so that a slow target delays only itself. When
the last target has it, the change is settled, and with it every change that it replaced.

    offer ─► home lane (per key) ─► settle ─► link lane (per key and target) ─► deliver ─► settled
                                                                                   │
                                                watermark of the shard ◄───────────┘

The position of a shard is its low-water mark: the highest sequence beneath which everything is
settled. It is the only thing that may be checkpointed. A second mark tells what is settled at home;
where a target is out of reach it runs ahead, and when the records between the two are read again,
the protocol is told so.

A target may be detached, when it is so slow that it would hold up the others: what is under way to
it is forgotten here, and positions no longer speak for it. Whoever detaches one keeps the durable
checkpoint where it is until that target has been brought what it missed (bulkhead.py), and held
writes are kept until then.

Pure: this module hands out tasks and is told how they ended; who runs them, and when, it must
not know. Not safe for threads: one owner calls it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

from conflict.merge import Settlement, Shipment
from conflict.origin import Change
from replicator.records import After, Finished, Mode
from replicator.tasks import (
    PLANS,
    DeliverTask,
    Entry,
    ReleaseTask,
    SetAside,
    SettleTask,
    Task,
    Voyage,
)
from replicator.transformer import fold, folds_into
from replicator.watermark import Marks, Token, Watermark

NEVER_US = 1 << 62
"""Later than any time."""


@dataclass(slots=True)
class _HomeLane:
    """One key at home: since when, what waits, and the highest sequence that was taken in."""

    since_us: int
    latest: int
    waiting: deque[Entry]


@dataclass(slots=True)
class _LinkLane:
    """One key on its way to one target: since when, and the newest that waits behind it."""

    since_us: int
    under_way: list[Voyage]
    waiting: Shipment | None = None
    waiting_since_us: int = 0
    voyages: list[Voyage] = field(default_factory=list)


class Flow:
    """The changes of one table and source region, from the stream to every target."""

    def __init__(self, *, home: str, targets: Sequence[str], mode: Mode) -> None:
        self._home = home
        self._before: Mapping[str, After | Finished] = {}
        self._plan = PLANS[mode]
        self._lanes: dict[str, _HomeLane] = {}
        self._links: dict[str, dict[str, _LinkLane]] = {target: {} for target in targets}
        self._shards: dict[str, Marks] = {}
        self._keeps_held = self._all_again = False
        self.coalesced = 0
        self.owed = dict.fromkeys(targets, 0)
        """By target, how many records are settled at home and have not arrived there."""

    def resume(self, at_home: Mapping[str, After | Finished]) -> None:
        """Before anything is read: how far an earlier session has settled each shard at home."""
        self._before = at_home

    def resume_all(self) -> None:
        """Before anything is read: whatever will be has been settled at home."""
        self._all_again = True

    # --- reading ------------------------------------------------------------------------------

    def offer(
        self, shard: str, entries: Iterable[Change | SetAside], sizes_bytes: Iterable[int] = ()
    ) -> list[Task]:
        """Take in changes as read from a shard, in order; returns what can start now.

        `sizes_bytes`: what each takes in memory, about; 0 where left out.

        A whole page is taken in before anything starts, so that a hot key folds at its best, and
        before anything is settled, so that no position can pass over a record not yet taken in.
        """
        marks = self._marks(shard)
        idle: dict[str, None] = {}
        settled: list[int] = []
        for entry, size_bytes in zip(entries, chain(sizes_bytes, repeat(0)), strict=False):
            again = self._all_again or marks.at_home.covers(entry.sequence)
            marks.add(entry.sequence, size_bytes)
            if isinstance(entry, SetAside) or entry.nature.needs_nothing:
                settled.append(entry.sequence)
                continue
            change = replace(entry, again=True) if again else entry
            if self._queue(change, (marks, change.sequence)):
                idle[change.key.id] = None
        for sequence in settled:
            marks.settle(sequence)
        return [self._start(key) for key in idle]

    def _marks(self, shard: str) -> Marks:
        marks = self._shards.get(shard)
        if marks is None:
            marks = Marks(Watermark(), Watermark(self._before.get(shard)))
            self._shards[shard] = marks
        return marks

    def end(self, shard: str) -> None:
        """The shard was read to its end."""
        marks = self._marks(shard)
        marks.everywhere.ended = marks.at_home.ended = True

    def forget(self, shard: str) -> None:
        """Drop a shard whose end is checkpointed."""
        self._shards.pop(shard, None)

    def _queue(self, change: Change, token: Token) -> bool:
        """Queue a change behind those of its key; whether the key was idle."""
        lane = self._lanes.get(change.key.id)
        if lane is None:
            entries = deque((Entry(change, [token]),))
            self._lanes[change.key.id] = _HomeLane(change.created_us, change.sequence, entries)
            return True
        if change.sequence <= lane.latest:  # when its turn comes, the first reading is settled
            change = replace(change, again=True)
        lane.latest = max(lane.latest, change.sequence)
        # What runs has been taken off the queue, so everything in it may still be replaced.
        if lane.waiting and folds_into(lane.waiting[-1].change, change):
            last = lane.waiting[-1]
            last.change = fold(last.change, change)
            last.tokens.append(token)
            self.coalesced += 1
        else:
            lane.waiting.append(Entry(change, [token]))
        return False

    def _start(self, key: str) -> Task:
        lane = self._lanes[key]
        entry = lane.waiting.popleft()
        lane.since_us = entry.change.created_us
        return SettleTask(self._home, entry, self._plan)

    # --- how tasks ended ----------------------------------------------------------------------

    def settled(self, task: SettleTask, result: Settlement) -> list[Task]:
        """A change is settled at home; returns what can start now."""
        for marks, sequence in task.entry.tokens:
            marks.at_home.settle(sequence)
        tasks = self._next_at_home(task)
        shipment = result.shipment
        if shipment is None or not self._links:
            return tasks + self._arrived(task.entry, result.release)
        voyage = Voyage(task.entry, result.release, len(self._links), result.conflict)
        for target in self._links:
            started = self._ship(target, shipment, voyage)
            if started is not None:
                tasks.append(started)
        return tasks

    def delivered(self, task: DeliverTask) -> list[Task]:
        """A shipment is durable in a target, beaten there, or parked durably."""
        links = self._links.get(task.region, {})
        lane = links.get(task.shipment.key.id)
        if lane is None or lane.under_way is not task.voyages:
            return []  # of a time before the target was detached
        tasks = self._landed(task.region, task.voyages)
        if lane.waiting is None:
            del links[task.shipment.key.id]
        else:
            shipment, lane.under_way = lane.waiting, lane.voyages
            lane.since_us, lane.waiting, lane.voyages = lane.waiting_since_us, None, []
            tasks.append(DeliverTask(task.region, shipment, lane.under_way, self._plan))
        return tasks

    def _landed(self, target: str, voyages: list[Voyage]) -> list[Task]:
        tasks: list[Task] = []
        for voyage in voyages:
            self.owed[target] -= len(voyage.entry.tokens)
            voyage.remaining -= 1
            if voyage.remaining == 0:
                tasks += self._arrived(voyage.entry, voyage.release)
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
        if self._lanes[key].waiting:
            return [self._start(key)]
        del self._lanes[key]
        return []

    def _ship(self, target: str, shipment: Shipment, voyage: Voyage) -> Task | None:
        """Queue a shipment for a target. Of those waiting only the newest is kept."""
        lanes = self._links[target]
        self.owed[target] += len(voyage.entry.tokens)
        lane = lanes.get(shipment.key.id)
        if lane is None:
            lane = lanes[shipment.key.id] = _LinkLane(shipment.created_us, [voyage])
            return DeliverTask(target, shipment, lane.under_way, self._plan)
        lane.voyages.append(voyage)
        if lane.waiting is None:
            lane.waiting, lane.waiting_since_us = shipment, shipment.created_us
        else:
            lane.waiting = self._plan.newest(lane.waiting, shipment)
        return None

    def _arrived(self, entry: Entry, release: bool) -> list[Task]:
        if release and not self._keeps_held:
            return [ReleaseTask(self._home, entry, self._plan)]
        for marks, sequence in entry.tokens:
            marks.everywhere.settle(sequence)
        return []

    # --- targets that hold up the others ------------------------------------------------------

    @property
    def attached(self) -> tuple[str, ...]:
        """The targets that are shipped to."""
        return tuple(self._links)

    def detach(self, target: str) -> None:
        """Forget what is under way to a target: it no longer counts for what is settled.

        From now on held writes are kept, see `keep_held`.
        """
        self._keeps_held = True
        lanes = self._links.pop(target)
        for lane in lanes.values():
            self._landed(target, lane.under_way + lane.voyages)

    def attach(self, target: str) -> None:
        """Ship to a detached target again, whatever is settled at home from now on."""
        self._links[target] = {}

    def keep_held(self, keep: bool) -> None:
        """Whether held writes are kept, because a target may still need them to be decided."""
        self._keeps_held = keep

    # --- what is settled ----------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Records read that are not durable everywhere: their images are held."""
        return sum(marks.everywhere.under_way for marks in self._shards.values())

    @property
    def unsettled(self) -> int:
        """Records read that no checkpoint may pass: those, and what is behind them."""
        return sum(len(marks.everywhere) for marks in self._shards.values())

    @property
    def unsettled_bytes(self) -> int:
        """What they take, about."""
        return sum(marks.everywhere.unsettled_bytes for marks in self._shards.values())

    def positions(self) -> dict[str, After | Finished]:
        """How far each shard is settled; shards of which nothing is are left out."""
        found = ((shard, marks.everywhere.position) for shard, marks in self._shards.items())
        return {shard: position for shard, position in found if position is not None}

    def positions_at_home(self, *, all_shards: bool = False) -> dict[str, After | Finished]:
        """How far each shard is settled at home, where that is further than in every target.

        `all_shards`: also where it is not, for a target that is detached may lack it.
        """
        found = {
            shard: marks.at_home.position
            for shard, marks in self._shards.items()
            if all_shards or len(marks.at_home) < len(marks.everywhere)
        }
        return {shard: position for shard, position in found.items() if position is not None}

    def read_to(self) -> dict[str, After | Finished]:
        """How far each shard is read; shards of which nothing is are left out."""
        found = ((shard, marks.everywhere.read_to) for shard, marks in self._shards.items())
        return {shard: position for shard, position in found if position is not None}

    def pending(self, target: str) -> tuple[int, int | None]:
        """Changes not yet durable in a target, and the creation time of the oldest.

        What is still to be settled at home counts for every target: it is behind everywhere.
        """
        return self._pending(target, self._waiting_at_home())

    def progress(self) -> tuple[int, int, dict[str, tuple[int, int | None]]]:
        """Records unsettled, changes folded, and what is pending for each target."""
        home = self._waiting_at_home()
        pending = {name: self._pending(name, home) for name in self._links}
        return self.unsettled, self.coalesced, pending

    def _waiting_at_home(self) -> list[int]:
        """When each change was created that is not settled at home."""
        created_us = [lane.since_us for lane in self._lanes.values()]
        for lane in self._lanes.values():
            if lane.waiting:
                created_us += [entry.change.created_us for entry in lane.waiting]
        return created_us

    def _pending(self, target: str, home: list[int]) -> tuple[int, int | None]:
        links = self._links[target].values()
        created_us = [link.since_us for link in links]
        created_us += [link.waiting_since_us for link in links if link.waiting is not None]
        oldest_us = min(min(home, default=NEVER_US), min(created_us, default=NEVER_US))
        return len(home) + len(created_us), None if oldest_us == NEVER_US else oldest_us
