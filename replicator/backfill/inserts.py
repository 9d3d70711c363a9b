"""Items put into empty places, many per call.

BatchWriteItem takes no conditions, but a PartiQL INSERT fails on an item that stands, and a batch
of 25 of them is one call. What was not inserted, for whatever reason, is told by its place in the
answer, and goes the way of single conditional writes, where outcomes are known better.

An engine, or a role, that does not allow this is found out by the first batch, once; from then on
nothing is inserted here. Throttled statements are made again until they are answered. A call into
the target of a one-way table stands behind its fence, as every other write does.

This module must not know why an item may be put into an empty place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

from replicator.errors import Replaced, ReplicatorError, Throttled, Transient
from replicator.handover.active import Fence
from replicator.ports import Api
from replicator.rate import Budget
from replicator.requests import Wire
from replicator.writer import Writer

logger = logging.getLogger(__name__)

BATCH_STATEMENTS_MAX = 25
"""Source: API_BatchExecuteStatement, Statements."""

STATEMENT_CHARACTERS_MAX = 8_192
"""Source: API_BatchStatementRequest, Statement."""

BATCHES_IN_FLIGHT = 8
"""Per target region."""

TRIES_MAX = 3
"""Failures of the very first batch after which batches count as not supported."""

_TO_BE_REPEATED = frozenset(
    {
        "RequestLimitExceeded",
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "TransactionConflict",
        "ThrottlingError",
    }
)
"""Source: API_BatchStatementError, Code."""


class Inserts:
    """Inserts into one table of one region."""

    def __init__(
        self,
        *,
        api: Api,
        table: str,
        region: str,
        writer: Writer,
        bucket: Budget,
        fence: Fence | None = None,
    ) -> None:
        """`bucket`: a batch is paid for before it is made."""
        self._api, self._table, self._fence = api, table, fence
        self._bucket = bucket
        self._region, self._writer = region, writer
        self._gate = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        self._first = asyncio.Lock()
        self._supported: bool | None = None

    async def insert(self, items: Sequence[Wire], units: Sequence[float]) -> list[bool]:
        """Which of these items of different keys were inserted; the others were not written.

        `units`: what each costs, taken from the bucket if its batch is made.

        One whose answer was lost counts as not inserted, although it may stand by now.

        Raises: Replaced.
        """
        statements = [self._statement(item) for item in items]
        made = [False] * len(items)
        able = [place for place, statement in enumerate(statements) if statement is not None]
        batches = [
            {place: statements[place] for place in able[start : start + BATCH_STATEMENTS_MAX]}
            for start in range(0, len(able), BATCH_STATEMENTS_MAX)
        ]
        making = (self._insert(batch, sum(units[place] for place in batch)) for batch in batches)
        for inserted in await asyncio.gather(*making):
            for place in inserted:
                made[place] = True
        return made

    def _statement(self, item: Wire) -> Wire | None:
        text = _insert_text(self._table, tuple(item))
        if len(text) > STATEMENT_CHARACTERS_MAX:
            return None
        return {"Statement": text, "Parameters": list(item.values())}

    async def _insert(self, batch: Mapping[int, Wire | None], units: float) -> list[int]:
        """The places of one batch that were inserted."""
        if self._supported is None:
            async with self._first:
                if self._supported is None:
                    await self._bucket.take(units)
                    return await self._try_first(batch)
        if not self._supported:
            return []
        await self._bucket.take(units)
        try:
            return await self._insert_all(batch)
        except Replaced:
            raise
        except ReplicatorError as error:
            logger.debug("backfill.batch_refused", extra={"error": str(error)})
            return []  # one item may spoil the call; each is judged by itself

    async def _try_first(self, batch: Mapping[int, Wire | None]) -> list[int]:
        """The same for the first batch of all, which tells whether there can be more."""
        for tries in range(1, TRIES_MAX + 1):
            try:
                codes = await self._call(batch)
            except Throttled:
                codes = dict.fromkeys(batch, "ThrottlingError")
            except Replaced:
                raise
            except ReplicatorError as error:
                if isinstance(error, Transient) and tries < TRIES_MAX:
                    continue
                return self._give_up(str(error))
            if "AccessDenied" in codes.values():
                return self._give_up("AccessDenied: dynamodb:PartiQLInsert")
            break
        self._supported = True
        left = {place: batch[place] for place, code in codes.items() if _is_passing(code)}
        inserted = [place for place, code in codes.items() if code is None]
        return inserted + (await self._insert_all(left) if left else [])

    def _give_up(self, reason: str) -> list[int]:
        self._supported = False
        extra = {"region": self._region, "error": reason}
        logger.warning("backfill.no_batches", extra=extra)
        return []

    async def _insert_all(self, batch: Mapping[int, Wire | None]) -> list[int]:
        inserted: list[int] = []
        left = dict(batch)
        async with self._gate:
            while left:
                codes = await self._writer.patiently(self._region, partial(self._call, left))
                inserted += [place for place, code in codes.items() if code is None]
                left = {place: left[place] for place, code in codes.items() if _is_passing(code)}
        return inserted

    async def _call(self, batch: Mapping[int, Wire | None]) -> dict[int, str | None]:
        """What became of each: None where it was inserted, else the code of its error.

        Raises: Throttled where not one was processed; Replaced.
        """
        if self._fence is not None:
            await self._fence.check()
        response = await self._api.call(
            "BatchExecuteStatement", {"Statements": list(batch.values())}
        )
        codes = {
            place: (answer.get("Error") or {}).get("Code")
            for place, answer in zip(batch, response["Responses"], strict=True)
        }
        if codes and all(map(_is_passing, codes.values())):
            raise Throttled(f"BatchExecuteStatement on {self._table} in {self._region}")
        return codes


def _is_passing(code: str | None) -> bool:
    return code in _TO_BE_REPEATED


@lru_cache(maxsize=4_096)
def _insert_text(table: str, names: tuple[str, ...]) -> str:
    members = ", ".join(f"{_quoted(name)}: ?" for name in names)
    return f'INSERT INTO "{table}" VALUE {{{members}}}'


def _quoted(name: str) -> str:
    """A PartiQL string. A quote in it is doubled."""
    return "'" + name.replace("'", "''") + "'"
