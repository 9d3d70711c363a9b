"""What is counted, and the status document made from it.

Counters are plain integers, raised per task or per page; percentiles are worked out when somebody
looks. Latency runs from a record's creation time (one-second grain on AWS) to its durable apply.

This module must not know HTTP, DynamoDB or the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from replicator.records import Gap

LATENCY_WINDOW = 4_096
"""Deliveries over which percentiles are taken."""


class PipelineState(StrEnum):
    """Where a pipeline stands."""

    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    STOPPED = "stopped"


@dataclass(slots=True)
class LinkStats:
    """What went to one target."""

    applied: int = 0
    stale: int = 0
    duplicate: int = 0
    removed: int = 0
    quarantined: int = 0
    retries: int = 0
    stuck: int = 0
    """Tasks that failed and wait to be begun again."""
    error: str | None = None
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))


@dataclass(slots=True)
class RecordStats:
    """What was read from one source."""

    read: int = 0
    local: int = 0
    echo: int = 0
    ignored: int = 0
    conflicts: int = 0
    quarantined: int = 0
    clamped: int = 0


@dataclass(slots=True, kw_only=True)
class PipelineStats:
    """The figures of one table and source region.

    There are three kinds of trouble, each with its own line, so that one getting better does not
    hide another: `session_error` stopped the pipeline, `source_error` keeps the stream from being
    read, `home_error` keeps changes from being settled at home.

    `progress` tells the flow's side: (unsettled, coalesced, {target: (pending, oldest_us)});
    `caught_up`: the last look at every shard found it empty; `latest_us`: when the last record
    that was read was created.
    """

    table: str
    source: str
    mode: str
    targets: tuple[str, ...]
    state: PipelineState = PipelineState.STARTING
    session_error: str | None = None
    source_error: str | None = None
    home_error: str | None = None
    stuck_at_home: int = 0
    stream_arn: str | None = None
    shards_open: int = 0
    shards_finished: int = 0
    gap: Gap | None = None
    readable: bool = False
    caught_up: bool = False
    latest_us: int | None = None
    records: RecordStats = field(default_factory=RecordStats)
    links: dict[str, LinkStats] = field(default_factory=dict)
    progress: Callable[[], tuple[int, int, dict[str, tuple[int, int | None]]]] | None = None

    def __post_init__(self) -> None:
        for target in self.targets:
            self.links[target] = LinkStats()

    @property
    def error(self) -> str | None:
        """The worst of what is wrong, in one line."""
        return self.session_error or self.home_error or self.source_error

    def snapshot(self, now_us: int) -> dict[str, Any]:
        """The status document of this pipeline, ready for JSON."""
        unsettled, coalesced, pending = self.progress() if self.progress else (0, 0, {})
        gap = self.gap
        return {
            "table": self.table,
            "source": self.source,
            "mode": self.mode,
            "state": self.state.value,
            "error": self.error,
            "stream_arn": self.stream_arn,
            "shards": {"open": self.shards_open, "finished": self.shards_finished},
            "unsettled": unsettled,
            "stuck": self.stuck_at_home,
            "gap": gap and {"since_us": gap.since_us, "reason": gap.reason},
            "records": {**asdict(self.records), "coalesced": coalesced},
            "links": [
                self._link(target, stats, *pending.get(target, (0, None)), now_us)
                for target, stats in self.links.items()
            ],
        }

    def _backlog_age_s(self, oldest_us: int | None, now_us: int) -> float | None:
        """The age of the oldest change not yet in a target; 0 when caught up, None for unknown.

        As long as a shard goes on giving records, what it still holds is not known to be less old
        than the last that was read.
        """
        if not self.readable:
            return None
        if not self.caught_up:
            if self.latest_us is None:
                return None
            oldest_us = min(self.latest_us, self.latest_us if oldest_us is None else oldest_us)
        return 0.0 if oldest_us is None else max(0.0, (now_us - oldest_us) / 1e6)

    def _link(
        self, target: str, stats: LinkStats, pending: int, oldest_us: int | None, now_us: int
    ) -> dict[str, Any]:
        return {
            "target": target,
            "state": "retrying" if stats.error or stats.stuck else "ok",
            "error": stats.error,
            "stuck": stats.stuck,
            "applied": stats.applied,
            "stale": stats.stale,
            "duplicate": stats.duplicate,
            "removed": stats.removed,
            "quarantined": stats.quarantined,
            "retries": stats.retries,
            "pending": pending,
            "backlog_age_s": self._backlog_age_s(oldest_us, now_us),
            "latency_ms": {
                "p50": percentile(stats.latencies_ms, 0.50),
                "p99": percentile(stats.latencies_ms, 0.99),
            },
        }


def percentile(values: deque[float], fraction: float) -> float | None:
    """The value at a fraction of the sorted values, None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(fraction * len(ordered)))], 1)


def overall(pipelines: list[dict[str, Any]]) -> str:
    """ok, degraded or failed: the worst of the pipelines' states."""
    if any(p["state"] in ("retrying", "stopped") or p["gap"] for p in pipelines):
        return "failed"
    troubled = any(
        link["state"] != "ok" or link["quarantined"] for p in pipelines for link in p["links"]
    ) or any(p["error"] or p["stuck"] or p["records"]["quarantined"] for p in pipelines)
    return "degraded" if troubled else "ok"
