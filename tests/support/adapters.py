"""The ports of a region and of its control table, in memory, with the faults a test asks for.

`MemoryPorts` puts ports.Table and ports.KeyStates before a support.memory.MemoryRegion; `Stores`
keeps checkpoints, parked changes and gaps. Both note every call, and raise what `fail` has put
down for it: before the call took effect, or after (an answer that was lost).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from conflict.operations import (
    AnyOperation,
    Delete,
    Get,
    Hold,
    Item,
    Key,
    KeyState,
    Outcome,
    Put,
    RaiseTombstone,
    ReadState,
    Release,
    Result,
    Stamp,
)
from conflict.version import Version
from replicator.records import After, Checkpoint, Gap, Parked, ParkedNote
from support.memory import MemoryRegion

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Faults:
    """What calls of one kind raise, in turn; `always` once the turns are over."""

    turns: deque[Exception] = field(default_factory=deque)
    lost: deque[Exception] = field(default_factory=deque)
    always: Exception | None = None

    def next(self) -> Exception | None:
        """What the next call is to raise."""
        return self.turns.popleft() if self.turns else self.always


class _Faulty:
    """Notes calls by name and lets them fail as told."""

    def __init__(self, *, sleep: Sleep, call_s: float) -> None:
        self.calls: list[str] = []
        self.under_way = 0
        self.under_way_max = 0
        self.call_s = call_s
        self._sleep = sleep
        self._faults: dict[str, Faults] = defaultdict(Faults)

    def fail(self, call: str, *errors: Exception) -> None:
        """Let the next calls of this name raise, without effect."""
        self._faults[call].turns.extend(errors)

    def fail_always(self, call: str, error: Exception | None) -> None:
        """Let every call of this name raise, until it is told None."""
        self._faults[call].always = error

    def lose_answer(self, call: str, *errors: Exception) -> None:
        """Let the next calls of this name take effect, and raise."""
        self._faults[call].lost.extend(errors)

    async def _called(self, call: str) -> None:
        self.calls.append(call)
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            await self._sleep(self.call_s)
        finally:
            self.under_way -= 1
        error = self._faults[call].next()
        if error is not None:
            raise error

    def _answered(self, call: str) -> None:
        if self._faults[call].lost:
            raise self._faults[call].lost.popleft()


class MemoryPorts(_Faulty):
    """ports.Table and ports.KeyStates over one region; calls go by the names of the methods."""

    def __init__(self, region: MemoryRegion, *, sleep: Sleep, call_s: float = 0.001) -> None:
        super().__init__(sleep=sleep, call_s=call_s)
        self.region = region
        self.batches: list[tuple[str, ...]] = []
        self.writes: list[AnyOperation] = []
        """Every write that was tried, in order."""

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        """ports.Table.get."""
        self.batches.append(tuple(key.id for key in keys))
        await self._called("get")
        items = [self.region.execute(Get(self.region.name, key)) for key in keys]
        return [item if isinstance(item, Item) else None for item in items]

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        """ports.KeyStates.read."""
        self.batches.append(tuple(key.id for key in keys))
        await self._called("read")
        states = [self.region.execute(ReadState(self.region.name, key)) for key in keys]
        return [state for state in states if isinstance(state, KeyState)]

    async def put(self, operation: Put) -> Outcome:
        """ports.Table.put."""
        return _outcome(await self._write("put", operation))

    async def stamp(self, operation: Stamp) -> Outcome:
        """ports.Table.stamp."""
        return _outcome(await self._write("stamp", operation))

    async def delete(self, operation: Delete) -> Outcome:
        """ports.Table.delete."""
        return _outcome(await self._write("delete", operation))

    async def raise_tombstone(self, operation: RaiseTombstone) -> Version | None:
        """ports.KeyStates.raise_tombstone."""
        result = await self._write("raise_tombstone", operation)
        return result if isinstance(result, Version) else None

    async def hold(self, operation: Hold) -> None:
        """ports.KeyStates.hold."""
        await self._write("hold", operation)

    async def release(self, operation: Release) -> None:
        """ports.KeyStates.release."""
        await self._write("release", operation)

    async def _write(self, call: str, operation: AnyOperation) -> Result:
        self.writes.append(operation)
        await self._called(call)
        result = self.region.execute(operation)
        self._answered(call)
        return result


def _outcome(result: Result) -> Outcome:
    assert isinstance(result, Outcome)
    return result


class Stores(_Faulty):
    """Checkpoints, quarantine and gaps of one region.

    Calls are named save, load, save_at_home, load_at_home, note_read, last_read, park, unpark,
    load_parked and report.
    """

    def __init__(self, *, sleep: Sleep, call_s: float = 0.001) -> None:
        super().__init__(sleep=sleep, call_s=call_s)
        self.positions: dict[tuple[str, str], Checkpoint] = {}
        self.positions_at_home: dict[tuple[str, str], Checkpoint] = {}
        self.saved: list[Checkpoint] = []
        self.parked: list[Parked] = []
        self.reported: list[Gap] = []
        self.read_us: int | None = None

    @property
    def checkpoints(self) -> CheckpointStore:
        """As ports.Checkpoints."""
        return CheckpointStore(self)

    @property
    def at_home(self) -> AtHomeStore:
        """As ports.Positions."""
        return AtHomeStore(self)

    @property
    def quarantine(self) -> QuarantineStore:
        """As ports.Quarantine."""
        return QuarantineStore(self)

    @property
    def gaps(self) -> GapStore:
        """As ports.Gaps."""
        return GapStore(self)

    async def park(self, parked: Parked) -> None:
        """ports.Quarantine.park."""
        await self._called("park")
        self.parked.append(parked)

    async def save(self, checkpoint: Checkpoint) -> None:
        """ports.Checkpoints.save: one that lies behind the stored one changes nothing."""
        await self._called("save")
        self.saved.append(checkpoint)
        _store(self.positions, checkpoint)

    async def save_at_home(self, checkpoint: Checkpoint) -> None:
        """ports.Positions.save, of what is settled at home."""
        await self._called("save_at_home")
        _store(self.positions_at_home, checkpoint)

    async def load_at_home(self) -> list[Checkpoint]:
        """ports.Positions.load, of what is settled at home."""
        await self._called("load_at_home")
        return list(self.positions_at_home.values())

    async def load_checkpoints(self) -> list[Checkpoint]:
        """ports.Checkpoints.load."""
        await self._called("load")
        return list(self.positions.values())

    async def note_read(self, read_us: int) -> None:
        """ports.Checkpoints.note_read: it only ever rises."""
        await self._called("note_read")
        self.read_us = max(read_us, self.read_us or 0)

    async def last_read(self) -> int | None:
        """ports.Checkpoints.last_read."""
        await self._called("last_read")
        return self.read_us

    async def load_parked(self) -> list[Parked]:
        """ports.Quarantine.notes."""
        await self._called("load_parked")
        return list(self.parked)

    async def unpark(self, note: ParkedNote) -> bool:
        """ports.Quarantine.remove: a newer one of the key stays."""
        await self._called("unpark")
        left = [p for p in self.parked if (p.target, p.key, p.version) != _named(note)]
        removed = len(left) < len(self.parked)
        self.parked[:] = left
        return removed

    async def report(self, gap: Gap) -> None:
        """ports.Gaps.report."""
        await self._called("report")
        self.reported.append(gap)


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """ports.Checkpoints over Stores."""

    stores: Stores

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        """The stored positions."""
        return await self.stores.load_checkpoints()

    async def save(self, checkpoint: Checkpoint) -> None:
        """Store a position."""
        await self.stores.save(checkpoint)

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        """Store until when all was read."""
        await self.stores.note_read(read_us)

    async def last_read(self, table: str, source: str) -> int | None:
        """What was stored last."""
        return await self.stores.last_read()


@dataclass(frozen=True, slots=True)
class AtHomeStore:
    """ports.Positions over Stores: what is settled at home."""

    stores: Stores

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        """The stored positions."""
        return await self.stores.load_at_home()

    async def save(self, checkpoint: Checkpoint) -> None:
        """Store a position."""
        await self.stores.save_at_home(checkpoint)


@dataclass(frozen=True, slots=True)
class QuarantineStore:
    """ports.Quarantine over Stores."""

    stores: Stores

    async def park(self, parked: Parked) -> None:
        """Store a parked change."""
        await self.stores.park(parked)

    async def notes(self, table: str) -> list[ParkedNote]:
        """The parked changes."""
        return list(await self.stores.load_parked())

    async def remove(self, parked: ParkedNote) -> bool:
        """Take out a parked change."""
        return await self.stores.unpark(parked)


@dataclass(frozen=True, slots=True)
class GapStore:
    """ports.Gaps over Stores."""

    stores: Stores

    async def report(self, gap: Gap) -> None:
        """Store a gap."""
        await self.stores.report(gap)

    async def load(self, table: str, source: str) -> list[Gap]:
        """The stored gaps."""
        return list(self.stores.reported)


def _store(positions: dict[tuple[str, str], Checkpoint], new: Checkpoint) -> None:
    at = (new.stream_arn, new.shard)
    stored = positions.get(at)
    if stored is None or _ahead(new, stored):
        positions[at] = new


def _named(note: ParkedNote) -> tuple[str, Key, Version]:
    return (note.target, note.key, note.version)


def _ahead(new: Checkpoint, stored: Checkpoint) -> bool:
    if not isinstance(stored.position, After):
        return False
    return not isinstance(new.position, After) or new.position.sequence > stored.position.sequence
