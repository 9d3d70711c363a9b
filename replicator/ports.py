"""The few interfaces to the outside. Whoever needs something states it here; adapters implement it.

All calls are coroutines. They raise the errors of replicator.errors and nothing else on purpose;
they do not retry: there is one retry layer, in the writer and the reader.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from conflict.operations import (
    Delete,
    Hold,
    Item,
    Key,
    KeyState,
    Outcome,
    Put,
    RaiseTombstone,
    Release,
    Stamp,
)
from conflict.version import Version
from replicator.records import (
    After,
    Checkpoint,
    Gap,
    Page,
    Parked,
    ParkedNote,
    StreamDescription,
    TrimHorizon,
)

READ_BATCH_MAX = 100
"""Keys in one batch read. Source: API_BatchGetItem, "up to 100 items"."""


class Clock(Protocol):
    """Time, passed in. The wall clock serves versions, the monotonic clock timeouts."""

    def now_us(self) -> int: ...

    def monotonic_s(self) -> float: ...


Sleep: TypeAlias = Callable[[float], Awaitable[None]]


class Api(Protocol):
    """One region's DynamoDB endpoint (table and streams API) at the level of requests.

    `call("PutItem", {...})` returns the response in wire form, numbers as strings, binary as
    bytes. Raises Transient, Throttled, Fatal, Poison, IteratorExpired, Trimmed, ShardGone, or
    ConditionFailed with the item that stood.
    """

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]: ...


class Table(Protocol):
    """The data of one table in one region."""

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        """Strongly consistent read of up to READ_BATCH_MAX different keys, in their order."""
        ...

    async def put(self, operation: Put) -> Outcome: ...

    async def stamp(self, operation: Stamp) -> Outcome: ...

    async def delete(self, operation: Delete) -> Outcome: ...


class KeyStates(Protocol):
    """What one region remembers of the keys of one table: tombstones and held writes."""

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        """Strongly consistent read of up to READ_BATCH_MAX different keys, in their order."""
        ...

    async def raise_tombstone(self, operation: RaiseTombstone) -> Version | None: ...

    async def hold(self, operation: Hold) -> None: ...

    async def release(self, operation: Release) -> None: ...


class StreamSource(Protocol):
    """One stream of one table in one region."""

    async def describe(self) -> StreamDescription: ...

    async def iterator(self, shard: str, position: TrimHorizon | After) -> str: ...

    async def records(self, iterator: str, limit: int) -> Page: ...


class Positions(Protocol):
    """Where positions in a region's streams are kept."""

    async def load(self, table: str, source: str) -> list[Checkpoint]: ...

    async def save(self, checkpoint: Checkpoint) -> None:
        """Store a position; one that lies behind the stored one changes nothing."""
        ...


class Checkpoints(Positions, Protocol):
    """The positions from which a region's streams are read on, and until when all was done."""

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        """Write down until when everything had been read, also where nothing was written."""
        ...

    async def last_read(self, table: str, source: str) -> int | None:
        """What was written down last; None if nothing ever was."""
        ...


class Quarantine(Protocol):
    """Where changes that can never be applied are kept."""

    async def park(self, parked: Parked) -> None:
        """Keep a change; an older version of the same key and target gives way to it."""
        ...

    async def notes(self, table: str) -> list[ParkedNote]:
        """What is parked of a table, from every source, without what it holds."""
        ...

    async def remove(self, parked: ParkedNote) -> bool:
        """Take out a change that is dealt with; False when a newer one has replaced it."""
        ...


class Presence(Protocol):
    """Where it is written down which process reads a source."""

    instance: str

    async def announce(self, table: str, source: str, now_us: int) -> str | None:
        """Write down that this instance does; returns the name that stood there."""
        ...


class Gaps(Protocol):
    """Where it is written down that a stream no longer held what was due."""

    async def report(self, gap: Gap) -> None: ...

    async def load(self, table: str, source: str) -> list[Gap]: ...


class Pauses(Protocol):
    """Where it is written down which links a person has paused."""

    async def load(self, table: str, source: str) -> dict[str, int]:
        """The targets whose link is paused, and since when, in microseconds."""
        ...
