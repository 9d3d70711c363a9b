"""Where a backfill stands, in the source region's control table: so that any process can go on.

    pk                            sk                holds
    backfill#<table>#<source>     <job>             what was asked for, when it began and ended
    backfill#<table>#<source>     <job>#<segment>   how far a segment is settled, and its counts

A cursor is saved only when all that lies before it is settled in every target. Whoever works on a
segment has claimed it; a save by one whose claim was taken over is refused (`TakenOver`), so two
processes do the work once and count it once. Work done twice would do no harm.

`intent` holds the keys that are being written to the targets of a one-way table. If their item is
deleted meanwhile no scan finds it any more, and who resumes has to look at the tombstone again.

Rows of a finished job expire; those of an unfinished one stay. A row that is malformed ends the
command in a line that names it: from where on to copy, and what was asked for, is not guessed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypedDict

import msgspec

from conflict.operations import Image
from replicator.backfill.plan import Plan
from replicator.backfill.tally import Tally
from replicator.control import CONTROL_TTL_ATTRIBUTE, ControlTable, expiry, moment_us, row_key
from replicator.errors import ConditionFailed, ConfigurationError, ReplicatorError
from replicator.packing import packed, unpacked
from replicator.ports import Api, Clock, Sleep
from replicator.requests import Wire

FINISHED_JOBS_KEPT_S = 30 * 24 * 3_600
SEGMENT_DIGITS = 7

ROWS_AT_ONCE = 16
"""Rows of a finished job that are given their expiry side by side."""


_UNREADABLE = (LookupError, TypeError, ValueError, RecursionError, msgspec.DecodeError)


class _Asked(TypedDict):
    """What a job was asked for, as its row keeps it."""

    targets: list[str]
    authority: str | None
    segments: Annotated[int, msgspec.Meta(ge=1, lt=10**SEGMENT_DIGITS)]


class TakenOver(ReplicatorError):
    """Another process has taken the segment over, or discarded the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far one segment is settled. `after`: the key to go on after; None at the beginning."""

    segment: int
    after: Image | None = None
    finished: bool = False
    intent: tuple[Image, ...] = ()
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One backfill, from its start to its end, in whatever processes."""

    id: str
    targets: tuple[str, ...]
    authority: str | None
    segments: int
    started_us: int
    finished_us: int | None = None
    cursors: tuple[Cursor, ...] = ()

    @property
    def tally(self) -> Tally:
        """What all of its segments have counted."""
        return Tally.sum(cursor.tally for cursor in self.cursors)

    @property
    def open_segments(self) -> tuple[int, ...]:
        """The segments that are not finished."""
        finished = {cursor.segment for cursor in self.cursors if cursor.finished}
        return tuple(segment for segment in range(self.segments) if segment not in finished)


