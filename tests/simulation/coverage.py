"""How often the situations that matter came up: a simulation in which they do not proves nothing.

Everything here is seen from outside: operations with their answers, and how tasks ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from conflict.merge import Delivery, Effect, Settlement, is_conflict
from conflict.operations import (
    AnyOperation,
    Delete,
    Get,
    Hold,
    KeyState,
    Outcome,
    Put,
    Result,
    Stamp,
)
from conflict.origin import Nature
from conflict.version import Version
from replicator.records import Mode
from replicator.tasks import DeliverTask, SettleTask, Task
from support.memory import MemoryRegion


class Situation(StrEnum):
    """What can come up in a schedule."""

    STAMPED = "local writes stamped"
    GUARDED = "stamps refused by their guard"
    HELD = "writes held"
    RESTORED = "held writes decided"
    PUT_BACK = "local writes put back over foreign ones"
    LIFTED = "writes lifted over a tombstone"
    POLICED = "items taken out by their own region"
    FINISHED = "marked items taken out by their own region"
    CONFLICT = "conflicts decided"
    STALE = "deliveries beaten"
    DUPLICATE = "deliveries repeated"
    FOLDED = "records folded"
    PASSED = "shipments replaced on the way"
    REPLAYED = "settled records processed again"
    EXPIRED = "items expired"
    AHEAD = "stamps from the future not believed"
    READ_BACK = "one-way: images read back"
    REORDERED = "one-way: versions lifted by sequence"
    LOOKED_AGAIN = "one-way: puts undone by a second look"
    LOST_ANSWER = "answers lost"
    THROTTLED = "calls refused"
    REREAD = "pages read twice"
    CRASH = "crashes"
    REWOUND = "checkpoints moved back"
    ZOMBIE = "operations of the dead"
    SPLIT = "shards split or rotated"
    LOST = "records lost to retention"
    GAP = "gaps told"
    MENDED = "keys mended"
    UNDECIDED = "keys that a person decided"
    LAST_DELETE = "last writes that delete"
    LAST_PUT = "last writes that put"


class Coverage:
    """Counts of situations."""

    def __init__(self) -> None:
        self.counts: Counter[Situation] = Counter()

    def note(self, situation: Situation, times: int = 1) -> None:
        """Something came up."""
        self.counts[situation] += times

    def operation(
        self,
        task: Task,
        operation: AnyOperation,
        answer: Result,
        region: MemoryRegion,
        mode: Mode,
    ) -> None:
        """An operation was carried out for a task."""
        if isinstance(task, SettleTask):
            self._at_home(task, operation, answer, region)
        if mode is Mode.ONE_WAY:
            self._one_way(task, operation, answer)

    def ended(self, task: Task, result: object) -> None:
        """A task ended."""
        if isinstance(result, Settlement) and isinstance(task, SettleTask):
            if result.conflict:
                self.note(Situation.CONFLICT)
                local = task.entry.change.nature.is_local_put
                self.note(Situation.PUT_BACK if local else Situation.RESTORED)
        elif isinstance(result, Delivery) and isinstance(task, DeliverTask):
            if is_conflict(task.shipment, result):
                self.note(Situation.CONFLICT)
            if result.effect is Effect.STALE:
                self.note(Situation.STALE)
            elif result.effect is Effect.DUPLICATE:
                self.note(Situation.DUPLICATE)
            self.note(Situation.PASSED, len(task.voyages) - 1)

    def _at_home(
        self, task: SettleTask, operation: AnyOperation, answer: Result, region: MemoryRegion
    ) -> None:
        nature = task.entry.change.nature
        done = isinstance(answer, Outcome) and answer.done
        if isinstance(operation, Hold):
            self.note(Situation.HELD)
        elif isinstance(operation, Delete) and done:
            if nature in (Nature.ARRIVED, Nature.MARKED):
                police = nature is Nature.ARRIVED
                self.note(Situation.POLICED if police else Situation.FINISHED)
        elif isinstance(operation, Stamp) and nature.is_local_put:
            assert isinstance(answer, Outcome)
            if done:
                self.note(Situation.STAMPED)
                self._lift(operation.version, region.states.get(operation.key.id))
            elif operation.guard and answer.item and _holds(operation, answer):
                self.note(Situation.GUARDED)
        elif isinstance(operation, Put) and done and operation.item.version:
            self._lift(operation.item.version, region.states.get(operation.key.id))

    def _lift(self, version: Version, state: KeyState | None) -> None:
        tombstone = state.tombstone if state else None
        if tombstone is not None and version.time_us == tombstone.time_us + 1:
            self.note(Situation.LIFTED)

    def _one_way(self, task: Task, operation: AnyOperation, answer: Result) -> None:
        if isinstance(operation, Get) and isinstance(task, SettleTask):
            self.note(Situation.READ_BACK)
        if not isinstance(task, DeliverTask):
            return
        done = isinstance(answer, Outcome) and answer.done
        shipment = task.shipment
        if isinstance(operation, Delete) and done and shipment.item is not None:
            self.note(Situation.LOOKED_AGAIN)
        elif isinstance(operation, Put) and operation.item.version != shipment.version:
            self.note(Situation.REORDERED)


def _holds(stamp: Stamp, answer: Outcome) -> bool:
    """Whether the marker was as expected, so that the content must have been other."""
    expected = getattr(stamp.expected, "marker", None)
    return answer.item is not None and answer.item.marker == expected


def is_ahead(task: Task) -> bool:
    """Whether a write carries a stamp that was not believed when its record was read."""
    item = task.entry.change.new if isinstance(task, SettleTask) else None
    return item is not None and item.doubted


def table(counts: Mapping[Situation, int]) -> str:
    """The counts, one line each."""
    return "\n".join(f"{counts.get(situation, 0):>9,}  {situation}" for situation in Situation)
