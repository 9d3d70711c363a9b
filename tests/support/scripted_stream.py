"""A stream whose shards do as the test says: what no engine at hand can be made to do.

It keeps the rules of DynamoDB Streams (records of a shard in order, one sequence over the stream,
a null iterator only at the end of a closed shard, iterators that age) and breaks them only where
the script says so. Two things are scripted apart: what the stream *is* (`grow`, `split`, `write`,
`trim`, `delete`), and how it *answers* (`hide`, `arrange`, `empty_pages`, `expire_iterators`,
`fail`, `stall`), so that a test can set a true history against wrong answers about it.

Where AWS does not say how a boundary behaves, the reading that loses nothing is taken: a position
is trimmed when a record after it is gone, not when its own record is.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from replicator.errors import IteratorExpired, ShardGone, Trimmed
from replicator.ports import Clock
from replicator.records import (
    After,
    EventName,
    Page,
    Record,
    Shard,
    StreamDescription,
    TrimHorizon,
    ViewType,
)

Shape: TypeAlias = Mapping[str, "Shape"]
"""Shards by id, each with its children: `{"a": {"b": {}, "c": {"d": {}}}}`."""

ITERATOR_LIFE_S = 15 * 60.0
"""Source: API_streams_GetShardIterator, "expires 15 minutes after it is returned"."""


class Call(StrEnum):
    """The calls of a StreamSource."""

    DESCRIBE = "describe"
    ITERATOR = "iterator"
    RECORDS = "records"


@dataclass(slots=True)
class _Shard:
    """The truth about one shard. `trimmed`: how many of `records` retention has taken."""

    shard: Shard
    records: list[Record] = field(default_factory=list)
    trimmed: int = 0


@dataclass(frozen=True, slots=True)
class _Iterator:
    """What an iterator's text states, so that none need be remembered."""

    generation: int
    issued_s: float
    index: int
    shard: str

    @property
    def text(self) -> str:
        return f"{self.generation}|{self.issued_s!r}|{self.index}|{self.shard}"

    @classmethod
    def parse(cls, text: str) -> _Iterator:
        generation, issued_s, index, shard = text.split("|", 3)
        return cls(int(generation), float(issued_s), int(index), shard)


