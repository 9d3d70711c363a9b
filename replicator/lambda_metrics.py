"""What a function tells CloudWatch after each invocation, by lines in the embedded metric format.

A function sees the batches that it is handed and nothing in between, so it tells what it did
(counters, latencies, what it kept aside) and how far behind its batch was, and leaves out what
only a process can know: states, exposure, heartbeats.

This module must not know who prints the lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from replicator.emf import drained, emf
from replicator.metrics import Kind, Metric
from replicator.ports import Clock
from replicator.records import Gap
from replicator.telemetry import PipelineStats

GAP = "replicator.gap"
TOLD_GAUGES = frozenset(
    {GAP, "replicator.backlog.age", "replicator.link.quarantined", "replicator.source.quarantined"}
)


@dataclass(slots=True, kw_only=True)
class FunctionMetrics:
    """The metrics of one execution environment."""

    clock: Clock
    _told: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def lines(self, pipelines: Iterable[PipelineStats], *, behind_us: int) -> list[str]:
        """What is to be told of the pipelines that had a batch.

        `behind_us`: when the oldest of its records that is not settled was created, else the
        newest; what the stream still holds is younger than that.
        """
        now_us = self.clock.now_us()
        lines: list[str] = []
        for stats in pipelines:
            pipeline = stats.snapshot(now_us)
            age_s = max(0.0, (now_us - behind_us) / 1e6)
            links = [{**link, "backlog_age_s": age_s} for link in pipeline["links"]]
            document = {"now_us": now_us, "pipelines": [{**pipeline, "links": links}]}
            lines += emf(
                document,
                since=self._told.get(stats.table),
                latencies_ms=drained([stats]),
                wanted=is_told,
            )
            self._told[stats.table] = document
        return lines

    def of_gap(self, stats: PipelineStats, gap: Gap) -> list[str]:
        """What is to be told when records are known to be lost: that, and nothing else."""
        stats.gap = gap
        now_us = self.clock.now_us()
        document = {"now_us": now_us, "pipelines": [stats.snapshot(now_us)]}
        return emf(document, wanted=lambda metric: metric.name == GAP)


def is_told(metric: Metric) -> bool:
    """Whether a function can know the metric."""
    return metric.kind is not Kind.GAUGE or metric.name in TOLD_GAUGES
