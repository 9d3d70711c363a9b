"""Keys that looked different in a scan: which of them are, and the repair of those that are.

While regions are written to, copies differ for as long as a change is on its way. So a key is read
again, strongly and with all that is remembered of it, and is a difference only when nothing about
it has changed in any region for STEADY_LOOKS looks in a row, `settle_s` apart. What still changes
after ROUNDS_MAX looks is counted as restless: no difference, and not known to be equal.

A repair is paid for before it is made, so that a rate can hold it back. It ends when a later look
finds all regions equal. It goes by the verdict of the very look that found the difference; what has
changed since keeps its place, and is looked at again.

This module must not know how the keys were found, nor what is told to whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Generic, TypeAlias, TypeVar

from conflict.content import canonical
from conflict.merge import Steps
from conflict.operations import Key
from conflict.repair import Finding, Holding, Verdict, look, repair
from conflict.version import Version
from replicator.errors import Poison
from replicator.ports import READ_BATCH_MAX, Sleep
from replicator.writer import Writer

T = TypeVar("T")

STEADY_LOOKS = 3
ROUNDS_MAX = 7
"""Enough to find a difference, repair it, find that it changed meanwhile, and look on."""

Judge: TypeAlias = Callable[[Key, Mapping[str, Holding]], Verdict]
Pay: TypeAlias = Callable[[Verdict], Awaitable[None]]
"""Returns when what a verdict asks for may be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One region's part in a difference. `holds`: an item stands there."""

    finding: Finding
    holds: bool
    version: Version | None
    tombstone: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A key that is not the same everywhere.

    `newest`: the regions that hold what all should. `decided`: it is known what that is.
    `repaired`: None where no repair was asked for; `error`: why one could not be made.
    """

    key: Key
    sides: Mapping[str, Side]
    newest: tuple[str, ...]
    decided: bool
    repaired: bool | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Task(Generic[T]):
    """A step for the writer."""

    region: str
    begin: Callable[[], Steps[T]]

    def start(self) -> Steps[T]:
        return self.begin()


@dataclass(slots=True)
class _Candidate:
    key: Key
    print: bytes = b""
    looks: int = 0
    repairs: int = 0
    found: Difference | None = None


class Candidates:
    """Settles what becomes of candidates; tells of each that is a difference, once."""

    def __init__(
        self,
        *,
        regions: Sequence[str],
        writer: Writer,
        judge: Judge,
        pay: Pay | None,
        settle_s: float,
        sleep: Sleep,
        report: Callable[[Difference], None],
    ) -> None:
        """`pay`: asked before each repair; None where nothing is to be repaired."""
        self._regions, self._writer, self._judge = regions, writer, judge
        self._pay, self._settle_s, self._sleep = pay, settle_s, sleep
        self._report = report
        self.pending = 0

    async def settle(self, keys: Sequence[Key]) -> int:
        """Look at these keys until each is equal or told of; returns how many stay restless."""
        pending = [_Candidate(key) for key in keys]
        for number in range(ROUNDS_MAX):
            self.pending = len(pending)
            if not pending:
                break
            if number:
                await self._sleep(self._settle_s)
            pending = await self._round(pending)
        self.pending = 0
        for candidate in pending:
            if candidate.found is not None:
                self._report(_ended(candidate.found, repaired=False))
        return sum(candidate.found is None for candidate in pending)

    async def _round(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """One look at each; those that are to be looked at again."""
        left: list[_Candidate] = []
        for start in range(0, len(candidates), READ_BATCH_MAX):
            batch = candidates[start : start + READ_BATCH_MAX]
            again = await asyncio.gather(*map(self._consider, batch))
            left += [one for one, more in zip(batch, again, strict=True) if more]
        return left

    async def _consider(self, candidate: _Candidate) -> bool:
        """Whether there is more to see."""
        holdings = await self._look(candidate.key)
        verdict = self._judge(candidate.key, holdings)
        if verdict.equal:
            if candidate.found is not None:
                self._report(_ended(candidate.found, repaired=True))
            return False
        seen = _print(holdings)
        candidate.looks = candidate.looks + 1 if seen == candidate.print else 1
        candidate.print = seen
        if candidate.looks < STEADY_LOOKS:
            return True
        candidate.found = _difference(verdict, holdings)
        if self._pay and verdict.decided and candidate.repairs < STEADY_LOOKS:
            await self._pay(verdict)
            return await self._repair(candidate, verdict)
        self._report(_ended(candidate.found, repaired=False if self._pay else None))
        return False

    async def _repair(self, candidate: _Candidate, verdict: Verdict) -> bool:
        assert candidate.found is not None
        region = next(iter(verdict.shipments))
        try:
            await self._writer.run(_Task(region, partial(repair, verdict)))
        except Poison as poison:
            self._report(_ended(candidate.found, repaired=False, error=str(poison)))
            return False
        candidate.repairs, candidate.looks = candidate.repairs + 1, 0
        return True

    async def _look(self, key: Key) -> dict[str, Holding]:
        tasks = [_Task(region, partial(look, region, key)) for region in self._regions]
        holdings = await asyncio.gather(*map(self._writer.run, tasks))
        return dict(zip(self._regions, holdings, strict=True))


def _difference(verdict: Verdict, holdings: Mapping[str, Holding]) -> Difference:
    return Difference(
        key=verdict.key,
        sides={
            region: Side(
                finding=verdict.findings[region],
                holds=holding.item is not None,
                version=holding.item.version if holding.item else None,
                tombstone=holding.tombstone,
            )
            for region, holding in holdings.items()
        },
        newest=verdict.newest,
        decided=verdict.decided,
    )


def _ended(found: Difference, *, repaired: bool | None, error: str | None = None) -> Difference:
    return Difference(
        key=found.key,
        sides=found.sides,
        newest=found.newest,
        decided=found.decided,
        repaired=repaired,
        error=error,
    )


def _print(holdings: Mapping[str, Holding]) -> bytes:
    """What stands for all that regions hold under a key, without keeping it."""
    seen = blake2b(digest_size=16)
    for region, holding in holdings.items():
        item = holding.item
        content = None if item is None else (canonical(item.image), item.marker)
        seen.update(repr((region, content, holding.tombstone)).encode())
    return seen.digest()