class ScriptedStream:
    """A ports.StreamSource in memory, with the script of its faults."""

    def __init__(
        self, *, clock: Clock, arn: str = "arn:scripted", shape: Shape | None = None
    ) -> None:
        self.arn = arn
        self.enabled = True
        self.view_type = ViewType.NEW_AND_OLD_IMAGES
        self.arrange: Callable[[list[Shard]], Sequence[Shard]] = lambda shards: shards
        """The last word on what a description lists: drop, repeat, turn round, forge."""
        self.calls: Counter[tuple[Call, str | None]] = Counter()
        """How often each call was made, by shard."""
        self.positions: list[tuple[str, TrimHorizon | After]] = []
        """What iterators were asked for, in order."""
        self._clock = clock
        self._shards: dict[str, _Shard] = {}
        self._sequence = 0
        self._hidden: dict[str, int | None] = {}
        self._empty_pages: Counter[str] = Counter()
        self._faults: dict[tuple[Call, str | None], deque[Exception]] = defaultdict(deque)
        self._stalls: dict[tuple[Call, str | None], asyncio.Event] = {}
        self._generation = 0
        self.grow(shape or {})

    # What the stream is.

    def grow(self, shape: Shape, *, parent: str | None = None) -> None:
        """Add a forest of shards; one that has children is closed."""
        for shard, children in shape.items():
            self.place(shard, parent=parent)
            if children:
                self.close(shard)
                self.grow(children, parent=shard)

    def place(self, shard: str, *, parent: str | None = None) -> None:
        """Add one open shard under any parent: unknown, itself, or a descendant if that is said."""
        self._shards[shard] = _Shard(Shard(id=shard, parent=parent))

    def close(self, shard: str) -> None:
        """The shard has an end: after its last record the next iterator is null."""
        at = self._shards[shard]
        at.shard = replace(at.shard, closed=True)

    def split(self, shard: str, *children: str) -> None:
        """Close a shard and go on in its children; with one child it is a rotation."""
        self.close(shard)
        for child in children:
            self.place(child, parent=shard)

    def write(self, shard: str, *keys: str) -> list[int]:
        """Insert one item per key; returns the sequences of their records.

        A closed shard takes them too: a shape states the graph first, and its history follows.
        """
        return [self.append(shard, self._insert(key)).sequence for key in keys]

    def append(self, shard: str, record: Record) -> Record:
        """Put a record of the test's own at the end of a shard, under the next sequence."""
        self._sequence += 1
        record = replace(record, sequence=self._sequence)
        self._shards[shard].records.append(record)
        return record

    def trim(self, shard: str, *, through: int) -> None:
        """Retention takes the shard's records up to and with this sequence."""
        at = self._shards[shard]
        at.trimmed = sum(record.sequence <= through for record in at.records)

    def delete(self, shard: str) -> None:
        """The stream knows the shard no longer."""
        del self._shards[shard]

    def sequences(self, shard: str) -> list[int]:
        """The sequences that a shard ever held."""
        return [record.sequence for record in self._shards[shard].records]

    # How it answers.

    def hide(self, *shards: str, descriptions: int | None = None) -> None:
        """Leave shards out of the next so many descriptions (None: until `show`)."""
        self._hidden.update(dict.fromkeys(shards, descriptions))

    def show(self, *shards: str) -> None:
        """List shards again."""
        for shard in shards:
            self._hidden.pop(shard, None)

    def empty_pages(self, shard: str, pages: int) -> None:
        """Let the next answers for a shard hold nothing, whatever there is."""
        self._empty_pages[shard] += pages

    def expire_iterators(self) -> None:
        """Every iterator given out so far is too old from now on."""
        self._generation += 1

    def fail(self, call: Call, *errors: Exception, shard: str | None = None) -> None:
        """Let the next calls raise, one error each; describe has no shard."""
        self._faults[call, shard].extend(errors)

    def stall(self, call: Call, shard: str | None = None) -> asyncio.Event:
        """Let a call hang, as on a half-open socket, until the returned event is set."""
        event = self._stalls[call, shard] = asyncio.Event()
        return event

    # The port.

    async def describe(self) -> StreamDescription:
        """All that is not hidden, oldest first, as `arrange` leaves it."""
        await self._scripted(Call.DESCRIBE, None)
        listed = [at.shard for name, at in self._shards.items() if name not in self._hidden]
        self._count_down_hidden()
        return StreamDescription(
            arn=self.arn,
            view_type=self.view_type,
            enabled=self.enabled,
            shards=tuple(self.arrange(listed)),
        )

    async def iterator(self, shard: str, position: TrimHorizon | After) -> str:
        """Raises ShardGone for an unknown shard, Trimmed where a later record was taken."""
        await self._scripted(Call.ITERATOR, shard)
        self.positions.append((shard, position))
        at = self._known(shard)
        index = at.trimmed
        if isinstance(position, After):
            index = sum(record.sequence <= position.sequence for record in at.records)
            self._check_trim(at, index)
        return self._issue(shard, index)

    async def records(self, iterator: str, limit: int) -> Page:
        """Raises IteratorExpired, Trimmed and ShardGone as the service does."""
        given = _Iterator.parse(iterator)
        await self._scripted(Call.RECORDS, given.shard)
        at = self._known(given.shard)
        age_s = self._clock.monotonic_s() - given.issued_s
        if given.generation != self._generation or age_s > ITERATOR_LIFE_S:
            raise IteratorExpired(f"iterator of {given.shard}")
        self._check_trim(at, given.index)
        if self._empty_pages[given.shard] > 0:
            self._empty_pages[given.shard] -= 1
            return Page(records=(), next_iterator=self._issue(given.shard, given.index))
        end = min(given.index + limit, len(at.records))
        ended = at.shard.closed and end == len(at.records)
        return Page(
            records=tuple(at.records[given.index : end]),
            next_iterator=None if ended else self._issue(given.shard, end),
        )

    async def _scripted(self, call: Call, shard: str | None) -> None:
        """Count a call, let others run as a network does, then do what is scripted for it."""
        self.calls[call, shard] += 1
        await asyncio.sleep(0)
        if stall := self._stalls.get((call, shard)):
            await stall.wait()
        if faults := self._faults[call, shard]:
            raise faults.popleft()

    def _known(self, shard: str) -> _Shard:
        if shard not in self._shards:
            raise ShardGone(shard)
        return self._shards[shard]

    def _check_trim(self, at: _Shard, index: int) -> None:
        if index < at.trimmed:
            raise Trimmed(at.shard.id)

    def _issue(self, shard: str, index: int) -> str:
        return _Iterator(self._generation, self._clock.monotonic_s(), index, shard).text

    def _count_down_hidden(self) -> None:
        for shard, left in list(self._hidden.items()):
            if left is not None:
                self._hidden[shard] = left - 1
                if left <= 1:
                    del self._hidden[shard]

    def _insert(self, key: str) -> Record:
        image = {"id": {"S": key}}
        return Record(
            sequence=0,
            created_us=self._clock.now_us() // 1_000_000 * 1_000_000,
            event=EventName.INSERT,
            keys=image,
            new=image,
        )
