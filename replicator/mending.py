"""Closing gaps: where records were lost, the copies are compared and made equal again.

A stream holds 24 hours. What it has lost cannot be replicated, only seen: the tables differ. So for
each pipeline with a gap, once it is near the present again, its table is verified and repaired at a
bounded rate, knowing which regions' records were `lost` (conflict.repair says what that decides).
The gap is removed when every difference was repaired and seen to be gone, and never because it
grew old; until then the pipeline stays red. What failed is tried again after seconds, then less and
less often: most failures pass, and each try reads the table whole. Keys that kept changing hold
nothing up: what changes is replicated, as whole items.

A delete whose record was lost leaves no trace where every region writes: the item comes back from
the others. Nothing tells it from a copy that was never made, and to keep is the lesser harm.

One repair runs at a time in a process, and a source's gaps are the matter of its one process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from replicator.clock import SystemClock
from replicator.errors import ReplicatorError, first_of_all, spoken
from replicator.ports import Api
from replicator.records import Gap
from replicator.settings import Settings
from replicator.telemetry import PipelineStats
from replicator.verify.assembly import VerifyOptions, comparison_of, key_names_of, regions_of_loss
from replicator.verify.candidates import Difference
from replicator.verify.comparison import ComparisonStats
from replicator.verify.patience import Patience
from replicator.waiting import Gaps
from replicator.writer import first_of

log = logging.getLogger(__name__)

NEAR_US = 60_000_000
"""A pipeline whose newest record is no older than this is near the present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MendLimits:
    """How often things are looked at. How soon and how fast gaps are mended is a setting."""

    settle_s: float = 3.0
    look_every_s: float = 2.0
    again_base_s: float = 15.0
    again_max_s: float = 6 * 3_600.0


@dataclass(slots=True)
class _Turn:
    """When a pipeline's gap may be tried next."""

    tries: int = 0
    not_before_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Mender:
    """Mends the gaps of some pipelines, which it knows by their figures."""

    settings: Settings
    apis: Mapping[str, Api]
    pipelines: Sequence[PipelineStats]
    limits: MendLimits = MendLimits()
    clock: SystemClock = field(default_factory=SystemClock)
    _turns: dict[tuple[str, str], _Turn] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Look for gaps and mend them until `stop` is set; what is under way is then dropped."""
        working = asyncio.create_task(self._watch())
        await first_of(stop.wait(), asyncio.wait({working}))
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
            return
        working.result()

    async def _watch(self) -> None:
        while True:
            for stats in self.pipelines:
                if self._is_due(stats):
                    await self._try(stats)
            await asyncio.sleep(self.limits.look_every_s)

    def _is_due(self, stats: PipelineStats) -> bool:
        """Whether there is a gap, and the pipeline has read on to where it is worth a look."""
        if stats.gap is None or not stats.readable:
            return False
        if self.clock.now_us() - stats.gap.since_us < self.settings.mending.after_s * 1e6:
            return False
        latest_us = stats.latest_us
        near = latest_us is not None and self.clock.now_us() - latest_us < NEAR_US
        turn = self._turns.setdefault((stats.table, stats.source), _Turn())
        return (stats.caught_up or near) and self.clock.monotonic_s() >= turn.not_before_s

    async def _try(self, stats: PipelineStats) -> None:
        """One verify and repair; whatever goes wrong leaves the gap as it is."""
        place = {"table": stats.table, "region": stats.source}
        log.info("gap.mending", extra=place)
        try:
            mended = await self._mend(stats)
        except ReplicatorError as error:
            log.error("gap.not_mended", extra={**place, "error": spoken(error)})  # noqa: TRY400
            mended = False
        except BaseExceptionGroup as group:
            errors, others = group.split(ReplicatorError)
            if errors is None or others is not None:
                raise
            log.error("gap.not_mended", extra={**place, "error": spoken(first_of_all(errors))})  # noqa: TRY400
            mended = False
        self._put_off(stats, tried_in_vain=not mended)

    async def _mend(self, stats: PipelineStats) -> bool:
        """Whether every difference was repaired; the gaps that stood before it are then closed."""
        gaps = Gaps(api=self.apis[stats.source], control_table=self.settings.control_table)
        stored = await gaps.load(stats.table, stats.source)
        found = await self._verify(stats)
        fields = {"table": stats.table, "region": stats.source, "differences": found.differences}
        if found.standing:
            stands = {"standing": found.standing, "undecided": found.undecided}
            log.warning("gap.not_clean", extra={**fields, **stands})
            return False
        left = await self._close(gaps, stored, stats)
        if left:
            log.error("gap.not_removed", extra={**fields, "gaps": left})
            return False
        log.info("gap.mended", extra=fields)
        return True

    async def _verify(self, stats: PipelineStats) -> ComparisonStats:
        members = self.settings.tables[stats.table].members
        apis = {region: self.apis[region] for region in members}
        comparison = comparison_of(
            self.settings,
            VerifyOptions(
                table=stats.table,
                repair=True,
                settle_s=self.limits.settle_s,
                read_units_per_s=self.settings.mending.read_units_per_s,
                write_units_per_s=self.settings.mending.write_units_per_s,
            ),
            apis=apis,
            key_names=await key_names_of(self.settings, stats.table, apis),
            clock=self.clock,
            observer=Patience(self.clock),
            lost=await regions_of_loss(self.settings, stats.table, apis, self.clock),
            segments=1,
        )
        return await comparison.run(_told_by_figures)

    async def _close(self, gaps: Gaps, stored: Sequence[Gap], stats: PipelineStats) -> int:
        """Take out the gaps that stood before the look; how many of them would not go.

        One that was reported since has a row of its own, and is looked at next.
        """
        seen = stats.gap
        for gap in stored:
            await gaps.remove(gap)
        left = await gaps.load(stats.table, stats.source)
        if stats.gap is seen:  # nothing was reported while that was asked
            stats.gap = left[0] if left else None
        return len(set(stored) & set(left))

    def _put_off(self, stats: PipelineStats, *, tried_in_vain: bool) -> None:
        turn = self._turns[stats.table, stats.source]
        turn.tries = turn.tries + 1 if tried_in_vain else 0
        limits = self.limits
        pause_s = min(limits.again_max_s, limits.again_base_s * 2.0 ** min(turn.tries - 1, 16))
        turn.not_before_s = self.clock.monotonic_s() + (pause_s if tried_in_vain else 0.0)


def _told_by_figures(difference: Difference) -> None:
    """Keys are nobody's business here; `replicator verify` tells them."""
    del difference
