"""The low-water mark of one shard: beneath which sequence everything is settled.

Records are settled in any order; the mark passes one only when everything before it is. It is what
may be checkpointed, so it must never lie above a record that is not settled.

Pure: this module must not know what settling a record takes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from replicator.records import After, Finished


class Watermark:
    """The low-water mark of one shard. `before`: how far it was settled in an earlier session."""

    def __init__(self, before: After | Finished | None = None) -> None:
        self._open: deque[list[int]] = deque()  # [sequence, readings unsettled, bytes], as read
        self._entries: dict[int, list[int]] = {}
        self._low: int | None = before.sequence if isinstance(before, After) else None
        self._newest: int | None = None
        self._finished_before = isinstance(before, Finished)
        self.ended = False
        self.under_way = self.unsettled_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, sequence: int, size_bytes: int = 0) -> None:
        """A record was read. One that is open already (read again) keeps its place, and is settled
        only when each reading of it is."""
        entry = self._entries.get(sequence)
        if entry is None:
            entry = self._entries[sequence] = [sequence, 1, size_bytes]
            self._open.append(entry)
            if self._newest is None or sequence > self._newest:
                self._newest = sequence
            self.under_way += 1
        else:
            self.under_way += not entry[1]
            entry[1] += 1
            entry[2] += size_bytes
        self.unsettled_bytes += size_bytes

    def settle(self, sequence: int) -> None:
        """A record is durable in every target, or parked durably, or needs nothing."""
        entry = self._entries.get(sequence)
        if entry is not None:
            entry[1] -= 1
            if not entry[1]:
                self.under_way -= 1
                self.unsettled_bytes -= entry[2]
        while self._open and not self._open[0][1]:
            sequence = self._open.popleft()[0]
            del self._entries[sequence]
            if self._low is None or sequence > self._low:
                self._low = sequence

    def covers(self, sequence: int) -> bool:
        """Whether a record has been settled, as far as the mark tells."""
        return self._finished_before or (self._low is not None and sequence <= self._low)

    @property
    def position(self) -> After | Finished | None:
        """How far the shard is settled; None while nothing is."""
        if self.ended and not self._entries:
            return Finished()
        return None if self._low is None else After(self._low)

    @property
    def read_to(self) -> After | Finished | None:
        """How far the shard is read; None while nothing is."""
        if self.ended:
            return Finished()
        return None if self._newest is None else After(self._newest)


@dataclass(frozen=True, slots=True)
class Marks:
    """How far a shard is settled in every target and at home."""

    everywhere: Watermark
    at_home: Watermark

    def add(self, sequence: int, size_bytes: int) -> None:
        self.everywhere.add(sequence, size_bytes)
        self.at_home.add(sequence)

    def settle(self, sequence: int) -> None:
        """A record needs nothing."""
        self.at_home.settle(sequence)
        self.everywhere.settle(sequence)


Token: TypeAlias = tuple[Marks, int]
"""A record whose settling waits for something."""
