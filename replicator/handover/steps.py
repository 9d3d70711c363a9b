"""The acts of a hand-over of one table, in their order.

planned     wait until no write comes and all that came is across, compare, look again, hand over
back        the same, and the returning region's own writes must be across as well
unplanned   say what is not across, as far as it can be known, and hand over
drill       say how all of this would go; nothing is changed

No act is taken on a guess: what cannot be proved within the time ends a planned hand-over with
nothing changed. Each may be run again. Two regions are never both the source of a one-way table:
active.py and holding.py say how; and where they were made to write at once, versions make them
equal all the same. What is said is told line by line while it happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replicator.errors import ReplicatorError, Transient
from replicator.handover.active import CALL_S_MAX, FENCE_S, Handover
from replicator.handover.exposure import Exposure, pending_of
from replicator.handover.holding import check_holder, tell_regions
from replicator.handover.plan import Kind, Request, members_after
from replicator.handover.scene import Scene, reason
from replicator.handover.section import Members
from replicator.handover.tail import Tail
from replicator.records import Mode, TableDescription, ViewType

LOOK_EVERY_S = 0.5
TELL_EVERY_S = 5.0
CLOCK_GRAIN_S = 2.0
"""Stream records carry whole seconds, so a later write must come this much later to be seen so."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """How one table fared. `members`: who has it afterwards, None for no change."""

    table: str
    done: bool = False
    error: str | None = None
    exposures: list[Exposure] = field(default_factory=list)
    members: Members | None = None
    equal: bool | None = None

    @property
    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "table": self.table,
            "done": self.done,
            "error": self.error,
            "equal": self.equal,
            "exposure": [exposure.document for exposure in self.exposures],
            "members": None if self.members is None else self.members.keys,
        }


class NotProved(ReplicatorError):
    """What a planned hand-over needs did not come true in time; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The hand-over of one table."""

    scene: Scene
    request: Request
    tell: Tell
    statuses: Sequence[Mapping[str, Any]] = ()

    # --- planned, and back --------------------------------------------------------------------

    async def prove(self, outcome: Outcome) -> None:
        """Wait until all is across and equal. Raises: NotProved, and what the ports raise."""
        request, scene = self.request, self.scene
        source, target = request.source, request.target
        if self._moves_holder:
            await check_holder(scene, request, self._say)
        self._say(f"stop what writes in {source}; waiting up to {request.wait_s:.0f} s")
        sources = [source]
        if request.kind is Kind.BACK and scene.settings.tables[scene.table].source is None:
            sources.append(target)
        targets_of = scene.settings.tables[scene.table].targets_of
        tails = {region: await scene.tail(region, targets_of(region)) for region in sources}
        await self._until_quiet(tails)
        for region in sources:
            await self._check_kept(region)
        await self._check_equal(outcome)
        seen = tails[source].writes_seen
        await tails[source].look()
        came = tails[source].writes_seen - seen
        if came:
            raise NotProved(f"{came} writes came in {source} while the tables were compared")
        for region, tail in tails.items():
            other = target if region == source else source
            outcome.exposures.append(await scene.exposure(tail, other))
        if not all(exposure.none for exposure in outcome.exposures):
            raise NotProved("; ".join(exposure.line for exposure in outcome.exposures))
        self._say(f"nothing of {source} is missing in {target}: exposure 0")

    async def _until_quiet(self, tails: Mapping[str, Tail]) -> None:
        clock, request = self.scene.clock, self.request
        await self._look(tails)  # where a mapping reads, all that a stream holds: not our waiting
        begun_s = quiet_s = told_s = clock.monotonic_s()
        source, seen = tails[request.source], -1
        while True:
            trouble = await self._look(tails)
            now_s = clock.monotonic_s()
            if source.writes_seen != seen:
                seen, quiet_s = source.writes_seen, now_s
            left = {region: len(tail.outstanding) for region, tail in tails.items()}
            still = now_s - quiet_s
            if trouble is None and not any(left.values()) and still >= request.quiet_s:
                self._say(f"no write came for {still:.0f} s, and none is on its way")
                return
            text = ", ".join(f"{count:,} on their way from {name}" for name, count in left.items())
            text += f"; last write seen {still:.0f} s ago" + (f"; {trouble}" if trouble else "")
            if now_s - begun_s > request.wait_s:
                raise NotProved(
                    f"not quiet and drained within {request.wait_s:.0f} s: {text}; "
                    "stop the writers, and see that `replicator run` or the mapping is at work"
                )
            if now_s - told_s > TELL_EVERY_S:
                told_s = now_s
                self._say(text)
            await self.scene.sleep(LOOK_EVERY_S)

    async def _look(self, tails: Mapping[str, Tail]) -> str | None:
        """Look at every tail; what may pass is told, and looked at again next time."""
        for tail in tails.values():
            try:
                await tail.look()
            except Transient as error:
                return str(error)
            if tail.lost is not None:
                raise NotProved(f"{tail.source}: {tail.lost}; run `replicator verify --repair`")
        return None

    async def _check_kept(self, source: str) -> None:
        """What was set aside is not across either."""
        for target in self.scene.settings.tables[self.scene.table].targets_of(source):
            parked = await self.scene.parked(source, target)
            if parked:
                text = f"{parked} changes from {source} to {target} are in quarantine"
                raise NotProved(f"{text}; see runbooks/poison-record.md")
        if await self.scene.gaps(source):
            raise NotProved(
                f"{source} has a gap that is not mended; see runbooks/stream-trimmed.md"
            )

    async def _check_equal(self, outcome: Outcome) -> None:
        if not self.request.compare:
            return
        stats = await self.scene.compare()
        one_way = self.scene.settings.tables[self.scene.table].mode is Mode.ONE_WAY
        outcome.equal = stats.clean if one_way else not stats.standing
        items = max(stats.items.values(), default=0)
        if not outcome.equal:
            text = f"{stats.standing} items differ, {stats.restless} kept changing"
            raise NotProved(f"{text}; see runbooks/divergence.md")
        self._say(f"equal in {', '.join(self.scene.members)}: {items:,} items compared")

    # --- unplanned ----------------------------------------------------------------------------

    async def expose(self, outcome: Outcome) -> None:
        """Say what is not across. Raises nothing that concerns the source: it may be gone."""
        scene, source, target = self.scene, self.request.source, self.request.target
        try:
            tail = await scene.tail(source, (target,))
            await tail.look()
        except (ReplicatorError, TimeoutError) as error:
            self._say(f"{source} cannot be read: {reason(error)}")
            pending = pending_of(self.statuses, scene.table, source, target)
            exposure = await scene.noted_exposure(source, target, pending)
        else:
            exposure = await scene.exposure(tail, target)
        outcome.exposures.append(exposure)
        self.tell(exposure.line)

    # --- handing over -------------------------------------------------------------------------

    async def hand_over(self, outcome: Outcome) -> None:
        """Make the target the region that writes. Raises: Fatal where another one holds it."""
        scene, request = self.scene, self.request
        entry = scene.settings.tables[scene.table]
        if not self._moves_holder:
            outcome.done = True
            self._say(f"handed over: let its writers write in {request.target}")
            return
        seen = await check_holder(scene, request, self._say)
        description = await scene.describe(request.target)
        if description.stream_arn is None:
            await scene.turn_stream_on(request.target)
            self._say(f"stream turned on in {request.target}")
            description = await scene.describe(request.target)
        outcome.members = members_after(
            entry, request, mergeable=await self._mergeable(description)
        )
        if request.kind is not Kind.UNPLANNED and entry.mode is Mode.ONE_WAY:
            tail = await scene.tail(request.target, ())
            await tail.look()
            await tail.mark_end()
        await self._tell_regions(seen)
        outcome.done = True
        self._say(f"handed over: let its writers write in {request.target}")

    async def _mergeable(self, target: TableDescription) -> bool:
        """Whether a source that returns can be merged: both streams carry both images."""
        both = ViewType.NEW_AND_OLD_IMAGES
        if target.view_type is not both:
            return False
        try:
            source = await self.scene.describe(self.request.source)
        except ReplicatorError:
            return True  # out of reach: `doctor` tells when it is back
        return source.view_type is both

    async def _tell_regions(self, seen: Handover | None) -> None:
        scene, request = self.scene, self.request
        handover = Handover(
            table=scene.table,
            source=request.target,
            former=request.source,
            at_us=scene.clock.now_us(),
            planned=request.kind is not Kind.UNPLANNED,
        )
        await tell_regions(scene, handover, seen, self._say)
        await scene.sleep(self._settled_s())

    @property
    def _moves_holder(self) -> bool:
        """Whether the table has one source, before or afterwards."""
        mode = self.scene.settings.tables[self.scene.table].mode
        return mode is Mode.ONE_WAY or self.request.one_way

    def _settled_s(self) -> float:
        """Until no write of the former source can land any more, and every clock is past them."""
        if self.request.kind is Kind.UNPLANNED:
            return FENCE_S + CALL_S_MAX
        back = self.request.one_way
        bound_s = self.scene.settings.future_bound_s if back else 0.0
        return max(FENCE_S, bound_s + CLOCK_GRAIN_S)

    def _say(self, text: str) -> None:
        self.tell(f"{self.scene.table}: {text}")


async def carry_out(steps: Sequence[Steps], outcomes: Sequence[Outcome]) -> None:
    """All tables of a request: hand over none before each that must be proved is proved."""
    await asyncio.gather(*map(_prepare, steps, outcomes))
    if any(outcome.error for outcome in outcomes):
        return
    for one, outcome in zip(steps, outcomes, strict=True):
        try:
            await one.hand_over(outcome)
        except (ReplicatorError, TimeoutError, BaseExceptionGroup) as error:
            outcome.error = reason(error)
            one.tell(f"{outcome.table}: NOT handed over: {outcome.error}")


async def _prepare(one: Steps, outcome: Outcome) -> None:
    try:
        if one.request.kind is Kind.UNPLANNED:
            await one.expose(outcome)
        else:
            await one.prove(outcome)
    except (ReplicatorError, TimeoutError, BaseExceptionGroup) as error:
        outcome.error = reason(error)
        one.tell(f"{outcome.table}: NOT handed over: {outcome.error}")
