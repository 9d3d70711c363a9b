"""How far streams are settled, in the control table: checkpoints, positions at home, the last read.

Positions compare as texts, sequence numbers as 40 digits, because an N holds 38 only; `finished`
sorts above all digits. A position only ever rises. Those of finished shards are kept for the
retention, since the stream forgets its shards sooner; those of unfinished shards stay: without them
a long outage would not show as a gap.

A malformed position is reported and counts as none: replays are harmless.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from conflict.version import SEQUENCE_DIGITS_MAX
from replicator.control import (
    CONTROL_TTL_ATTRIBUTE,
    RETENTION_S,
    STATE,
    ControlTable,
    expiry,
    row_key,
    sequence_text,
    whole_number,
)
from replicator.errors import ConditionFailed
from replicator.ports import Api, Clock
from replicator.records import After, Checkpoint, Finished
from replicator.requests import Wire

logger = logging.getLogger(__name__)

CHECKPOINT, AT_HOME = "checkpoint", "home"
"""Of what a position is: of all that is settled in every target; of what is settled at home."""

FINISHED = "finished"
_SETTLED = re.compile(rf"[0-9]{{{SEQUENCE_DIGITS_MAX}}}|{FINISHED}", re.ASCII)


class ControlPositions:
    """ports.Positions over the control table; `kind` says what they are positions of."""

    def __init__(
        self,
        *,
        api: Api,
        control_table: str,
        clock: Clock,
        kind: str,
        retention_s: int = RETENTION_S,
    ) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._clock = clock
        self._kind = kind
        self._retention_s = retention_s

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        """The stored positions. One that is malformed is reported and left out."""
        checkpoints = []
        for row in await self._control.query(f"{self._kind}#{table}#{source}"):
            arn, _, shard = row["sk"]["S"].rpartition("#")
            position = position_of(row)
            if position is None:
                fields = {"table": table, "source": source, "shard": shard}
                logger.warning("checkpoint.malformed", extra=fields)
                continue
            checkpoints.append(
                Checkpoint(
                    table=table, source=source, stream_arn=arn, shard=shard, position=position
                )
            )
        return checkpoints

    async def save(self, checkpoint: Checkpoint) -> None:
        try:
            await self._save(checkpoint, "attribute_not_exists(settled) OR settled < :settled", {})
        except ConditionFailed as refused:
            row = refused.item or {}
            if position_of(row) is not None:
                return  # it lies behind the stored one
            # What is no position may sort above all of them, and would stand for ever.
            await self._save(checkpoint, "settled = :malformed", {":malformed": row["settled"]})

    async def _save(self, checkpoint: Checkpoint, condition: str, values: Wire) -> None:
        pk = f"{self._kind}#{checkpoint.table}#{checkpoint.source}"
        sk = f"{checkpoint.stream_arn}#{checkpoint.shard}"
        expression, values = "SET settled = :settled", dict(values)
        match checkpoint.position:
            case After(sequence=sequence):
                values[":settled"] = {"S": sequence_text(sequence)}
            case Finished():
                values[":settled"] = {"S": FINISHED}
        if self._kind != CHECKPOINT or isinstance(checkpoint.position, Finished):
            values[":expires"] = expiry(self._clock, self._retention_s)
            expression += f", {CONTROL_TTL_ATTRIBUTE} = :expires"
        await self._control.update(row_key(pk, sk), expression, condition, values)


class ControlCheckpoints(ControlPositions):
    """ports.Checkpoints over the control table."""

    def __init__(
        self, *, api: Api, control_table: str, clock: Clock, retention_s: int = RETENTION_S
    ) -> None:
        super().__init__(
            api=api,
            control_table=control_table,
            clock=clock,
            kind=CHECKPOINT,
            retention_s=retention_s,
        )

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        await self._control.raise_moment(
            row_key(f"read#{table}#{source}", STATE), "read_us", read_us
        )

    async def last_read(self, table: str, source: str) -> int | None:
        rows = await self._control.query(f"read#{table}#{source}")
        if not rows:
            return None
        read_us = whole_number(rows[0], "read_us")
        if read_us is None:  # as if nobody had read for ever: a gap, which is mended
            logger.warning("last_read.malformed", extra={"table": table, "source": source})
            return 0
        return read_us


def position_of(row: Mapping[str, Any]) -> After | Finished | None:
    """What a row says is settled; None where that is malformed."""
    text = row.get("settled", {}).get("S", "")
    if not isinstance(text, str) or not _SETTLED.fullmatch(text):
        return None
    return Finished() if text == FINISHED else After(int(text))
