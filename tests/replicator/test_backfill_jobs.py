"""Where a backfill stands: cursors, claims and counts, on an engine that judges the conditions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from typing import Any

import pytest

from conflict.operations import Image
from conflict.seed import Seeded
from replicator.aws.api import Boto3Api
from replicator.backfill.jobs import Cursor, Job, Jobs, TakenOver
from replicator.backfill.plan import Plan
from replicator.backfill.tally import OUTCOMES, UNITS, Tally
from replicator.clock import SystemClock
from replicator.control import create_control_table_request
from replicator.errors import ConfigurationError
from replicator.packing import packed
from replicator.records import Mode
from support.clock import VirtualClock
from support.engines import Engine
from support.scripted_api import ScriptedApi
from support.tables import client, unique_name

PLAN = Plan(
    table="orders",
    source="us-east-1",
    targets=("eu-west-1", "ap-south-1"),
    mode=Mode.MULTI_WRITER,
    authority=None,
    segments=3,
)
KEY: Image = {"id": {"S": "\xfc"}, "at": {"N": "1.50"}, "b": {"B": b"\0"}}


@pytest.fixture
def jobs(engine: Callable[[str], Engine]) -> Iterator[Jobs]:
    """A control table of its own."""
    url, name = engine("dynamodb-local").endpoint_url, unique_name("control")
    client(url, "us-east-1").create_table(**create_control_table_request(name))
    with closing(Boto3Api.open(region="us-east-1", endpoint_url=url, threads=2)) as api:
        yield Jobs(
            api=api, control_table=name, table="orders", source="us-east-1",
            clock=SystemClock(), sleep=asyncio.sleep,
        )  # fmt: skip


def run(steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine."""
    asyncio.run(steps())


def tally(items: int) -> Tally:
    """Some counts."""
    return Tally(items, items / 2, {"eu-west-1": complete(Counter(written=items))})


def complete(counts: Counter[str]) -> Counter[str]:
    """The counts with every name in them, as they are kept."""
    return Counter({name: counts[name] for name in (*OUTCOMES, UNITS)})


async def only(jobs: Jobs) -> Job:
    """The one job there is."""
    (job,) = await jobs.load()
    return job


async def end(jobs: Jobs, job: Job) -> None:
    """Finish all segments of a job."""
    for segment in range(job.segments):
        await jobs.claim(job.id, segment, "me")
        await jobs.save(job.id, Cursor(segment=segment, finished=True), "me")


def test_a_job_is_found_as_it_was_begun(jobs: Jobs) -> None:
    """With nothing settled, and every segment open."""

    async def steps() -> None:
        begun = await jobs.begin(PLAN)
        job = await only(jobs)
        assert job == begun
        assert (job.targets, job.authority) == (PLAN.targets, None)
        assert job.open_segments == (0, 1, 2)

    run(steps)


def test_a_cursor_is_found_as_it_was_saved(jobs: Jobs) -> None:
    """Key, intent and counts verbatim; counts of all segments add up."""

    async def steps() -> None:
        job = await jobs.begin(PLAN)
        assert await jobs.claim(job.id, 1, "me") == Cursor(segment=1)
        saved = Cursor(segment=1, after=KEY, intent=(KEY, {"id": {"S": "2"}}), tally=tally(5))
        await jobs.save(job.id, saved, "me")
        assert await jobs.claim(job.id, 1, "you") == saved
        await jobs.claim(job.id, 2, "me")
        done = Cursor(segment=2, finished=True, tally=tally(7))
        await jobs.save(job.id, done, "me")
        job = await only(jobs)
        assert job.cursors == (saved, done)
        assert job.open_segments == (0, 1)
        assert job.tally.items == 12
        assert job.tally.count(Seeded.WRITTEN.value) == 12

    run(steps)


def test_an_intent_is_forgotten_when_it_is_done(jobs: Jobs) -> None:
    """A cursor without one takes the old one away, and the last key when it is at its end."""

    async def steps() -> None:
        job = await jobs.begin(PLAN)
        await jobs.claim(job.id, 0, "me")
        await jobs.save(job.id, Cursor(segment=0, after=KEY, intent=(KEY,)), "me")
        await jobs.save(job.id, Cursor(segment=0, finished=True), "me")
        assert await jobs.claim(job.id, 0, "me") == Cursor(segment=0, finished=True)

    run(steps)


