"""A process of which every figure is known, each another one."""

from __future__ import annotations

from typing import Any

from replicator.records import Gap
from replicator.telemetry import PipelineState, PipelineStats, exposure_by_region, overall

NOW_US = 1_700_000_000_000_000
GAP = Gap(table="orders", source="us", stream_arn="arn", shard="a", since_us=7, reason="trimmed")


def pipeline(table: str = "orders") -> PipelineStats:
    """A pipeline of which everything is known, each figure another one."""
    stats = PipelineStats(table=table, source="us", mode="multi-writer", targets=("eu", "ap"))
    stats.state, stats.readable, stats.caught_up = PipelineState.RUNNING, True, True
    stats.progress = lambda: (11, 12, {"eu": (13, NOW_US - 1_500_000), "ap": (0, None)})
    stats.in_flight = lambda: 14
    stats.checkpoint_us, stats.heartbeat_us = NOW_US - 2_000_000, NOW_US - 2_500_000
    stats.read_errors, stats.home_retries, stats.home_throttles = 15, 16, 17
    stats.shards_open, stats.gap = 3, GAP
    records = ("read", "local", "echo", "ignored", "conflicts", "quarantined", "clamped")
    for number, name in enumerate(records, start=20):
        setattr(stats.records, name, number)
    for start, (target, link) in enumerate(stats.links.items(), start=3):
        names = ("applied", "stale", "duplicate", "quarantined", "retries", "throttles", "stuck")
        for number, name in enumerate(names, start=10 * start):
            setattr(link, name, number)
        link.note_complete(NOW_US - 3_000_000)
        link.note_heartbeat(NOW_US - 4_000_000, NOW_US - 3_700_000)
        for latency_ms in (30.0, 90.0, 1_000.0) if target == "eu" else ():
            link.latency.note(latency_ms, NOW_US)
    return stats


def document_of(*pipelines: PipelineStats) -> dict[str, Any]:
    """The status document of a process."""
    documents = [stats.snapshot(NOW_US) for stats in pipelines]
    return {
        "now_us": NOW_US,
        "state": overall(documents),
        "exposure": exposure_by_region(documents),
        "ledger": {"us": {"noted": 9, "written": 8, "unwritten": 1, "error": None}},
        "pipelines": documents,
    }
