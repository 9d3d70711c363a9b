"""Comparing a table's regions while they are live, in three passes of which most tables need one.

    1  every region is read once; equal sums per bucket of keys end the matter for these keys
    2  the unequal buckets' keys are gathered by a second reading, as digests, in bounded groups
    3  keys that still look different are looked at one by one, strongly, until nothing moves

No item crosses from one region to another but in the third pass, and memory is bounded throughout:
two numbers per bucket and region, and at most `keys_max` keys at a time.

A sample compares some of the buckets: those that a share of all digests falls into, the same keys
whenever and wherever it is taken.

This module must not know settings, files or how a region is reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from replicator.ports import Sleep
from replicator.verify.candidates import Candidates, Difference, Judge, Pay
from replicator.verify.digests import BUCKETS, grouped
from replicator.verify.digests import unequal as unequal_buckets
from replicator.verify.reading import Reading
from replicator.writer import Writer

KEYS_MAX = 50_000
"""Keys held at a time by the second pass, at up to a kilobyte each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonLimits:
    """How much is compared, and how. `sample`: the share of the buckets, above 0 and at most 1."""

    settle_s: float = 3.0
    sample: float = 1.0
    keys_max: int = KEYS_MAX


@dataclass(slots=True)
class ComparisonStats:
    """How far a comparison has come, and what it has found."""

    stage: str = "reading"
    items: dict[str, int] = field(default_factory=dict)
    buckets_unequal: int = 0
    candidates: int = 0
    differences: int = 0
    repaired: int = 0
    undecided: int = 0
    restless: int = 0

    @property
    def standing(self) -> int:
        """The differences that are still there."""
        return self.differences - self.repaired

    @property
    def clean(self) -> bool:
        """Whether all that was compared is known to be equal."""
        return not self.standing and not self.restless


class Comparison:
    """Compares the regions of one table, and repairs what differs if it is told to."""

    def __init__(
        self,
        *,
        reading: Reading,
        writer: Writer,
        judge: Judge,
        limits: ComparisonLimits,
        sleep: Sleep,
        pay: Pay | None = None,
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`pay`: asked before each repair; without it nothing is repaired. `admit`: asked before
        all else; raises where the comparison must not be made."""
        self._admit = admit
        self.reading, self._limits, self._pay = reading, limits, pay
        self._writer, self._judge, self._sleep = writer, judge, sleep
        self._sampled = max(1, round(limits.sample * BUCKETS))
        self.stats = ComparisonStats()

    async def run(self, report: Callable[[Difference], None]) -> ComparisonStats:
        """Compare; `report` is told of each difference as it is settled."""
        candidates = Candidates(
            regions=self.reading.regions,
            writer=self._writer,
            judge=self._judge,
            pay=self._pay,
            settle_s=self._limits.settle_s,
            sleep=self._sleep,
            report=lambda difference: self._note(difference, report),
        )
        stats = self.stats
        if self._admit is not None:
            await self._admit()
        sums = await self.reading.sums(self._sampled)
        stats.items = dict(self.reading.items)
        unequal = unequal_buckets(sums)
        stats.buckets_unequal = len(unequal)
        for group in grouped(unequal, sums, self._limits.keys_max):
            stats.stage = "looking for the keys that differ"
            keys = await self.reading.suspects(group)
            stats.candidates += len(keys)
            stats.stage = "looking at each"
            stats.restless += await candidates.settle(keys)
        stats.stage = "done"
        return stats

    def _note(self, difference: Difference, report: Callable[[Difference], None]) -> None:
        self.stats.differences += 1
        self.stats.repaired += difference.repaired is True
        self.stats.undecided += not difference.decided
        report(difference)
