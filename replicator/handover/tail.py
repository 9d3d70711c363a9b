"""What a stream holds beyond its checkpoints: the writes of a region that may not be across yet.

A second reader beside the running one. It stores nothing, so it disturbs nobody, and it may look
again and again: each look reads on from where the last one ended, and forgets what has been
checkpointed since. Only writes of the region's own application count; echoes are nobody's loss.

An event source mapping keeps its checkpoints to itself. Where no process was ever there to write
down what it reads (`mapped`), all that the stream holds is read, and forgotten is what `not_across`
finds in the targets. What the stream no longer holds is no loss then: what a mapping gives up is a
gap, which whoever hands over asks for.

Of an item it keeps its key and a digest. What the stream no longer holds is told as `lost`.

A page without records does not end a shard (AWS may return some of them in a row), so the end is
believed after EMPTY_PAGES of them. This module must not know what the targets hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from conflict.content import digest
from conflict.operations import Image, Key
from replicator.errors import IteratorExpired, Keyless, Poison, ShardGone, Transient, Trimmed
from replicator.ports import Checkpoints, Clock, Sleep, StreamSource
from replicator.records import (
    WHOLE_STREAM,
    After,
    Checkpoint,
    Finished,
    Page,
    Record,
    TrimHorizon,
)
from replicator.transformer import Transformer

EMPTY_PAGES = 3
"""Source: API_streams_GetRecords, "it is possible that a GetRecords returns an empty list"."""

PAGE_RECORDS = 1000
EMPTY_WAIT_S = 0.05
MISSES_MAX = 3
"""Iterators in a row that were of no use, for one shard and look."""

COMPARE_RECORDS = 10_000
"""Of a mapped stream, before they are compared: a day's writes must not stand in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write of the application. `content`: the digest of what it left; None where that is not
    known from the record. `gone`: it left nothing."""

    shard: str
    sequence: int
    key: Key
    created_us: int
    content: bytes | None
    gone: bool


NotAcross: TypeAlias = Callable[[Sequence[Write]], Awaitable[list[Write]]]
"""Which of some writes are not in every target."""


@dataclass(slots=True)
class _Shard:
    position: TrimHorizon | After
    iterator: str | None = None
    ended: bool = False


@dataclass(slots=True, kw_only=True)
class Tail:
    """The unsettled end of one table's stream in one region."""

    table: str
    source: str
    arn: str
    stream: StreamSource
    checkpoints: Checkpoints
    not_across: NotAcross
    transformer: Transformer
    clock: Clock
    sleep: Sleep
    lost: str | None = None
    """Why some records can no longer be told, None where all can."""
    unreadable: int = 0
    """Records that say nothing; the replicator parks such."""
    writes_seen: int = 0
    last_write_us: int | None = None
    mapped: bool = False
    """Whether no process reads the stream, as far as its checkpoints tell; known after a look."""
    _uncompared: int = 0
    _shards: dict[str, _Shard] = field(default_factory=dict)
    _outstanding: dict[str, list[Write]] = field(default_factory=dict)

    @property
    def outstanding(self) -> list[Write]:
        """What is not settled, in the order of the stream."""
        writes = (write for shard in self._outstanding.values() for write in shard)
        return sorted(writes, key=lambda write: write.sequence)

    async def look(self) -> None:
        """Read on to the present end, then leave out what has been settled meanwhile."""
        stored = await self._stored()
        description = await self.stream.describe()
        for shard in description.shards:
            if shard.id not in self._shards:
                self._open(shard.id, stored.get(shard.id))
        for name in list(self._shards):
            await self._read(name)
        self._forget(await self._stored())
        if self.mapped:
            await self._compare()

    async def mark_end(self) -> None:
        """Store the present end of every shard as settled: reading starts there from now on."""
        for name, shard in self._shards.items():
            position = Finished() if shard.ended else shard.position
            if isinstance(position, TrimHorizon):
                continue  # the shard is empty
            await self.checkpoints.save(
                Checkpoint(
                    table=self.table,
                    source=self.source,
                    stream_arn=self.arn,
                    shard=name,
                    position=position,
                )
            )

    async def _stored(self) -> dict[str, After | Finished]:
        stored = await self.checkpoints.load(self.table, self.source)
        # A process names the stream before it reads; `mark_end` stores shards alone.
        self.mapped = all(checkpoint.shard != WHOLE_STREAM for checkpoint in stored)
        if self.mapped:
            return {}
        present = {c.shard: c.position for c in stored if c.stream_arn == self.arn}
        if stored and not present:
            self.lost = "the table's stream was re-created"
        return present

    def _open(self, name: str, stored: After | Finished | None) -> None:
        position = stored if isinstance(stored, After) else TrimHorizon()
        self._shards[name] = _Shard(position, ended=isinstance(stored, Finished))

    async def _read(self, name: str) -> None:
        shard, empty, missed = self._shards[name], 0, 0
        while not shard.ended and empty < EMPTY_PAGES:
            page = await self._page(name, shard)
            if page is None:
                missed += 1
                if missed > MISSES_MAX:
                    raise Transient(
                        f"table {self.table} in {self.source}: its stream cannot be read"
                    )
                continue
            self._take(name, page.records)
            if self.mapped and self._uncompared >= COMPARE_RECORDS:
                await self._compare()
            if page.records:
                shard.position = After(page.records[-1].sequence)
                empty = 0
            else:
                empty += 1
                await self.sleep(EMPTY_WAIT_S)
            shard.iterator = page.next_iterator
            shard.ended = page.next_iterator is None

    async def _page(self, name: str, shard: _Shard) -> Page | None:
        """The next page; None where the place to read from was lost, and another was found."""
        try:
            if shard.iterator is None:
                shard.iterator = await self.stream.iterator(name, shard.position)
            return await self.stream.records(shard.iterator, PAGE_RECORDS)
        except IteratorExpired:
            shard.iterator = None
        except Trimmed:
            if isinstance(shard.position, After) and not self.mapped:
                self.lost = "the stream no longer holds what was due"
            shard.position, shard.iterator = TrimHorizon(), None
        except ShardGone:
            if not self.mapped:
                self.lost = "the stream no longer knows a shard that was due"
            shard.ended = True
        return None

    def _take(self, name: str, records: Iterable[Record]) -> None:
        now_us = self.clock.now_us()
        for record in records:
            try:
                change = self.transformer.change(record, now_us)
            except (Poison, Keyless):
                self.unreadable += 1
                continue
            nature = change.nature
            if not (nature.is_local_put or nature.is_local_delete):
                continue
            self.writes_seen += 1
            self.last_write_us = max(self.last_write_us or 0, record.created_us)
            image: Image | None = change.new.image if change.new else None
            write = Write(
                shard=name,
                sequence=record.sequence,
                key=change.key,
                created_us=record.created_us,
                content=None if image is None else digest(image),
                gone=nature.is_local_delete,
            )
            self._outstanding.setdefault(name, []).append(write)
            self._uncompared += 1

    async def _compare(self) -> None:
        left = await self.not_across(self.outstanding)
        self._outstanding = {}
        for write in left:
            self._outstanding.setdefault(write.shard, []).append(write)
        self._uncompared = 0

    def _forget(self, stored: dict[str, After | Finished]) -> None:
        for name, position in stored.items():
            writes = self._outstanding.get(name)
            if not writes:
                continue
            if isinstance(position, Finished):
                del self._outstanding[name]
            else:
                kept = [write for write in writes if write.sequence > position.sequence]
                self._outstanding[name] = kept
