"""Keeps what must outlive a session: positions, gaps, and until when all was done.

A position is saved when it has moved, at intervals and at the end. A gap is written down before
reading goes on. "Done until" is the moment before which every record has been read and settled; it
tells a long absence from a quiet table, in which nothing else moves.

This module must not know how records are read or applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial

from replicator.errors import Fatal
from replicator.flow import Flow
from replicator.parts import PipelineParts
from replicator.reader import StreamReader
from replicator.records import WHOLE_STREAM, After, Checkpoint, Finished, Gap, Record
from replicator.telemetry import PipelineState

log = logging.getLogger(__name__)

HOUR_US = 3_600_000_000
RETENTION_US = 24 * HOUR_US
"""Source: DynamoDB Streams, "data in DynamoDB Streams is subject to a 24-hour lifetime"."""

NOTE_READ_EVERY_S = 60.0
CALL_S_MAX = 15.0
"""After this a call has been given up by the adapter's own timeouts."""


class Keeper:
    """The keeping of one session."""

    def __init__(self, parts: PipelineParts, flow: Flow, stream_arn: str) -> None:
        self._parts, self._flow, self._arn = parts, flow, stream_arn
        self._stats, self._stores, self._limits = parts.stats, parts.stores, parts.limits
        self._saved: dict[str, After | Finished] = {}
        self._latest_us: dict[str, int] = {}
        self._done_until_us: int | None = None
        self._pages: dict[str, deque[tuple[float, int]]] = {}
        """By shard, when each page was read and where it ends, as long as it is not settled."""

    def note_page(self, shard: str, last: Record) -> None:
        """A page was taken in that ends with this record."""
        self._latest_us[shard] = last.created_us
        read_s = self._parts.clock.monotonic_s()
        self._pages.setdefault(shard, deque()).append((read_s, last.sequence))

    async def load(self) -> dict[str, After | Finished]:
        """The stored positions of the present stream; those of another one make a gap."""
        table, source, stores = self._stats.table, self._stats.source, self._stores
        self._stats.stream_arn = self._arn
        stored = await stores.checkpoints.load(table, source)
        present = {c.shard: c.position for c in stored if c.stream_arn == self._arn}
        if stored and not present:
            await self._open_gap(WHOLE_STREAM, "the table's stream was re-created")
        last_us = await stores.checkpoints.last_read(table, source)
        self._done_until_us = last_us
        unread_us = 0 if last_us is None else self._parts.clock.now_us() - last_us
        if unread_us > RETENTION_US:
            hours = unread_us // HOUR_US
            await self._open_gap(WHOLE_STREAM, f"unread for {hours} h; a stream holds 24 h")
        gaps = await stores.gaps.load(table, source)
        self._stats.gap = gaps[0] if gaps else None
        self._saved = dict(present)
        return present

    async def keep(self, reader: StreamReader) -> None:
        """Save positions, and keep the figures of the reader, again and again."""
        noted_s = self._parts.clock.monotonic_s()
        while True:
            await self._parts.sleep(self._limits.checkpoint_interval_s)
            self._look_at(reader)
            self._check_age()
            await self._save()
            self._done_until_us = self._all_done_until_us(reader) or self._done_until_us
            now_s = self._parts.clock.monotonic_s()
            if self._done_until_us is not None and now_s - noted_s > NOTE_READ_EVERY_S:
                await self._note_read(self._done_until_us)
                noted_s = now_s

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
            while pages and _covers(position, pages[0][1]):
                pages.popleft()
            if pages and now_s - pages[0][0] > RETENTION_US / 1e6:
                raise Fatal("a change has waited longer than the stream holds it; reading anew")

    def _all_done_until_us(self, reader: StreamReader) -> int | None:
        """Until when every record has been read and settled; None if that cannot be told now."""
        if not self._stats.readable or reader.last_poll_s is None:
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
        await self._parts.writer.patiently(source, note)

    async def on_loss(self, shard: str, reason: str) -> None:
        """The stream no longer holds a position. It is a gap unless all was done of late.

        The last record of a quiet shard is trimmed like any other, and its position with it; what
        came after it, if anything, is younger than what a stream holds.
        """
        done_us = self._done_until_us
        if done_us is not None and self._parts.clock.now_us() - done_us < RETENTION_US - HOUR_US:
            log.info("stream.trimmed_behind", extra=self._fields(shard=shard, reason=reason))
            return
        await self._open_gap(shard, reason)

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

    async def _save(self) -> None:
        for shard, position in self._flow.positions().items():
            if self._saved.get(shard) == position:
                continue
            checkpoint = Checkpoint(
                table=self._stats.table,
                source=self._stats.source,
                stream_arn=self._arn,
                shard=shard,
                position=position,
            )
            save = partial(self._stores.checkpoints.save, checkpoint)
            await self._parts.writer.patiently(self._stats.source, save)
            self._saved[shard] = position
            if isinstance(position, Finished):
                self._flow.forget(shard)
                del self._saved[shard]
                self._latest_us.pop(shard, None)
                self._pages.pop(shard, None)

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
        await self._parts.writer.patiently(
            self._stats.source, partial(self._stores.gaps.report, gap)
        )
        self._stats.gap = gap

    def _fields(self, **more: object) -> dict[str, object]:
        return {"table": self._stats.table, "region": self._stats.source, **more}


def _covers(position: After | Finished | None, sequence: int) -> bool:
    match position:
        case None:
            return False
        case After(settled):
            return settled >= sequence
        case Finished():
            return True