def test_who_was_taken_over_saves_nothing(jobs: Jobs) -> None:
    """The claim of the last one holds."""

    async def steps() -> None:
        job = await jobs.begin(PLAN)
        await jobs.claim(job.id, 0, "first")
        await jobs.claim(job.id, 0, "second")
        with pytest.raises(TakenOver, match="segment 0 was taken over"):
            await jobs.save(job.id, Cursor(segment=0, tally=tally(9)), "first")
        await jobs.save(job.id, Cursor(segment=0, tally=tally(1)), "second")
        assert (await only(jobs)).tally.items == 1

    run(steps)


def test_a_finished_job_is_told_and_a_discarded_one_is_gone(jobs: Jobs) -> None:
    """And whoever worked on the discarded one has lost its claims."""

    async def steps() -> None:
        first = await jobs.begin(PLAN)
        with pytest.raises(TakenOver, match="3 of 3 segments are not finished"):
            await jobs.finish(first)
        await end(jobs, first)
        await jobs.finish(await only(jobs))
        second = await jobs.begin(PLAN)
        await jobs.claim(second.id, 0, "me")
        known = await jobs.load()
        assert [job.finished_us is None for job in known] == [False, True]
        await jobs.discard(known[-1])
        assert [job.id for job in await jobs.load()] == [first.id]
        with pytest.raises(TakenOver):
            await jobs.save(second.id, Cursor(segment=0), "me")

    run(steps)


def test_a_job_that_was_discarded_is_not_another(jobs: Jobs) -> None:
    """Whoever worked on it to its end is told, and ends no job that was begun meanwhile."""

    async def steps() -> None:
        first = await jobs.begin(PLAN)
        await end(jobs, first)
        first = await jobs.latest(first)
        await jobs.discard(first)
        second = await jobs.begin(PLAN)
        for ending in (jobs.latest(first), jobs.finish(first)):
            with pytest.raises(TakenOver, match="was discarded meanwhile"):
                await ending
        assert await jobs.latest(second) == second
        assert second.finished_us is None

    run(steps)


# --- rows that are malformed --------------------------------------------------------------------

ASKED = {"S": '{"targets": ["eu-west-1"], "authority": null, "segments": 3}'}
JOB: dict[str, Any] = {"sk": {"S": "7"}, "asked_for": ASKED, "started_us": {"N": "7"}}


def kept(*rows: dict[str, Any]) -> Jobs:
    """The jobs that such rows are."""
    clock = VirtualClock()
    return Jobs(
        api=ScriptedApi({"Items": list(rows)}), control_table="control", table="orders",
        source="us", clock=clock, sleep=clock.sleep,
    )  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        {"asked_for": {"N": "1"}},
        {"asked_for": {"S": "{"}},
        {"asked_for": {"S": '{"targets": "eu", "authority": null, "segments": 3}'}},
        {"asked_for": {"S": '{"targets": ["eu"], "authority": null, "segments": 1e99}'}},
        {"started_us": {"S": "7"}},
        {"started_us": {"N": "1E30"}},
        {"finished_us": {"NULL": True}},
    ],
)
def test_a_malformed_job_is_one_line(odd: dict[str, Any]) -> None:
    """That names the row and the remedy: what was asked for is not guessed."""
    with pytest.raises(ConfigurationError) as refused:
        asyncio.run(kept({**JOB, **odd}).load())
    assert str(refused.value) == (
        "control: backfill#orders#us: 7: the row is malformed; mend or delete it: "
        "the backfill then begins anew"
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"settled_to": {"S": "x"}},
        {"settled_to": {"B": b"x"}},
        {"under_way": {"B": packed({"keys": {"L": [1]}})}},
        {"counts": {"S": "[]"}},
        {"counts": {"S": '{"items": "many", "read_units": 0, "targets": {}}'}},
        {"sk": {"S": "7#first"}},
    ],
)
def test_a_malformed_cursor_is_one_line(odd: dict[str, Any]) -> None:
    """From where on to copy is not guessed."""
    with pytest.raises(ConfigurationError, match="this segment is then copied anew"):
        asyncio.run(kept(JOB, {"sk": {"S": "7#0000001"}, **odd}).load())


def test_a_segment_whose_cursor_is_malformed_is_not_begun(jobs: Jobs) -> None:
    """As when the row was bent while the job was under way."""

    async def steps() -> None:
        job = await jobs.begin(PLAN)
        await jobs.claim(job.id, 1, "me")
        await jobs._update(
            f"{job.id}#0000001", "SET counts = :odd", "attribute_exists(pk)", {":odd": {"N": "1"}}
        )
        with pytest.raises(ConfigurationError, match="this segment is then copied anew"):
            await jobs.claim(job.id, 1, "me")

    run(steps)
