"""A rehearsal: how a failover would go now, and what would stand in its way. Nothing is changed.

This module must not know how a result is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replicator.errors import ReplicatorError
from replicator.handover.exposure import Exposure, pending_of
from replicator.handover.holding import check_holder
from replicator.handover.plan import Request
from replicator.handover.scene import Scene, reason
from replicator.preflight import Check, Level, table_subject
from replicator.records import Mode, ViewType

NOTED_AGE_S_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """The rehearsal for one table."""

    scene: Scene
    request: Request
    statuses: Sequence[Mapping[str, Any]] = ()

    async def checks(self) -> list[Check]:
        """Each thing that a failover rests on."""
        found: list[Check] = []
        asks = (self._holder, self._streams, self._exposure, self._note, self._kept, self._equal)
        for ask in asks:
            try:
                found += await ask()
            except (ReplicatorError, TimeoutError, BaseExceptionGroup) as error:
                found.append(self._check(self.request.source, Level.FAILED, reason(error)))
        return found

    async def _holder(self) -> list[Check]:
        """Whether the table is the source's to give away; who does not answer is told."""
        source, found = self.request.source, []

        def say(text: str) -> None:
            found.append(self._check(source, Level.WARNING, text))

        if self.changes:
            await check_holder(self.scene, self.request, say)
        return found

    async def _streams(self) -> list[Check]:
        """A one-way target needs no stream until it is the source."""
        scene, source, target = self.scene, self.request.source, self.request.target
        found = []
        there = await scene.describe(target)
        if there.stream_arn is None:
            text = "has no stream; a failover turns one on, which takes a moment; better do it now"
            found.append(self._check(target, Level.WARNING, text))
        for region in (source, target):
            view_type = (await scene.describe(region)).view_type
            if view_type in (None, ViewType.NEW_AND_OLD_IMAGES):
                continue
            text = (
                f"has a stream of {view_type}; only one of NEW_AND_OLD_IMAGES lets a region that "
                "returns after an unplanned failover be merged"
            )
            found.append(self._check(region, Level.WARNING, text))
        return found or [self._check(target, Level.OK, "has the stream that a failover needs")]

    async def _exposure(self) -> list[Check]:
        """What would be lost if the source vanished now."""
        scene, source, target = self.scene, self.request.source, self.request.target
        tail = await scene.tail(source, (target,))
        await tail.look()
        exposure: Exposure = await scene.exposure(tail, target)
        level = Level.FAILED if exposure.lost else Level.OK
        return [Check(subject="exposure", level=level, text=exposure.line)]

    async def _note(self) -> list[Check]:
        """What the target would know if the source were gone."""
        scene, source, target = self.scene, self.request.source, self.request.target
        pending = pending_of(self.statuses, scene.table, source, target)
        noted = await scene.noted_exposure(source, target, pending)
        if noted.seconds is None or noted.seconds > NOTED_AGE_S_MAX:
            text = f"does not know how far {source} is across: under Lambda it never does; "
            text += "is `replicator run` running?"
            return [self._check(target, Level.WARNING, text)]
        text = f"knows that all of {source} was across {noted.seconds:.1f} s ago"
        return [self._check(target, Level.OK, text)]

    async def _kept(self) -> list[Check]:
        scene, source, target = self.scene, self.request.source, self.request.target
        parked, gaps = await scene.parked(source, target), await scene.gaps(source)
        found = []
        if parked:
            text = f"{parked} changes for {target} are in quarantine; see runbooks/poison-record.md"
            found.append(self._check(source, Level.FAILED, text))
        if gaps:
            text = "has a gap that is not mended; see runbooks/stream-trimmed.md"
            found.append(self._check(source, Level.FAILED, text))
        return found or [self._check(source, Level.OK, "nothing in quarantine, no gap")]

    async def _equal(self) -> list[Check]:
        if not self.request.compare:
            return []
        stats = await self.scene.compare()
        items = max(stats.items.values(), default=0)
        if stats.standing:
            tail = await self.scene.tail(self.request.source, (self.request.target,))
            await tail.look()
            keys = (await self.scene.exposure(tail, self.request.target)).keys or 0
            text = f"{stats.standing} of {items:,} items differ"
            if stats.standing <= keys:
                text += ", no more than are not yet across"
                return [self._check(self.request.target, Level.WARNING, text)]
            text += "; see runbooks/divergence.md"
            return [self._check(self.request.target, Level.FAILED, text)]
        text = f"equal to {self.request.source}: {items:,} items compared"
        if stats.restless:
            text += f", {stats.restless} kept changing"
        return [self._check(self.request.target, Level.OK, text)]

    @property
    def changes(self) -> bool:
        """Whether a failover would change the configuration."""
        return self.scene.settings.tables[self.scene.table].mode is Mode.ONE_WAY

    def _check(self, region: str, level: Level, text: str) -> Check:
        subject = table_subject(self.scene.settings, self.scene.table, region)
        return Check(subject=subject, level=level, text=text)
