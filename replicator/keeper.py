"""Keeps what must outlive a session: positions, gaps, and until when all was done.

A position is saved when it has moved, at intervals and at the end. A gap is written down before
reading goes on. "Done until" is the moment before which every record has been read and settled; it
tells a long absence from a quiet table, in which nothing else moves.

This module must not know how records are read or applied.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TypeVar

from replicator.errors import Fatal, Keyless
from replicator.flow import Flow
from replicator.parts import PipelineParts
from replicator.ports import Positions
from replicator.reader import StreamReader
from replicator.records import (
    WHOLE_STREAM,
    After,
    Checkpoint,
    Finished,
    Gap,
    Mode,
    Record,
    covers,
    further,
)
from replicator.telemetry import PipelineState

T = TypeVar("T")

log = logging.getLogger(__name__)

HOUR_US = 3_600_000_000
RETENTION_US = 24 * HOUR_US
"""Source: DynamoDB Streams, "data in DynamoDB Streams is subject to a 24-hour lifetime"."""

NOTE_READ_EVERY_S = 60.0
BEGINNING = After(0)
"""Before every record: sequence numbers are greater. Source: SequenceNumber, 21 to 40 digits."""

CALL_S_MAX = 15.0
"""After this a call has been given up by the adapter's own timeouts."""


