"""Finds replication that has stopped without an error.

What fails says so. What only stops, says nothing: a call that never comes back, a task that ended,
a shard that nobody reads. So somebody looks from outside, at the figures alone: whether a pipeline
gets anywhere as long as there is something to do, whether its source has answered, whether its
positions are looked after, whether its task is there. Whoever gets nowhere for `stalled_after_s` is
told as stalled, in the log and in the status, and `/healthz` is red until it moves again. Nothing
is restarted here: who runs the process decides that, and it is safe at any time.

(A shard without a reader is found by the reader itself and begins the session anew; a second
process for a source is found by presence.py.)

This module must not know streams, tables or the protocol.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from replicator.ports import Clock, Sleep
from replicator.telemetry import PipelineStats
from replicator.writer import first_of

log = logging.getLogger(__name__)

PAUSED = "paused"
"""The state of a pipeline that somebody has paused, where there is one: it is meant to stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogLimits:
    """How long nothing may happen, and how often that is looked at."""

    stalled_after_s: float = 120.0
    look_every_s: float = 5.0


@dataclass(slots=True)
class _Seen:
    """What was seen of a pipeline, and since when it looks like that (monotonic)."""

    mark: tuple[int, ...] = ()
    moved_s: float = 0.0
    readable_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Watchdog:
    """Watches the pipelines of a process by their figures. `tasks`: what runs each of them."""

    pipelines: Sequence[PipelineStats]
    tasks: Callable[[], Mapping[int, asyncio.Task[None]]]
    clock: Clock
    sleep: Sleep
    limits: WatchdogLimits = WatchdogLimits()
    _seen: dict[int, _Seen] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until `stop` is set."""
        while not stop.is_set():
            self.look()
            await first_of(self.sleep(self.limits.look_every_s), stop.wait())

    def look(self) -> None:
        """One look at every pipeline."""
        now_s = self.clock.monotonic_s()
        for index, stats in enumerate(self.pipelines):
            seen = self._seen.setdefault(index, _Seen(moved_s=now_s, readable_s=now_s))
            reason = self._why_stalled(index, stats, seen, now_s)
            if (reason is None) is not (stats.stalled is None):
                fields = {"table": stats.table, "region": stats.source}
                if reason is None:
                    log.info("pipeline.moves_again", extra=fields)
                else:
                    log.error("pipeline.stalled", extra={**fields, "reason": reason})
            stats.stalled = reason

    def _why_stalled(
        self, index: int, stats: PipelineStats, seen: _Seen, now_s: float
    ) -> str | None:
        unsettled, mark = _mark(stats)
        if mark != seen.mark or not unsettled:
            seen.mark, seen.moved_s = mark, now_s
        if stats.state.value == PAUSED:
            seen.moved_s = seen.readable_s = now_s
            return None
        if stats.readable:
            seen.readable_s = now_s
        bound_s = self.limits.stalled_after_s
        task = self.tasks().get(index)
        if task is not None and task.done():
            return "its task has ended"
        if now_s - seen.readable_s > bound_s:
            return f"the source has not been readable for {bound_s:.0f} s"
        if now_s - seen.moved_s > bound_s:
            return f"records wait and nothing has moved for {bound_s:.0f} s"
        if stats.kept_s is not None and now_s - stats.kept_s > bound_s:
            return f"positions have not been looked after for {bound_s:.0f} s"
        return None


def _mark(stats: PipelineStats) -> tuple[int, tuple[int, ...]]:
    """How many records wait that should not, and numbers of which one changes when any moves on.

    That something is read is no progress: a source that moves may be read while nothing arrives.
    What only paused links wait for is meant to wait.
    """
    unsettled, _, pending = stats.progress() if stats.progress else (0, 0, {})
    settled = stats.records.read - unsettled
    links = stats.links.values()
    waiting = [name for name, (count, _) in pending.items() if count]
    if waiting and all(stats.links[name].paused_since_us is not None for name in waiting):
        unsettled = 0
    arrived = sum(link.applied + link.stale + link.duplicate + link.quarantined for link in links)
    return unsettled, (stats.records.quarantined, arrived, settled)
