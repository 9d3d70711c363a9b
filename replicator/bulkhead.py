"""Bulkheads: a target that is down or slow holds up its own link, and no other.

A pipeline reads a bounded number of records ahead of its slowest target. When one target has kept
it at that bound for a while, and the others have not, its link is *detached*: what is under way to
it is dropped from memory, and the others go on. From that moment the stored checkpoint stays where
it is, for it speaks for every target; what the link missed waits in the stream.

As soon as the target answers again it takes part in what is fresh, and beside that a session of its
own reads the stream anew from the stored checkpoint, for this target alone, up to where it joined
again. Then the checkpoint moves on. A target that proves too slow for both is caught up first.

    stored checkpoint ─────────── where it joined ──────── now
           └─ catching up, own bound ─►│                    └─ everybody, as ever
              never ahead of the others

Invariants:
  * the stored checkpoint passes a record only when every target has it: while a link is detached
    nothing is saved, while one catches up only its own positions are, and they lie lower;
  * a record is processed again by the ordinary steps, which is always allowed; a held write is
    forgotten only by the link that comes last, and it stays behind the others (`gate`);
  * nothing that decides is kept in memory only: a crash at any point begins with every target at
    the stored checkpoint, and what was delivered is found to be there;
  * a stream is read at most twice at a time: all links that catch up share one session. Source:
    Developer Guide, DynamoDB Streams, "no more than two processes ... from the same shard".

This module must not know how records are read or applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from replicator.errors import Poison, first_of_all, spoken
from replicator.flow import Flow
from replicator.parts import PipelineParts
from replicator.ports import Checkpoints
from replicator.records import After, Checkpoint, Finished, Gap, covers
from replicator.tasks import DeliverTask
from replicator.telemetry import PipelineStats
from replicator.writer import first_of

if TYPE_CHECKING:
    from replicator.session import Session

log = logging.getLogger(__name__)

TRIAL_S = 60.0
"""Who is detached again within this time after it joined again is caught up before it joins."""

NEAR_US = 5_000_000
"""How far a link that is caught up first may lie behind the others when it joins them."""

GATE_S = 0.05
SHARE = 4
"""A link that catches up may read this part of what the pipeline may, so that what is fresh does
not stand behind all of it at the target."""


@dataclass(slots=True)
class Behind:
    """A link that has not got all that the others have.

    `oldest_us`: when the oldest change that it missed was made; `missed`: how many records at
    least it missed and nobody has read again for it. `answers`: its target has taken something
    since. `joined_s`: since when it takes part again; `end`: how far it is to catch up; `done`: it
    is there.
    """

    oldest_us: int
    missed: int
    answers: bool = False
    joined_s: float | None = None
    end: dict[str, After | Finished] = field(default_factory=dict)
    done: bool = False


@dataclass(slots=True)
class CatchingUp:
    """The positions of a link that catches up: ports.Checkpoints.

    They are stored only while no other link is detached (`may_store`), and noted in any case.
    """

    store: Checkpoints
    may_store: Callable[[], bool]
    positions: dict[str, After | Finished] = field(default_factory=dict)

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        """The stored positions."""
        stored = await self.store.load(table, source)
        self.positions.update((each.shard, each.position) for each in stored)
        return stored

    async def save(self, checkpoint: Checkpoint) -> None:
        """Note a position, and store it if that is allowed now."""
        if self.may_store():
            await self.store.save(checkpoint)
        self.positions[checkpoint.shard] = checkpoint.position

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        """The same for the time until which all was done."""
        if self.may_store():
            await self.store.note_read(table, source, read_us)

    async def last_read(self, table: str, source: str) -> int | None:
        """What is stored."""
        return await self.store.last_read(table, source)


class Bulkhead:
    """The links of one session that hold up the others."""

    def __init__(
        self,
        parts: PipelineParts,
        flow: Flow,
        *,
        drop: Callable[[str], DeliverTask | None],
        latest_us: Callable[[], int | None],
        session: Callable[[PipelineParts, Bulkhead], Session],
    ) -> None:
        """`drop` ends what is under way to a target and returns one of it; `latest_us`: when the
        last record that was read was made; `session` makes one that catches up."""
        self._parts, self._flow = parts, flow
        self._drop, self._latest_us, self._session = drop, latest_us, session
        self._behind: dict[str, Behind] = {}
        self._too_slow: set[str] = set()
        self._probes: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._full_since_s: float | None = None
        self._catching: Session | None = None

    @property
    def behind(self) -> frozenset[str]:
        """The targets that are behind: while there are any, the session stores no position."""
        return frozenset(self._behind)

    # --- detaching ----------------------------------------------------------------------------

    def relax(self) -> None:
        """There was room: whatever was slow has caught up by itself."""
        self._full_since_s = None

    async def relieve(self, moved: asyncio.Event) -> None:
        """Reading waits for room: wait for a move, and in the end detach who holds it up."""
        now_s = self._parts.clock.monotonic_s()
        if self._full_since_s is None:
            self._full_since_s = now_s
        left_s = self._full_since_s + self._parts.limits.detach_after_s - now_s
        if left_s > 0:
            await first_of(moved.wait(), self._parts.sleep(left_s))
            return
        slow = self._slowest()
        if slow is None:
            await moved.wait()
            return
        self._detach(slow)
        self.relax()

    def _slowest(self) -> str | None:
        """The one target that holds up the others; None where none does, or all do."""
        owed = {target: self._flow.owed[target] for target in self._flow.attached}
        slow = max(owed, key=owed.__getitem__, default=None)
        if slow is None or owed[slow] * 2 < self._flow.under_way:
            return None
        return slow if any(count * 2 < owed[slow] for count in owed.values()) else None

    def _detach(self, target: str) -> None:
        parts = self._parts
        missed, (_, oldest_us) = self._flow.owed[target], self._flow.pending(target)
        known = self._behind.get(target)
        if known is not None and known.joined_s is not None:
            if parts.clock.monotonic_s() - known.joined_s < TRIAL_S:
                self._too_slow.add(target)
            oldest_us = known.oldest_us
            missed += known.missed
        since_us = parts.clock.now_us() if oldest_us is None else oldest_us
        self._behind[target] = Behind(since_us, missed)
        self._flow.detach(target)
        if self._catching is not None:
            self._catching.keep_held()
        task = self._drop(target)
        log.warning("link.detached", extra=self._fields(target, missed=missed))
        probe = asyncio.create_task(self._probe(target, self._behind[target], task))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe(self, target: str, behind: Behind, task: DeliverTask | None) -> None:
        """Carry on with one of the dropped deliveries: when it ends the target answers."""
        while self._parts.stats.links[target].paused_since_us is not None:
            await self._parts.sleep(self._parts.limits.pause_look_s)
        if task is not None:
            try:
                await self._parts.writer.run(task)
            except Poison as poison:  # its record is read again, and then it is parked
                log.info("link.probe_refused", extra=self._fields(target, error=spoken(poison)))
        behind.answers = True
        if target not in self._too_slow:
            self._join(target, behind)
        self._changed.set()

    def _join(self, target: str, behind: Behind) -> None:
        """From here on the target is shipped to like the others; before it, it catches up."""
        behind.end = self._flow.read_to()
        behind.joined_s = self._parts.clock.monotonic_s()
        self._flow.attach(target)
        log.info("link.joined", extra=self._fields(target))

    def settled(self, records: int) -> None:
        """So many records were settled at home: who is detached has missed them."""
        for behind in self._behind.values():
            if behind.joined_s is None:
                behind.missed += records

    # --- catching up --------------------------------------------------------------------------

    async def run(self) -> None:
        """Catch up whoever answers, until cancelled."""
        try:
            while True:
                targets = self._answering()
                if targets:
                    await self._catch_up(targets)
                else:
                    await self._changed.wait()
                    self._changed.clear()
        finally:
            for probe in tuple(self._probes):
                probe.cancel()

    def _answering(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, behind in self._behind.items() if behind.answers))

    async def _catch_up(self, targets: tuple[str, ...]) -> None:
        """Read the stream again for these targets, until they are done or others are concerned."""
        failures = 0
        while self._answering() == targets:
            stats = self._stats_of(targets)
            store = CatchingUp(self._parts.stores.checkpoints, partial(self._may_store, targets))
            catching = self._catching = self._session(self._parts_of(stats, store), self)
            if not self._all_answer():
                catching.keep_held()
            halt = asyncio.Event()
            running = asyncio.create_task(catching.run(halt))
            try:
                await self._watch(running, targets, stats, store)
                halt.set()
                await running
            except* Exception as group:  # noqa: BLE001 - told, and begun again
                error = spoken(first_of_all(group))
                fields = self._fields(*targets, error=error)
                log.error("link.catching_up_failed", extra=fields)  # noqa: TRY400 - in one line
                failures = 0 if catching.made_progress else failures + 1
            finally:
                running.cancel()
                await asyncio.wait({running})
                for target in targets:
                    self._behind[target].missed += catching.owed(target)
                self._catching = None
            self._finish(targets)
            if self._answering() == targets:
                await self._pause(failures)

    async def _watch(
        self,
        running: asyncio.Task[None],
        targets: tuple[str, ...],
        stats: PipelineStats,
        store: CatchingUp,
    ) -> None:
        """Look at a session until it is to end."""
        known = stats.gap
        while not running.done() and self._answering() == targets:
            for target in targets:
                self._behind[target].done = self._is_done(target, stats, store)
            if all(self._behind[target].done for target in targets):
                return
            if stats.gap is not known:
                known = stats.gap
                self._tell_gap(known)
            for target in targets:
                self._join_if_near(target)
            await first_of(
                asyncio.wait({running}), self._parts.sleep(self._parts.limits.checkpoint_interval_s)
            )

    def _is_done(self, target: str, stats: PipelineStats, store: CatchingUp) -> bool:
        """Whether the link has all that was read before it joined the others.

        A shard that the stream has lost meanwhile is never reached; that is a gap by then, which
        the comparison of the tables closes.
        """
        behind = self._behind[target]
        if behind.joined_s is None:
            return False
        left = [s for s, end in behind.end.items() if not covers(store.positions.get(s), end)]
        return not left or (
            stats.gap is not None and stats.caught_up and not store.positions.keys() & set(left)
        )

    def _join_if_near(self, target: str) -> None:
        behind = self._behind[target]
        latest_us, catching = self._latest_us(), self._catching
        if behind.joined_s is not None or latest_us is None or catching is None:
            return
        reached_us = catching.reached_us(target)
        if reached_us is not None and latest_us - reached_us < NEAR_US:
            self._join(target, behind)

    def _finish(self, targets: tuple[str, ...]) -> None:
        """Take those off the list that have all they missed."""
        for target in targets:
            if not self._behind[target].done:
                continue
            del self._behind[target]
            self._too_slow.discard(target)
            log.info("link.caught_up", extra=self._fields(target))
        if not self._behind:
            self._flow.keep_held(False)

    def _all_answer(self) -> bool:
        """Whether no link is detached without being caught up."""
        return all(behind.answers for behind in self._behind.values())

    def _may_store(self, targets: tuple[str, ...]) -> bool:
        """Whether positions of a session for these speak for all. Another may have answered since:
        it lacks what lies before them, and the next session is for both."""
        return self._all_answer() and self._behind.keys() <= set(targets)

    async def _pause(self, failures: int) -> None:
        limits = self._parts.limits
        grown_s = limits.restart_base_s * 2.0 ** min(failures, 10)
        await self._parts.sleep(min(limits.restart_max_s, grown_s))

    async def gate(self, shard: str, sequence: int) -> None:
        """Wait until the others have a record: who catches up stays behind them."""
        while not covers(self._flow.positions().get(shard), After(sequence)):
            await self._parts.sleep(GATE_S)

    def read_again(self, targets: tuple[str, ...], records: int) -> None:
        """So many records were settled once more, for these targets: they are on their way.

        Some of them a target had before it was detached, so it lacks no less than what is told.
        """
        for target in targets:
            behind = self._behind[target]
            behind.missed = max(0, behind.missed - records)

    # --- parts and figures --------------------------------------------------------------------

    def _stats_of(self, targets: tuple[str, ...]) -> PipelineStats:
        """Figures of its own for what is counted already, the links' own for what is not."""
        whole = self._parts.stats
        stats = PipelineStats(
            table=whole.table, source=whole.source, mode=whole.mode, targets=targets
        )
        for target in targets:
            stats.links[target] = whole.links[target]
        return stats

    def _parts_of(self, stats: PipelineStats, store: CatchingUp) -> PipelineParts:
        limits, reader_limits = self._parts.limits, self._parts.reader_limits
        page_max = max(1, reader_limits.page_records_max // SHARE)
        return replace(
            self._parts,
            reader_limits=replace(reader_limits, page_records_max=page_max),
            stats=stats,
            stores=replace(self._parts.stores, checkpoints=store, presence=None),
            limits=replace(
                limits,
                unsettled_records_max=max(1, limits.unsettled_records_max // SHARE),
                unsettled_bytes_max=max(1, limits.unsettled_bytes_max // SHARE),
            ),
        )

    def _tell_gap(self, gap: Gap | None) -> None:
        if gap is not None:
            self._parts.stats.gap = gap

    def pending(
        self, found: dict[str, tuple[int, int | None]]
    ) -> dict[str, tuple[int, int | None]]:
        """What is pending for each target, those that are behind included."""
        for target, behind in self._behind.items():
            count, oldest_us = found.get(target, (0, None))
            missed, reached_us = behind.missed, behind.oldest_us
            catching = self._catching
            if catching is not None and target in catching.targets:
                missed += catching.owed(target)
                reached_us = max(reached_us, catching.reached_us(target) or reached_us)
            known = [at for at in (oldest_us, reached_us) if at is not None]
            found[target] = (count + missed, min(known))
        return found

    def _fields(self, *targets: str, **more: object) -> dict[str, object]:
        stats = self._parts.stats
        target = ", ".join(targets)
        return {"table": stats.table, "region": stats.source, "target": target, **more}