class Keeper:
    """The keeping of one session."""

    def __init__(
        self,
        parts: PipelineParts,
        flow: Flow,
        stream_arn: str,
        held_back: Callable[[], Collection[str]],
    ) -> None:
        """`held_back`: the targets that are behind the others. While there are any, the flow's
        positions are not those of every target, and nothing may be stored of them (bulkhead.py)."""
        self._held_back = held_back
        self._parts, self._flow, self._arn = parts, flow, stream_arn
        self._stats, self._stores, self._limits = parts.stats, parts.stores, parts.limits
        self._saved: dict[str, After | Finished] = {}
        self._saved_at_home: dict[str, After | Finished] = {}
        self._stamps_at_home = parts.transformer.mode is not Mode.ONE_WAY
        """Else nothing there tells of a settled record, and one that is read again is settled anew:
        by then every region may write, as after a failover."""
        self._latest_us: dict[str, int] = {}
        self._done_until_us: int | None = None
        self._reader: StreamReader | None = None
        """Of the present session, once it is under way."""
        self._unattended: frozenset[str] = frozenset()
        self._pages: dict[str, deque[tuple[float, int]]] = {}
        """By shard, when each page was read and where it ends, as long as it is not settled."""

    def note_page(self, shard: str, last: Record) -> None:
        """A page was taken in that ends with this record."""
        self._latest_us[shard] = last.created_us
        read_s = self._parts.clock.monotonic_s()
        self._pages.setdefault(shard, deque()).append((read_s, last.sequence))

    async def load(self) -> dict[str, After | Finished]:
        """The stored positions of the present stream; those of another one make a gap.

        Before anything is read of a stream it is written down which one it is, or a process that
        ended before its first checkpoint would not know the next stream for another.
        """
        table, source, stores = self._stats.table, self._stats.source, self._stores
        self._stats.stream_arn = self._arn
        stored = await self._patiently(partial(stores.checkpoints.load, table, source))
        present = {c.shard: c.position for c in stored if c.stream_arn == self._arn}
        if stored and not present:
            await self._open_gap(WHOLE_STREAM, "the table's stream was re-created")
        if WHOLE_STREAM not in present:
            await self._save_one(stores.checkpoints, WHOLE_STREAM, BEGINNING)
        present.pop(WHOLE_STREAM, None)
        last_us = await self._patiently(partial(stores.checkpoints.last_read, table, source))
        self._done_until_us = last_us
        for link in self._stats.links.values():
            if last_us is not None:
                link.note_complete(last_us)
        if last_us is not None and not stored:
            log.warning("checkpoint.missing", extra=self._fields())  # read from the beginning
        unread_us = 0 if last_us is None else self._parts.clock.now_us() - last_us
        if unread_us > RETENTION_US:
            hours = unread_us // HOUR_US
            await self._open_gap(WHOLE_STREAM, f"unread for {hours} h; a stream holds 24 h")
        gaps = await self._patiently(partial(stores.gaps.load, table, source))
        self._stats.gap = gaps[0] if gaps else None
        self._saved = dict(present)
        self._flow.resume(await self._settled_at_home(present))
        return present

    async def _settled_at_home(
        self, everywhere: Mapping[str, After | Finished]
    ) -> dict[str, After | Finished]:
        if not self._stamps_at_home:
            return dict(everywhere)
        load = partial(self._stores.at_home.load, self._stats.table, self._stats.source)
        stored = await self._patiently(load)
        at_home = dict(everywhere)
        for each in stored:
            if each.stream_arn == self._arn:
                at_home[each.shard] = further(at_home.get(each.shard), each.position)
        return at_home

    async def keep(self, reader: StreamReader) -> None:
        """Save positions, and keep the figures of the reader, again and again."""
        self._reader = reader
        noted_s = -math.inf  # at once: until then a long absence would not be known
        while True:
            await self._parts.sleep(self._limits.checkpoint_interval_s)
            self._stats.kept_s = self._parts.clock.monotonic_s()
            self._look_at(reader)
            self._check_age()
            self._check_readers(reader)
            await self._save()
            if not self._held_back():
                self._stats.checkpoint_us = self._safe_until_us()
            self._stats.note_complete()
            self._done_until_us = self._all_done_until_us(reader) or self._done_until_us
            now_s = self._parts.clock.monotonic_s()
            done_us = None if self._held_back() else self._done_until_us
            if done_us is not None and now_s - noted_s > NOTE_READ_EVERY_S:
                await self._note_read(done_us)
                noted_s = now_s

    def read_until_us(self, reader: StreamReader) -> int | None:
        """Until when every record has been read; None if that cannot be told.

        By the last answers of the shards: while a source is silent it stands still, and stays true.
        """
        if reader.last_read_s is None or reader.waiting_shards:
            return None
        poll_age_s = self._parts.clock.monotonic_s() - reader.last_read_s
        until_us = self._parts.clock.now_us() - int(poll_age_s * 1e6)
        for shard in reader.behind:
            if shard not in self._latest_us:
                return None
            until_us = min(until_us, self._latest_us[shard])
        return until_us

    def _safe_until_us(self) -> int:
        """When the oldest page was read that a restart would read again; now if there is none."""
        positions = self._flow.positions()
        now_s = self._parts.clock.monotonic_s()
        waiting_s = [
            pages[0][0]
            for shard, pages in self._pages.items()
            if pages and not covers(positions.get(shard), After(pages[0][1]))
        ]
        return self._parts.clock.now_us() - int((now_s - min(waiting_s, default=now_s)) * 1e6)

    def _check_readers(self, reader: StreamReader) -> None:
        """A shard that nobody reads is found here; a new session gives it a reader again."""
        unread = reader.unattended
        lost = self._unattended & unread
        self._unattended = unread
        if lost:
            log.error("reader.shard_unattended", extra=self._fields(shards=len(lost)))
            raise Fatal("a shard has no reader; reading anew")

    async def watch_rivals(self) -> None:
        """Write down who reads this source, and notice another who does."""
        presence, stats = self._stores.presence, self._stats
        if presence is None:
            return
        announced = False
        while True:
            now_us = self._parts.clock.now_us()
            announce = partial(presence.announce, stats.table, stats.source, now_us)
            found = await self._parts.writer.patiently(stats.source, announce)
            rival = found if announced and found != presence.instance else None
            if rival is not None and stats.rival is None:
                log.warning("source.read_twice", extra=self._fields(other=rival))
            stats.rival, announced = rival, True
            await self._parts.sleep(self._limits.announce_interval_s)

    def _look_at(self, reader: StreamReader) -> None:
        stats = self._stats
        stats.shards_open = reader.open_shards
        stats.shards_finished = reader.finished_shards
        stats.caught_up = reader.caught_up
        latest_us = [self._latest_us.get(shard) for shard in reader.behind]
        known_us = [each for each in latest_us if each is not None]
        stats.latest_us = min(known_us) if len(known_us) == len(latest_us) > 0 else None
        stats.readable = self._is_readable(reader)
        if stats.readable:
            stats.state, stats.session_error, stats.source_error = PipelineState.RUNNING, None, None

    def _check_age(self) -> None:
        """What has waited longer than a stream holds must not go on: its tombstones may be gone.

        The next session finds the stored position trimmed, and reports the gap. The wait counts
        from when a page was read; its records may be of any age.
        """
        now_s = self._parts.clock.monotonic_s()
        positions = self._flow.positions()
        for shard, pages in self._pages.items():
            position = positions.get(shard)
            while pages and covers(position, After(pages[0][1])):
                pages.popleft()
            if pages and now_s - pages[0][0] > RETENTION_US / 1e6:
                raise Fatal("a change has waited longer than the stream holds it; reading anew")

    def _all_done_until_us(self, reader: StreamReader) -> int | None:
        """Until when every record has been read and settled; None if that cannot be told now."""
        if self._held_back() or not self._stats.readable or reader.last_poll_s is None:
            return None
        if reader.waiting_shards:  # unread as yet, however old their records are
            return None
        poll_age_s = self._parts.clock.monotonic_s() - reader.last_poll_s
        times_us = [self._parts.clock.now_us() - int(poll_age_s * 1e6)]
        for shard in reader.behind:
            if shard not in self._latest_us:
                return None
            times_us.append(self._latest_us[shard])
        _, _, pending = self._flow.progress()
        times_us += [oldest_us for _, oldest_us in pending.values() if oldest_us is not None]
        return min(times_us)

    async def _note_read(self, read_us: int) -> None:
        """Write down until when all was done; nothing else would tell of a long absence."""
        table, source = self._stats.table, self._stats.source
        note = partial(self._stores.checkpoints.note_read, table, source, read_us)
        await self._patiently(note)

    async def on_loss(self, shard: str, reason: str) -> None:
        """The stream no longer holds a position. It is a gap unless all was done of late.

        The last record of a quiet shard is trimmed like any other, and its position with it; what
        came after it, if anything, is younger than what a stream holds. What has been done is
        looked at anew: a session may meet a loss before it has kept anything.
        """
        done_us = self._done_until_us
        if self._reader is not None:
            self._look_at(self._reader)
            done_us = self._all_done_until_us(self._reader) or done_us
        if done_us is not None and self._parts.clock.now_us() - done_us < RETENTION_US - HOUR_US:
            log.info("stream.trimmed_behind", extra=self._fields(shard=shard, reason=reason))
            return
        await self._open_gap(shard, reason)

    async def on_keyless(self, shard: str, sequence: int, error: Keyless) -> None:
        """A change of nobody knows which item: lost like one that the stream does not hold.

        It can neither be applied nor parked by key. As a gap it is told, and comparing the tables
        brings back what it did.
        """
        await self._open_gap(shard, f"{error}: sequence {sequence}; the tables are to be compared")

    def _is_readable(self, reader: StreamReader) -> bool:
        """Whether the source has answered of late: a call that hangs is no good sign either."""
        if reader.last_poll_s is None or reader.failing or not reader.open_shards:
            return False
        age_s = self._parts.clock.monotonic_s() - reader.last_poll_s
        return age_s < self._parts.reader_limits.describe_interval_s + CALL_S_MAX

    async def save_finally(self) -> None:
        """The last save; if it cannot be made in time, some records will be read again."""
        try:
            async with asyncio.timeout(self._limits.drain_s):
                await self._save()
        except TimeoutError:
            log.warning("pipeline.checkpoint_cut", extra=self._fields())

    @property
    def latest_us(self) -> int | None:
        """When the last record was made that was read."""
        return max(self._latest_us.values(), default=None)

    async def _save(self) -> None:
        held_back = bool(self._held_back())
        if self._stamps_at_home:
            await self._save_at_home(all_shards=held_back)
        if held_back or self._held_back():
            return
        for shard, position in self._flow.positions().items():
            if self._saved.get(shard) == position:
                continue
            await self._save_one(self._stores.checkpoints, shard, position)
            self._saved[shard] = position
            if isinstance(position, Finished):
                self._flow.forget(shard)
                del self._saved[shard]
                self._saved_at_home.pop(shard, None)
                self._latest_us.pop(shard, None)
                self._pages.pop(shard, None)

    async def _save_at_home(self, *, all_shards: bool) -> None:
        for shard, position in self._flow.positions_at_home(all_shards=all_shards).items():
            if self._saved_at_home.get(shard) != position:
                await self._save_one(self._stores.at_home, shard, position)
                self._saved_at_home[shard] = position

    async def _save_one(self, store: Positions, shard: str, position: After | Finished) -> None:
        checkpoint = Checkpoint(
            table=self._stats.table,
            source=self._stats.source,
            stream_arn=self._arn,
            shard=shard,
            position=position,
        )
        await self._patiently(partial(store.save, checkpoint))

    async def _open_gap(self, shard: str, reason: str) -> None:
        """Write down that records were lost; reading goes on only when that is durable."""
        gap = Gap(
            table=self._stats.table,
            source=self._stats.source,
            stream_arn=self._arn,
            shard=shard,
            since_us=self._parts.clock.now_us(),
            reason=reason,
        )
        log.error("stream.gap", extra=self._fields(shard=shard, reason=reason))
        await self._patiently(partial(self._stores.gaps.report, gap))
        self._stats.gap = gap

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call to the source region's control table, made until it is answered."""
        return await self._parts.writer.patiently(self._stats.source, call)

    def _fields(self, **more: object) -> dict[str, object]:
        return {"table": self._stats.table, "region": self._stats.source, **more}