class Jobs:
    """The backfills of one table out of one region."""

    def __init__(
        self, *, api: Api, control_table: str, table: str, source: str, clock: Clock, sleep: Sleep
    ) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._pk = f"backfill#{table}#{source}"
        self._clock, self._sleep = clock, sleep

    async def load(self, since: str = "") -> list[Job]:
        """All that are known, the oldest first; `since`: only that job and what began later.

        Raises: ConfigurationError for a row that is malformed.
        """
        jobs: dict[str, Job] = {}
        # A job sorts before its segments.
        for row in await self._control.query(self._pk, since=since):
            job, _, segment = row["sk"]["S"].partition("#")
            try:
                if not segment:
                    jobs[job] = _job(job, row)
                elif job in jobs:
                    cursors = (*jobs[job].cursors, _cursor(int(segment), row))
                    jobs[job] = replace(jobs[job], cursors=cursors)
            except _UNREADABLE:
                raise self._malformed(row) from None
        return list(jobs.values())

    async def latest(self, job: Job) -> Job:
        """A job as it stands now.

        Raises: TakenOver where it was discarded.
        """
        for known in await self.load(since=job.id):
            if known.id == job.id:
                return known
        raise _discarded()

    async def begin(self, plan: Plan) -> Job:
        """Write down that a job begins."""
        now_us = self._clock.now_us()
        job = Job(
            id=f"{now_us:016d}",
            targets=plan.targets,
            authority=plan.authority,
            segments=plan.segments,
            started_us=now_us,
        )
        asked = {"targets": job.targets, "authority": job.authority, "segments": job.segments}
        await self._update(  # made twice if its answer is lost
            job.id, "SET asked_for = :asked, started_us = :now",
            "attribute_not_exists(pk) OR asked_for = :asked",
            {":asked": {"S": json.dumps(asked)}, ":now": {"N": str(now_us)}},
        )  # fmt: skip
        return job

    async def claim(self, job: str, segment: int, runner: str) -> Cursor:
        """Take a segment over; the cursor is where to go on.

        Raises: ConfigurationError where its row is malformed.
        """
        sk = _segment_sk(job, segment)
        await self._update(
            sk, "SET claimed_by = :runner", "attribute_not_exists(finished_us)",
            {":runner": {"S": runner}},
        )  # fmt: skip
        (row,) = await self._control.read([row_key(self._pk, sk)], sleep=self._sleep)
        try:
            return _cursor(segment, row)
        except _UNREADABLE:
            raise self._malformed(row) from None

    async def save(self, job: str, cursor: Cursor, runner: str) -> None:
        """Store a cursor.

        Raises: TakenOver.
        """
        values: Wire = {":counts": {"S": cursor.tally.text}, ":runner": {"S": runner}}
        changes, dropped = ["counts = :counts"], []
        for name, value in _positions(cursor).items():
            if value is None:
                dropped.append(name)
            else:
                changes.append(f"{name} = :{name}")
                values[f":{name}"] = value
        expression = f"SET {', '.join(changes)}"
        if dropped:
            expression += f" REMOVE {', '.join(dropped)}"
        try:
            await self._update(
                _segment_sk(job, cursor.segment), expression, "claimed_by = :runner", values
            )
        except ConditionFailed:
            text = f"segment {cursor.segment} was taken over by another backfill of this table"
            raise TakenOver(text) from None

    async def finish(self, job: Job) -> None:
        """Write down that a job has ended; its rows expire after a time.

        Raises: TakenOver where it was discarded, or something of it is left to be done.
        """
        if job.open_segments:
            raise TakenOver(
                f"{len(job.open_segments)} of {job.segments} segments are not finished; "
                "run the same command to go on"
            )
        values: Wire = {
            ":now": {"N": str(self._clock.now_us())},
            ":expires": expiry(self._clock, FINISHED_JOBS_KEPT_S),
        }
        expires = f"SET {CONTROL_TTL_ATTRIBUTE} = :expires"
        only = {":expires": values[":expires"]}
        exists = "attribute_exists(pk)"
        try:
            await self._update(job.id, f"{expires}, finished_us = :now", exists, values)
            for start in range(0, job.segments, ROWS_AT_ONCE):
                together = range(start, min(start + ROWS_AT_ONCE, job.segments))
                rows = (_segment_sk(job.id, segment) for segment in together)
                await asyncio.gather(*(self._update(row, expires, exists, only) for row in rows))
        except ConditionFailed:
            raise _discarded() from None

    async def discard(self, job: Job) -> None:
        """Forget a job; whoever still works on it loses its claims."""
        for cursor in job.cursors:
            await self._delete(_segment_sk(job.id, cursor.segment))
        await self._delete(job.id)

    async def _update(self, sk: str, expression: str, condition: str, values: Wire) -> None:
        await self._control.update(row_key(self._pk, sk), expression, condition, values)

    async def _delete(self, sk: str) -> None:
        await self._control.delete(row_key(self._pk, sk), "sk = :sk", {":sk": {"S": sk}})

    def _malformed(self, row: Wire) -> ConfigurationError:
        sk = row["sk"]["S"]
        lost = "the backfill then begins anew"
        if "#" in sk:  # with the keys that were under way, see `intent` above
            lost = "this segment is then copied anew, and `replicator verify` has to follow"
        place = f"{self._control.name}: {self._pk}: {sk}"
        return ConfigurationError(f"{place}: the row is malformed; mend or delete it: {lost}")


def _discarded() -> TakenOver:
    return TakenOver("this backfill was discarded meanwhile by another, with --restart")


def _segment_sk(job: str, segment: int) -> str:
    return f"{job}#{segment:0{SEGMENT_DIGITS}d}"


def _positions(cursor: Cursor) -> dict[str, Wire | None]:
    intent = [{"M": dict(key)} for key in cursor.intent]
    return {
        "settled_to": None if cursor.after is None else {"B": packed(cursor.after)},
        "under_way": {"B": packed({"keys": {"L": intent}})} if intent else None,
        "at_end": {"BOOL": True} if cursor.finished else None,
    }


def _job(job: str, row: Wire) -> Job:
    asked = msgspec.json.decode(row["asked_for"]["S"], type=_Asked)
    return Job(
        id=job,
        targets=tuple(asked["targets"]),
        authority=asked["authority"],
        segments=asked["segments"],
        started_us=_moment_us(row, "started_us"),
        finished_us=_moment_us(row, "finished_us") if "finished_us" in row else None,
    )


def _moment_us(row: Wire, attribute: str) -> int:
    time_us = moment_us(row, attribute)
    if time_us is None:
        raise ValueError(f"{attribute} states no time")
    return time_us


def _cursor(segment: int, row: Wire) -> Cursor:
    return Cursor(
        segment=segment,
        after=unpacked(row["settled_to"]["B"]) if "settled_to" in row else None,
        finished="at_end" in row,
        intent=tuple(_keys(row["under_way"]["B"])) if "under_way" in row else (),
        tally=Tally.of(row["counts"]["S"]) if "counts" in row else Tally(),
    )


def _keys(data: bytes) -> Sequence[Image]:
    keys: Any = unpacked(data)["keys"]["L"]
    return [key["M"] for key in keys]
