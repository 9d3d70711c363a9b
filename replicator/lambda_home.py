"""What of a batch was settled at home before it was handed over again.

A record that is settled at home, and lacks only a target, must not claim its place a second time:
by then a newer delete may be under way (conflict.protocol, *once*). The process remembers a
position per shard. A mapping hands over batches of which nobody is told the shard, nor the slot of
it; but what is handed over again begins at exactly the record that the last answer named. So the
row of a batch goes by its first sequence number:

    batch#<table>#<source>      <stream ARN>#<first sequence>      settled, of, expires_at

`of` is a digest of the sequence numbers that the position covers. It must be that of the same
numbers in the batch at hand: a mapping whose slots were changed meanwhile has other batches.

A young batch is not looked for: what was named in an answer has had the function's time to age.
The row is a help and nothing depends on it; where it cannot be written, or is malformed, records
are settled anew.

This module must not know events, nor how a batch is applied.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from replicator.control import CONTROL_TTL_ATTRIBUTE, ControlTable, expiry, row_key, sequence_text
from replicator.ports import Api, Clock, Sleep
from replicator.positions import position_of
from replicator.records import After, Record

log = logging.getLogger(__name__)

YOUNG_US = 5_000_000
"""Younger than this, by a record's time in whole seconds, a batch comes for the first time."""

ROW_S = 2 * 24 * 3_600
"""Longer than a stream holds its records."""

DIGEST_BYTES = 16


class HomeMemory(Protocol):
    """What is remembered of batches that were not settled everywhere."""

    async def recall(self, stream_arn: str, records: Sequence[Record]) -> int | None:
        """Up to which sequence number a batch was settled at home before."""
        ...

    async def note(self, stream_arn: str, records: Sequence[Record], settled: int) -> None:
        """Remember it of the batch that will be handed over again."""
        ...


class ControlHomeMemory:
    """HomeMemory in the control table of the source region, of one table."""

    def __init__(
        self, *, api: Api, control_table: str, table: str, source: str, clock: Clock, sleep: Sleep
    ) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._table, self._source = table, source
        self._pk = f"batch#{table}#{source}"
        self._clock, self._sleep = clock, sleep

    async def recall(self, stream_arn: str, records: Sequence[Record]) -> int | None:
        if records[0].created_us > self._clock.now_us() - YOUNG_US:
            return None
        key = row_key(self._pk, _name(stream_arn, records))
        for row in await self._control.read([key], sleep=self._sleep):
            match position_of(row):
                case After(sequence=settled):
                    if row.get("of", {}).get("B") == covered(records, settled):
                        return settled
                case _:
                    fields = {"table": self._table, "region": self._source, "row": row["sk"]["S"]}
                    log.warning("batch.malformed", extra=fields)
        return None

    async def note(self, stream_arn: str, records: Sequence[Record], settled: int) -> None:
        row = {
            **row_key(self._pk, _name(stream_arn, records)),
            "settled": {"S": sequence_text(settled)},
            "of": {"B": covered(records, settled)},
            CONTROL_TTL_ATTRIBUTE: expiry(self._clock, ROW_S),
        }
        position = {":settled": row["settled"]}
        await self._control.put(row, "attribute_not_exists(pk) OR settled <= :settled", position)


def covered(records: Sequence[Record], settled: int) -> bytes:
    """What stands for the sequence numbers up to a position."""
    seen = blake2b(digest_size=DIGEST_BYTES)
    for record in records:
        if record.sequence <= settled:
            seen.update(f"{record.sequence},".encode())
    return seen.digest()


def _name(stream_arn: str, records: Sequence[Record]) -> str:
    return f"{stream_arn}#{sequence_text(records[0].sequence)}"
