"""Who the source of a one-way table is by now, and the fence that holds the former one off.

    handover#<table>               state                       which region writes the table now

The row stands in the control table of every region of the table. Where there is none, the
configuration holds. It moves by compare-and-set from the region that holds the table, so that two
operators cannot hand one table to two regions; holding.py says in what order.

A replicator that was not told (a process in a region that comes back, a machine that was paused)
still believes its configuration. So what writes into a one-way target looks at the row first, and
again whenever its last look is older than FENCE_S: a source that was replaced is turned away. A
hand-over waits until no look that was older than the row can still lead to a write (SETTLED_S).
Where every region writes no fence is needed: there versions decide, whoever writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
from replicator.control import STATE, ControlTable, row_key
from replicator.errors import Fatal, Replaced
from replicator.ports import Api, Clock, KeyStates, Sleep, Table

W = TypeVar("W")

FENCE_S = 5.0
CALL_S_MAX = 15.0
"""After this a call has been given up by the adapter's own timeouts."""

SETTLED_S = FENCE_S + CALL_S_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A table was handed over: from which region to which, and when (microseconds UTC)."""

    table: str
    source: str
    former: str
    at_us: int
    planned: bool


class Handovers:
    """The rows of one region's control table."""

    def __init__(self, *, api: Api, control_table: str, sleep: Sleep) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._sleep = sleep

    async def load(self, table: str) -> Handover | None:
        """The last hand-over that this region was told of; strongly consistent.

        Raises: Fatal for a row that is malformed.
        """
        rows = await self._control.read([_key(table)], sleep=self._sleep)
        if not rows:
            return None
        try:
            return Handover(
                table=table,
                source=rows[0]["source"]["S"],
                former=rows[0]["former"]["S"],
                at_us=int(rows[0]["at_us"]["N"]),
                planned=bool(rows[0]["planned"]["BOOL"]),
            )
        except (KeyError, ValueError):
            raise Fatal(f"{self._control.name}: handover#{table} is malformed; mend it") from None

    async def store(self, handover: Handover, seen: Handover | None = None) -> bool:
        """Write it down; False where a region that is neither of the two holds the table.

        `seen`: the newest that any region knew. A row that is older was left behind by it.
        """
        condition = "attribute_not_exists(pk) OR #source = :former OR #source = :source"
        values = {":former": {"S": handover.former}, ":source": {"S": handover.source}}
        if seen is not None:
            condition += " OR at_us < :seen"
            values[":seen"] = {"N": str(seen.at_us)}
        return await self._control.put(
            {
                **_key(handover.table),
                "source": {"S": handover.source},
                "former": {"S": handover.former},
                "at_us": {"N": str(handover.at_us)},
                "planned": {"BOOL": handover.planned},
            },
            condition,
            values,
            {"#source": "source"},
        )


def _key(table: str) -> dict[str, dict[str, str]]:
    return row_key(f"handover#{table}", STATE)


class Fence:
    """Lets writes of a source into one target pass as long as it is the source."""

    def __init__(self, *, table: str, source: str, rows: Handovers, clock: Clock) -> None:
        self._table, self._source, self._rows, self._clock = table, source, rows, clock
        self._looked_s: float | None = None
        self._looking = asyncio.Lock()

    async def check(self) -> None:
        """Raises: Replaced when the table was handed over to another region."""
        if self.is_fresh():
            return
        async with self._looking:
            if self.is_fresh():
                return
            begun_s = self._clock.monotonic_s()
            handover = await self._rows.load(self._table)
            if handover is not None and handover.source != self._source:
                raise Replaced(replaced(self._table, self._source, handover))
            self._looked_s = begun_s

    def is_fresh(self) -> bool:
        """Whether it was looked at so recently that it need not be again."""
        looked_s = self._looked_s
        return looked_s is not None and self._clock.monotonic_s() - looked_s < FENCE_S


def replaced(table: str, source: str, handover: Handover) -> str:
    """What to tell a source that is the source no more."""
    return (
        f"table {table}: {source} is its source no more, it was handed over to "
        f"{handover.source}; change its section of the configuration, see runbooks/failback.md"
    )


class FencedTable:
    """ports.Table of a one-way target behind its fence."""

    def __init__(self, table: Table, fence: Fence) -> None:
        self._table, self._fence = table, fence

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        return await self._table.get(keys)

    def put(self, operation: Put) -> Coroutine[Any, Any, Outcome]:
        return self._behind(self._table.put, operation)

    def stamp(self, operation: Stamp) -> Coroutine[Any, Any, Outcome]:
        return self._behind(self._table.stamp, operation)

    def delete(self, operation: Delete) -> Coroutine[Any, Any, Outcome]:
        return self._behind(self._table.delete, operation)

    def _behind(
        self, write: Callable[[W], Coroutine[Any, Any, Outcome]], operation: W
    ) -> Coroutine[Any, Any, Outcome]:
        """The write at once where the fence was looked at just now, else after a look."""
        return write(operation) if self._fence.is_fresh() else self._checked(write, operation)

    async def _checked(
        self, write: Callable[[W], Coroutine[Any, Any, Outcome]], operation: W
    ) -> Outcome:
        await self._fence.check()
        return await write(operation)


class FencedStates:
    """ports.KeyStates of a one-way target behind its fence."""

    def __init__(self, states: KeyStates, fence: Fence) -> None:
        self._states, self._fence = states, fence

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        return await self._states.read(keys)

    async def raise_tombstone(self, operation: RaiseTombstone) -> Version | None:
        await self._fence.check()
        return await self._states.raise_tombstone(operation)

    async def hold(self, operation: Hold) -> None:
        await self._fence.check()
        await self._states.hold(operation)

    async def release(self, operation: Release) -> None:
        await self._fence.check()
        await self._states.release(operation)
