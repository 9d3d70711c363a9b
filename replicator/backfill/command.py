"""The command: one job from its beginning, or from where another process left it, to its end.

Exit status: 0 done, 1 items in dispute or refused, 2 what cannot be done as it was asked.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from replicator import loop
from replicator.backfill.estimate import estimate
from replicator.backfill.jobs import Job, Jobs
from replicator.backfill.plan import Plan, Request, plan_of
from replicator.backfill.preparation import Found, prepare
from replicator.backfill.report import (
    Progress,
    closing_document,
    closing_table,
    estimate_lines,
)
from replicator.backfill.tally import REFUSED, Tally
from replicator.backfill.work import Order, jobs_of, patient, work_over
from replicator.errors import ConfigurationError, Fatal, Replaced
from replicator.ports import Api
from replicator.preflight import Connect, remedy
from replicator.settings import Settings
from replicator.show import console

DONE, NOT_WELL = 0, 1


def run_backfill(request: Request, settings: Settings, *, connect: Connect) -> int:
    """Carry out the command; returns the exit status."""
    plan = plan_of(request, settings)
    apis = {region: connect(region) for region in (plan.source, *plan.targets)}
    return loop.run(_run(request, plan, settings, apis))


async def _run(request: Request, plan: Plan, settings: Settings, apis: Mapping[str, Api]) -> int:
    found = await prepare(plan, settings, apis)
    if request.dry_run:
        with _as_set_up():
            cost = await estimate(request, plan, settings, found, apis)
        _print(json.dumps(cost.document) if request.as_json else "\n".join(estimate_lines(cost)))
        return DONE
    api = patient(settings, plan, apis[plan.source], found.key_names)
    jobs = jobs_of(settings, plan, api)
    with _as_set_up():
        job, resumed = await _job(request, plan, jobs)
    plan = replace(plan, segments=job.segments)
    started_s = time.monotonic()
    await _work(request, plan, settings, found, job, apis, jobs)
    finished = await jobs.latest(job)
    await jobs.finish(finished)
    seconds = time.monotonic() - started_s
    tally = finished.tally
    if request.as_json:
        _print(json.dumps(closing_document(plan, tally, seconds, resumed=resumed)))
    else:
        out = console()
        for part in closing_table(plan, tally, seconds):
            out.print(part)
    return NOT_WELL if tally.count("disputed") or tally.count(REFUSED) else DONE


async def _job(request: Request, plan: Plan, jobs: Jobs) -> tuple[Job, bool]:
    """The job to work on, and whether it had begun before."""
    known = await jobs.load()
    unfinished = [job for job in known if job.finished_us is None]
    if request.restart:
        for job in unfinished:
            await jobs.discard(job)
            _say(f"backfill: the one that began {_at(job.started_us)} is discarded")
        unfinished = []
    if not unfinished:
        if known and not request.restart and known[-1].finished_us is not None:
            ended = _at(known[-1].finished_us)
            _say(f"backfill: the last one was finished {ended}; this one begins anew")
        return await jobs.begin(plan), False
    job = unfinished[-1]
    if (set(job.targets), job.authority) != (set(plan.targets), plan.authority):
        raise ConfigurationError(
            f"an unfinished backfill of {plan.table} out of {plan.source} has other targets or "
            f"another authority ({', '.join(job.targets)}; {job.authority or 'none'}); "
            "finish it with the same, or discard it with --restart"
        )
    left, done = len(job.open_segments), job.tally.items
    _say(
        f"backfill: goes on with the one that began {_at(job.started_us)}: {left} of "
        f"{job.segments} segments left, {done:,} items settled"
    )
    return job, True


async def _work(
    request: Request,
    plan: Plan,
    settings: Settings,
    found: Found,
    job: Job,
    apis: Mapping[str, Api],
    jobs: Jobs,
) -> None:
    """Settle what is left of a job."""
    order = Order(
        settings=settings,
        plan=plan,
        key_names=found.key_names,
        job=job.id,
        segments=job.open_segments,
        write_rate=request.write_rate,
        read_rate=request.read_rate,
    )
    before = job.tally.items
    progress = Progress(
        console=Console(stderr=True, highlight=False),
        about=found.items,
        before=before,
        monotonic_s=time.monotonic,
    )
    try:
        if request.workers is None and request.scheduler is None:
            await _work_here(order, apis, progress, before)
        else:
            await _work_there(request, order, job, jobs, progress)
    except Replaced as error:
        raise _wrong_set_up(error) from None
    except Fatal as error:
        if (await jobs.latest(job)).tally.items == 0:  # nobody can have relied on it yet
            raise _wrong_set_up(error) from None
        raise
    finally:
        progress.close()


async def _work_here(
    order: Order, apis: Mapping[str, Api], progress: Progress, before: int
) -> None:
    done = before

    def settled(page: Tally) -> None:
        nonlocal done
        done += page.items
        progress.show(done)

    await work_over(order, apis, settled)


async def _work_there(
    request: Request, order: Order, job: Job, jobs: Jobs, progress: Progress
) -> None:
    from replicator.backfill.cluster import work_on_cluster  # noqa: PLC0415 - an extra

    async def look() -> None:
        progress.show((await jobs.latest(job)).tally.items)

    await work_on_cluster(order, workers=request.workers, scheduler=request.scheduler, look=look)


@contextmanager
def _as_set_up() -> Iterator[None]:
    """What is refused before anything is written is the user's to mend."""
    try:
        yield
    except Fatal as error:
        raise _wrong_set_up(error) from None


def _wrong_set_up(error: Fatal) -> ConfigurationError:
    if isinstance(error, Replaced):
        return ConfigurationError(str(error))
    return ConfigurationError(f"{error}; {remedy(error)}")


def _at(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
