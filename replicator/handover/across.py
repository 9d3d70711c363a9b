"""Until when all writes of a source had arrived in a target, kept in the target.

When a source region is gone, so are its stream and its checkpoints. What is left to tell the loss
by is this row of the target's control table:

    across#<table>                 <source>                    until when all had arrived here

A running pipeline looks at what is known every LOOK_EVERY_S and writes it down about once a
NOTE_EVERY_S, at the moments that matter (`_Noted`). What is known is taken down at that look, not
at an interval of its own: two intervals would add up. So the row is one interval behind the truth
at most, and the time that a write takes to the target. The moment only rises, so that a process
that comes back from the dead cannot take it back, and it never says more than was known: where the
source has lost records it stays as it is, and the time since is the exposure.

This module must not know how a pipeline works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from replicator.control import ControlTable, moment_us, row_key
from replicator.errors import spoken
from replicator.ports import Api, Clock, Sleep
from replicator.telemetry import PipelineStats

log = logging.getLogger(__name__)

NOTE_EVERY_S = 1.0
"""One small write a second for each table, source and target: the grain of a stream's times."""

LOOK_EVERY_S = 0.1
"""Costs no call. A record's time rises by whole seconds, at any moment of ours."""

LOOK_SHARE = 0.03
"""Of the processor, at most: with ten thousand records under way a look takes milliseconds."""

STILL_S = 0.3
"""Longer than a quiet shard is left alone (`[reader] poll_idle_s`): what is known stands still."""


class Across:
    """The rows of one target region's control table."""

    def __init__(self, *, api: Api, control_table: str) -> None:
        self._control = ControlTable(api=api, name=control_table)

    async def note(self, table: str, source: str, until_us: int) -> None:
        """All that `source` wrote before then is here. An earlier moment changes nothing."""
        await self._control.raise_moment(row_key(f"across#{table}", source), "until_us", until_us)

    async def until_us(self, table: str, source: str) -> int | None:
        """What was noted last; None if nothing ever was, or it is malformed, which is reported."""
        for row in await self._control.query(f"across#{table}"):
            if row["sk"]["S"] == source:
                until_us = moment_us(row, "until_us")
                if until_us is None:
                    log.warning("exposure.malformed", extra={"table": table, "row": source})
                return until_us
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noter:
    """Keeps the notes of some pipelines, which it knows by their figures.

    One task looks at what is known, and one per target writes: a region that does not answer delays
    no other's notes, and a note that could not be written is followed by the next. Nothing else
    depends on it.
    """

    apis: Mapping[str, Api]
    control_table: str
    pipelines: Sequence[PipelineStats]
    clock: Clock
    sleep: Sleep

    async def run(self, stop: asyncio.Event) -> None:
        """Note until `stop` is set."""
        targets = dict.fromkeys(target for stats in self.pipelines for target in stats.targets)
        noting = [asyncio.create_task(self._look())]
        noting += [asyncio.create_task(self._target(target)) for target in targets]
        await stop.wait()
        for task in noting:
            task.cancel()
        await asyncio.gather(*noting, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            begun_s = self.clock.monotonic_s()
            for stats in self.pipelines:
                stats.note_complete()
            took_s = self.clock.monotonic_s() - begun_s
            await self.sleep(max(LOOK_EVERY_S, took_s / LOOK_SHARE))

    async def _target(self, target: str) -> None:
        rows = Across(api=self.apis[target], control_table=self.control_table)
        noted: dict[tuple[str, str], _Noted] = {}
        failing = False
        while True:
            await self.sleep(LOOK_EVERY_S)
            try:
                await self._note(rows, target, noted)
            except Exception as error:  # noqa: BLE001 - a failover relies on what is noted here
                if not failing:
                    fields = {"region": target, "error": spoken(error)}
                    log.warning("exposure.not_noted", extra=fields)
                failing = True
                await self.sleep(NOTE_EVERY_S)
            else:
                failing = False

    async def _note(self, rows: Across, target: str, noted: dict[tuple[str, str], _Noted]) -> None:
        for stats in self.pipelines:
            link = stats.links.get(target)
            if link is None or stats.gap is not None:
                continue
            last = noted.setdefault((stats.table, stats.source), _Noted())
            known_us, now_s = link.complete_us, self.clock.monotonic_s()
            if known_us is not None and last.is_due(known_us, now_s):
                await rows.note(stats.table, stats.source, known_us)
                last.until_us, last.at_s = known_us, now_s


@dataclass(slots=True)
class _Noted:
    """What was written of a link last, and when; what was known of it last, and since when."""

    until_us: int = -1
    at_s: float = -inf
    known_us: int = -1
    since_s: float = -inf

    def is_due(self, known_us: int, now_s: float) -> bool:
        """Whether what is known now is worth a write.

        After an interval; as soon as an interval more is known, which is at once when the second
        of the records turns; and when no more becomes known, as when writes set in after a
        silence: what is known by then would be noted too late to help.
        """
        if known_us > self.known_us:
            self.known_us, self.since_s = known_us, now_s
        waited_s = now_s - self.at_s
        worth = known_us - self.until_us >= NOTE_EVERY_S * 1e6 or now_s - self.since_s > STILL_S
        return known_us > self.until_us and (
            waited_s >= NOTE_EVERY_S or (worth and waited_s > STILL_S)
        )
