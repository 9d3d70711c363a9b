"""One Lambda invocation as a session: the batch stands for a stream, and a stream it is read as.

    event ─► BatchSource ─► Session (transformer, flow, writer: those of the process) ─► tables
                                └─ positions ─► Positions ─► the lowest sequence not settled

A batch is a stream of one shard that was turned off: the reader reads it to its end and stops. The
mapping keeps the checkpoint, so positions are kept in memory, and end as the answer: everything
below the lowest record that is not settled counts, the rest is handed over again. What is under way
when the time is up is dropped; that is safe at any point.

This module must not know Lambda's event, its context, or how a region is reached.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from replicator.errors import Transient, Trimmed, first_of_all, spoken
from replicator.lambda_home import HomeMemory
from replicator.parts import PipelineParts, PipelineStores
from replicator.ports import StreamSource
from replicator.records import (
    After,
    Checkpoint,
    Finished,
    Gap,
    Page,
    Record,
    Shard,
    StreamDescription,
    TrimHorizon,
    ViewType,
)
from replicator.session import Session

log = logging.getLogger(__name__)

SHARD = "batch"
KEEP_INTERVAL_S = 0.25


async def lowest_unsettled(
    parts: PipelineParts,
    stream_arn: str,
    records: Sequence[Record],
    *,
    within_s: float,
    memory: HomeMemory,
) -> int | None:
    """Apply a batch; the lowest sequence number that is not settled in time, None if all are.

    Raises: what ended the session, such as Fatal for a stream that cannot serve the table.
    """
    positions, at_home = Positions(), Positions()
    source = BatchSource(stream_arn, tuple(records))
    try:
        async with asyncio.timeout(within_s + KEEP_INTERVAL_S):
            settled = await memory.recall(stream_arn, records)
            at_home.position = None if settled is None else After(settled)
            session = Session(_parts_of(parts, source, positions, at_home, within_s))
            await session.run(asyncio.Event())
    except TimeoutError:
        pass  # something at home hangs: what was settled by the last look is known
    except BaseExceptionGroup as group:
        raise first_of_all(group) from None
    lowest = positions.lowest_beyond(records)
    await _note_at_home(memory, stream_arn, records, lowest, at_home.lowest_beyond(records))
    return lowest


async def _note_at_home(
    memory: HomeMemory,
    stream_arn: str,
    records: Sequence[Record],
    lowest: int | None,
    lowest_at_home: int | None,
) -> None:
    """What will be handed over again is remembered by where it begins, if there is time."""
    if lowest is None:
        return
    left = [record for record in records if record.sequence >= lowest]
    settled = [r.sequence for r in left if lowest_at_home is None or r.sequence < lowest_at_home]
    if not settled:
        return
    try:
        async with asyncio.timeout(KEEP_INTERVAL_S):
            await memory.note(stream_arn, left, max(settled))
    except (TimeoutError, Transient) as error:
        log.warning("batch.home_not_noted", extra={"error": spoken(error)})


def _parts_of(
    parts: PipelineParts,
    source: BatchSource,
    positions: Positions,
    at_home: Positions,
    within_s: float,
) -> PipelineParts:
    async def find_stream() -> tuple[str, StreamSource]:
        return source.arn, source

    return replace(
        parts,
        find_stream=find_stream,
        stores=PipelineStores(
            checkpoints=positions,
            at_home=AtHome(at_home, source.arn),
            quarantine=parts.stores.quarantine,
            gaps=_KnownGaps(parts.stats.gap),
        ),
        limits=replace(
            parts.limits,
            unsettled_records_max=len(source.records_of_batch) + 1,
            checkpoint_interval_s=KEEP_INTERVAL_S,
            drain_s=within_s,
        ),
    )


@dataclass(frozen=True, slots=True)
class BatchSource:
    """ports.StreamSource: a stream that holds a batch, and that nothing will be added to."""

    arn: str
    records_of_batch: tuple[Record, ...]

    async def describe(self) -> StreamDescription:
        return StreamDescription(
            arn=self.arn,
            view_type=ViewType.NEW_AND_OLD_IMAGES,
            enabled=False,
            shards=(Shard(id=SHARD, closed=True),),
        )

    async def iterator(self, shard: str, position: TrimHorizon | After) -> str:
        del position
        return shard

    async def records(self, iterator: str, limit: int) -> Page:
        """The whole batch: it folds at its best when it is seen at once."""
        del iterator, limit
        return Page(records=self.records_of_batch, next_iterator=None)


@dataclass(slots=True)
class Positions:
    """ports.Checkpoints of one invocation: how far its batch is settled."""

    position: After | Finished | None = field(default=None)

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        del table, source
        return []

    async def save(self, checkpoint: Checkpoint) -> None:
        if checkpoint.shard == SHARD:  # which stream it is, the mapping knows
            self.position = checkpoint.position

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        """The mapping tells of a long absence: its IteratorAge grows."""

    async def last_read(self, table: str, source: str) -> int | None:
        del table, source
        return None

    def lowest_beyond(self, records: Sequence[Record]) -> int | None:
        """The lowest sequence number of a batch that is not settled."""
        match self.position:
            case Finished():
                return None
            case After(settled):
                left = [r.sequence for r in records if r.sequence > settled]
            case None:
                left = [r.sequence for r in records]
        return min(left, default=None)


@dataclass(frozen=True, slots=True)
class AtHome:
    """ports.Positions: up to where the batch is settled at home, before and by now."""

    positions: Positions
    arn: str

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        position = self.positions.position
        if position is None:
            return []
        return [
            Checkpoint(
                table=table, source=source, stream_arn=self.arn, shard=SHARD, position=position
            )
        ]

    async def save(self, checkpoint: Checkpoint) -> None:
        await self.positions.save(checkpoint)


@dataclass(frozen=True, slots=True)
class _KnownGaps:
    """ports.Gaps: a batch in hand has lost nothing; what was lost before stays known."""

    known: Gap | None

    async def report(self, gap: Gap) -> None:
        raise Trimmed(gap.reason)

    async def load(self, table: str, source: str) -> list[Gap]:
        del table, source
        return [] if self.known is None else [self.known]
