"""Which records are settled, kept apart from the bookkeeping that it is to judge.

A record is settled when a step at home that stands for it (its own, or that of a later record of
its key that replaced it) has ended, when every target has what that step ships or something that
replaced it on the way, and when what it held is released. Once settled a record stays so.

The ledger sees which tasks begin and end, and nothing of how `Flow` keeps its tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from conflict.merge import Settlement
from conflict.origin import Change
from conflict.version import Version
from replicator.records import After, Finished, Mode
from replicator.tasks import DeliverTask, ReleaseTask, SettleTask
from support.memory import MemoryShard

RecordId: TypeAlias = tuple[str, int]
"""Shard and sequence."""


@dataclass(slots=True)
class _Owed:
    """What must still happen before some records are settled."""

    key: str
    sequence: int
    records: list[RecordId]
    version: Version | None
    targets: set[str]
    release: bool
    since: int


class Ledger:
    """The records of one worker's life; `settled` outlives it."""

    def __init__(self, mode: Mode, targets: Collection[str], settled: set[RecordId]) -> None:
        self._mode, self._targets, self._settled = mode, targets, settled
        self._unread: dict[str, list[RecordId]] = {}
        self._under_way: dict[SettleTask, list[RecordId]] = {}
        self._begun: dict[DeliverTask, int] = {}
        self._owed: list[_Owed] = []
        self._events = 0

    def read(self, shard: str, change: Change) -> bool:
        """A record was read; returns whether it is one that was settled before."""
        record = (shard, change.sequence)
        if record in self._settled:
            return True
        if change.nature.needs_nothing:
            self._settled.add(record)
        else:
            self._unread.setdefault(change.key.id, []).append(record)
        return False

    def begun(self, task: SettleTask | DeliverTask | ReleaseTask) -> None:
        """A task starts."""
        self._events += 1
        if isinstance(task, SettleTask):
            change = task.entry.change
            waiting = self._unread.get(change.key.id, [])
            covered = [record for record in waiting if record[1] <= change.sequence]
            self._unread[change.key.id] = [r for r in waiting if r[1] > change.sequence]
            self._under_way[task] = covered
        elif isinstance(task, DeliverTask):
            self._begun[task] = self._events

    def ended_settle(self, task: SettleTask, settlement: Settlement) -> None:
        """A step at home ended."""
        shipment, change = settlement.shipment, task.entry.change
        self._events += 1
        owed = _Owed(
            key=change.key.id,
            sequence=change.sequence,
            records=self._under_way.pop(task),
            version=shipment.version if shipment else None,
            targets=set(self._targets) if shipment else set(),
            release=settlement.release,
            since=self._events,
        )
        self._owed.append(owed)
        self._close()

    def ended_deliver(self, task: DeliverTask) -> None:
        """A delivery ended."""
        begun = self._begun.pop(task)
        for owed in self._owed:
            if (
                owed.key == task.shipment.key.id
                and owed.since <= begun
                and owed.version is not None
                and self._replaces(task.shipment.version, owed.version)
            ):
                owed.targets.discard(task.region)
        self._close()

    def ended_release(self, task: ReleaseTask) -> None:
        """A held write was forgotten."""
        change = task.entry.change
        for owed in self._owed:
            if (owed.key, owed.sequence) == (change.key.id, change.sequence) and not owed.targets:
                owed.release = False
        self._close()

    def unsettled_below(self, shard: MemoryShard, position: After | Finished) -> list[int]:
        """The sequences that a checkpoint passes over though they are not settled."""
        return [
            record.sequence
            for record in shard.records
            if (isinstance(position, Finished) or record.sequence <= position.sequence)
            and (shard.id, record.sequence) not in self._settled
        ]

    def _replaces(self, delivered: Version, owed: Version) -> bool:
        if self._mode is Mode.ONE_WAY:
            return delivered.sequence >= owed.sequence
        return delivered.order >= owed.order

    def _close(self) -> None:
        for owed in self._owed:
            if not owed.targets and not owed.release:
                self._settled.update(owed.records)
        self._owed = [owed for owed in self._owed if owed.targets or owed.release]
