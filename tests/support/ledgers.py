"""A ledger of conflicts in virtual time, and the rows of its control table in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from conflict.version import Kind, Version
from replicator.control import ControlTable
from replicator.errors import ConditionFailed
from replicator.ledger import Conflict, Ledger, LedgerLimits, Secret, Side
from replicator.table import key_of
from support.clock import START_US, VirtualClock
from support.pipelines import image

PERSON = "jane@example.org"
OURS = Version(START_US - 1_000, "us", 4, Kind.SETTLED)
THEIRS = Version(START_US - 3_000, "eu", 2, Kind.REPLICATED)


def conflict(at_us: int = START_US, name: str = PERSON, **changed: Any) -> Conflict:
    """One decision, about a write of just before."""
    won = Version(at_us - 1_000, OURS.origin, OURS.sequence, OURS.kind)
    made: dict[str, Any] = {
        "at_us": at_us,
        "table": "orders",
        "source": "us",
        "region": "eu",
        "key": key_of({"id": {"S": name}}, ("id",)),
        "winner": Side(won, image(name, "ours")),
        "loser": Side(THEIRS, image(name, "theirs")),
    }
    return Conflict(**{**made, **changed})


class MemoryControl:
    """An Api that keeps the rows of a control table, and fails as it is told."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.at_once = self.at_once_max = 0
        self.error: Exception | None = None
        self.hangs = False
        self.unprocessed = 0
        self.queries: list[Mapping[str, Any]] = []

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """As DynamoDB answers, as far as a ledger asks."""
        if self.hangs:
            await asyncio.sleep(3_600)
        if self.error is not None:
            raise self.error
        if operation == "PutItem":
            await self._put(request)
            return {}
        return self._query(request)

    def _query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A page of a partition, from either end."""
        self.queries.append(request)
        values = request["ExpressionAttributeValues"]
        pk, first = values[":pk"]["S"], values.get(":first", {"S": ""})["S"]
        found = [row for at, row in sorted(self.rows.items()) if at[0] == pk and at[1] >= first]
        if not request.get("ScanIndexForward", True):
            found.reverse()
        after = request.get("ExclusiveStartKey")
        start = 0 if after is None else [row["sk"] for row in found].index(after["sk"]) + 1
        page = found[start : start + request.get("Limit", len(found) or 1)]
        more = start + len(page) < len(found)
        last = {name: page[-1][name] for name in ("pk", "sk")} if more else None
        return {"Items": page} | ({"LastEvaluatedKey": last} if last else {})

    async def _put(self, request: Mapping[str, Any]) -> None:
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        row = request["Item"]
        at = row["pk"]["S"], row["sk"]["S"]
        if at in self.rows and request["ConditionExpression"] == "attribute_not_exists(pk)":
            raise ConditionFailed(None)
        self.rows[at] = row

    @property
    def conflicts(self) -> list[dict[str, Any]]:
        """The rows of the ledger."""
        return [row for (pk, _), row in self.rows.items() if pk == "conflict#orders"]


class Desk:
    """A ledger in virtual time."""

    def __init__(
        self, *, given: str | None = None, limits: LedgerLimits | None = None, **options: Any
    ) -> None:
        self.clock, self.api, self.stop = VirtualClock(), MemoryControl(), asyncio.Event()
        control = ControlTable(api=self.api, name="control")
        self.ledger = Ledger(
            region="us",
            control=control,
            secret=Secret(control, given),
            clock=self.clock,
            sleep=self.clock.sleep,
            limits=limits or LedgerLimits(),
            **options,
        )

    def run(self, script: Callable[[], Awaitable[None]]) -> None:
        """Keep the ledger while `script` runs; then stop it and write the rest."""

        async def main() -> None:
            running = asyncio.create_task(self.ledger.run(self.stop))
            await script()
            self.stop.set()
            await running
            await self.ledger.write_rest()

        self.clock.run(main(), limit_s=86_400.0)

    @property
    def tally(self) -> tuple[int, int, int]:
        """Noted, written and unwritten."""
        stats = self.ledger.stats
        return stats.noted, stats.written, stats.unwritten
