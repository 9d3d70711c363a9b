"""What telemetry costs: CPU per record with all of it on, beside the same work with none.

The work is the shipping pipeline of a one-way table on the lean data plane against the null
endpoint: the cheapest way that a record has, so that what telemetry adds shows at its largest.

With telemetry: a latency for each record, heartbeats, a ledger, and every EVERY_S the status
document and a scrape of `/metrics`; `run` makes the document once a second for whoever looks at the
page, and is scraped every 15 or so. Without: none of these, and no latencies are kept. A second is
one of CPU time, as it is for a busy process: what else a machine does must not make looks more
frequent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from bench.answers import TABLE, Answers
from bench.endpoint import NullEndpoint
from bench.figures import Bench, Figure, Round, at_most
from bench.measuring import Turns
from bench.replication import AWAY, HOME, LOOK_EVERY_S, open_api, settings_for
from replicator import loop
from replicator.compose import build_pipeline, heart, ledger, pipeline_stats
from replicator.exporting import Metrics
from replicator.latencies import Latencies
from replicator.ports import Api
from replicator.records import Mode
from replicator.settings import ConflictSettings, Settings
from replicator.telemetry import PipelineStats, exposure_by_region, overall

PAGES = 40
EVERY_S = 1.0


class Unmeasured(Latencies):
    """Latencies that nobody keeps."""

    def note(self, latency_ms: float, now_us: int) -> None:
        """Nothing is kept."""


def replicate(settings: Settings, apis: Mapping[str, Api], records: int, *, observed: bool) -> int:
    """Replicate until so many records have been applied; returns how many."""
    return loop.run(_replicate(settings, apis, records, observed=observed))


async def _replicate(
    settings: Settings, apis: Mapping[str, Api], records: int, *, observed: bool
) -> int:
    stats = pipeline_stats(settings, TABLE, HOME)
    link = stats.links[AWAY]
    if not observed:
        link.latency = Unmeasured()
    conflicts = ledger(settings, HOME, apis[HOME])
    pipeline = await build_pipeline(settings, apis, stats, conflicts.note)
    stop = asyncio.Event()
    running = [asyncio.create_task(pipeline.run(stop))]
    if observed:
        beating = heart(settings, apis, stats)
        assert beating is not None
        looking = (beating.run(stop), conflicts.run(stop), _look(stats))
        running += [asyncio.create_task(each) for each in looking]
    while link.applied < records:  # noqa: ASYNC110 - figures tell no event
        await asyncio.sleep(LOOK_EVERY_S)
    stop.set()
    for task in running[3:]:  # the look has no end of its own
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return link.applied


async def _look(stats: PipelineStats) -> None:
    """Look as the page and Prometheus do."""

    def document() -> dict[str, Any]:
        documents = [stats.snapshot(0)]
        exposure = exposure_by_region(documents)
        return {"state": overall(documents), "exposure": exposure, "pipelines": documents}

    metrics = Metrics(document=document, pipelines=[stats], instance="1")
    while True:
        due_s = time.process_time() + EVERY_S
        while time.process_time() < due_s:  # noqa: ASYNC110 - CPU time has no timer
            await asyncio.sleep(LOOK_EVERY_S)
        document()
        metrics.prometheus()


@contextmanager
def _prepared(pages: int = PAGES) -> Iterator[Round]:
    with ExitStack() as stack:
        endpoint = stack.enter_context(NullEndpoint(Answers(pages=pages)))
        settings = settings_for(Mode.ONE_WAY, endpoint.url).model_copy(
            update={
                "conflicts": ConflictSettings.model_validate({"digest_key": "of this benchmark"}),
            }
        )
        apis = {
            name: open_api(name, endpoint.url, concurrency=settings.writer.concurrency)
            for name in settings.regions
        }
        for api in apis.values():
            stack.callback(api.close)
        work = partial(replicate, settings, apis, endpoint.answers.records)
        work(observed=True)
        turns = Turns(partial(work, observed=True), partial(work, observed=False))

        def measure() -> Mapping[str, float]:
            with_all, without = turns.take()
            return {
                "telemetry-cpu": with_all.cpu_us_each / without.cpu_us_each - 1,
                "µs per record with it": with_all.cpu_us_each,
                "µs per record without": without.cpu_us_each,
            }

        yield measure


BENCHES = (
    Bench(
        figures=[
            Figure(
                name="telemetry-cpu",
                title="telemetry: CPU that it adds to a record, one-way ÷ without any",
                goal=at_most(0.15),
            )
        ],
        prepare=_prepared,
        rounds=9,
    ),
)
