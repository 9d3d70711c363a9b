"""What is counted, and the status document made from it.

Counters are plain integers, raised per task or per page; percentiles are worked out when somebody
looks. Every other view (metrics, page, `status`, `top`) is made from this document, so that all
of them agree; fields.py says what each field means.

Latency runs from a write to its durable apply. A write's time is the one that its application
stamped on it, in microseconds, and else its record's creation time, which AWS rounds down to the
second: it reads up to a second too long.

*Complete until* is the moment before which all that a source's stream has shown is durable in a
target. It only ever rises: a shard that was found empty proves more than the second-grained time
of the next record in it. Exposure is the time since then, so that it grows by itself while a source
does not answer, and is unknown only where nothing was ever known. What was read before a source
fell silent, and arrives after, counts as well.

This module must not know HTTP, DynamoDB or the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from replicator.latencies import Latencies
from replicator.records import Gap

LAGGING_AFTER_S = 30.0
"""The backlog age above which a link is lagging, unless the settings say otherwise."""


Pending: TypeAlias = Mapping[str, tuple[int, int | None]]
"""By target, how many changes wait, and when the oldest of them was created."""


class PipelineState(StrEnum):
    """Where a pipeline stands."""

    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    PAUSED = "paused"
    STOPPED = "stopped"


class LinkState(StrEnum):
    """How a link fares, the first that holds."""

    PAUSED = "paused"
    RETRYING = "retrying"
    """Calls to the target fail."""
    UNKNOWN = "unknown"
    """The source cannot be read, or was not yet: how far behind the target is cannot be told."""
    LAGGING = "lagging"
    OK = "ok"


@dataclass(slots=True)
class LinkStats:
    """What went to one target.

    `complete_us`: the last known moment before which everything is in the target. `heartbeat_us`:
    when the newest heartbeat that has arrived was written; `heartbeat_latency_ms`: what it took.
    """

    applied: int = 0
    stale: int = 0
    duplicate: int = 0
    removed: int = 0
    quarantined: int = 0
    retries: int = 0
    throttles: int = 0
    stuck: int = 0
    """Tasks that failed and wait to be begun again."""
    error: str | None = None
    paused_since_us: int | None = None
    complete_us: int | None = None
    heartbeat_us: int | None = None
    heartbeat_latency_ms: float | None = None
    heartbeat_error: str | None = None
    latency: Latencies = field(default_factory=Latencies)

    def note_heartbeat(self, sent_us: int, now_us: int) -> None:
        """A heartbeat is in the target; one that comes late changes nothing."""
        if self.heartbeat_us is None or sent_us > self.heartbeat_us:
            self.heartbeat_us = sent_us
            self.heartbeat_latency_ms = max(0, now_us - sent_us) / 1000

    def note_complete(self, until_us: int) -> None:
        """Everything from before that moment is in the target; what was known before stands."""
        if self.complete_us is None or until_us > self.complete_us:
            self.complete_us = until_us


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
    that was read was created; `read_until` tells the moment before which every
    record had been read, None where that is not known; `in_flight` the tasks under way;
    `checkpoint_us`: when what a restart would begin from was read; `heartbeat_us`: when the newest
    heartbeat that came out of the source was written.
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
    home_retries: int = 0
    home_throttles: int = 0
    read_errors: int = 0
    read_throttles: int = 0
    stream_arn: str | None = None
    shards_open: int = 0
    shards_finished: int = 0
    gap: Gap | None = None
    stalled: str | None = None
    """Why it counts as stopped without an error (watchdog.py)."""
    rival: str | None = None
    """Another process that reads this source as well (presence.py)."""
    kept_s: float | None = None
    """When its positions were last looked after (monotonic); None while no session runs."""
    readable: bool = False
    caught_up: bool = False
    latest_us: int | None = None
    records: RecordStats = field(default_factory=RecordStats)
    links: dict[str, LinkStats] = field(default_factory=dict)
    progress: Callable[[], tuple[int, int, dict[str, tuple[int, int | None]]]] | None = None
    read_until: Callable[[], int | None] | None = None
    in_flight: Callable[[], int] | None = None
    checkpoint_us: int | None = None
    heartbeat_us: int | None = None
    heartbeat_error: str | None = None
    lagging_after_s: float = LAGGING_AFTER_S

    def __post_init__(self) -> None:
        for target in self.targets:
            self.links[target] = LinkStats()

    @property
    def error(self) -> str | None:
        """The worst of what is wrong, in one line."""
        return self.session_error or self.home_error or self.source_error

    def note_complete(self) -> None:
        """Take down for each link until when everything is in its target, as of now."""
        if self.known_until() is not None:
            self._note_complete(self._progress()[2])

    def known_until(self) -> int | None:
        """The moment before which every record had been read, None where that is not known."""
        return self.read_until() if self.read_until else None

    def _note_complete(self, pending: Pending) -> None:
        read_us = self.known_until()
        if read_us is None:
            return
        for target, link in self.links.items():
            oldest_us = pending.get(target, (0, None))[1]
            link.note_complete(read_us if oldest_us is None else min(read_us, oldest_us))

    def snapshot(self, now_us: int) -> dict[str, Any]:
        """The status document of this pipeline, ready for JSON."""
        unsettled, coalesced, pending = self._progress()
        self._note_complete(pending)
        gap = self.gap
        links = [
            self._link(target, stats, *pending.get(target, (0, None)), now_us)
            for target, stats in self.links.items()
        ]
        return {
            "table": self.table,
            "source": self.source,
            "mode": self.mode,
            "state": self.state.value,
            "error": self.error,
            "stream_arn": self.stream_arn,
            "shards": {"open": self.shards_open, "finished": self.shards_finished},
            "unsettled": unsettled,
            "in_flight": self.in_flight() if self.in_flight else 0,
            "stuck": self.stuck_at_home,
            "read_errors": self.read_errors,
            "home_retries": self.home_retries,
            "throttles": self.read_throttles
            + self.home_throttles
            + sum(link.throttles for link in self.links.values()),
            "stalled": self.stalled,
            "rival": self.rival,
            "gap": gap and {"since_us": gap.since_us, "reason": gap.reason},
            "checkpoint_age_s": _age_s(self.checkpoint_us, now_us),
            "heartbeat_age_s": _age_s(self.heartbeat_us, now_us),
            "heartbeat_error": self.heartbeat_error,
            "exposure": worst_exposure(link["exposure"] for link in links),
            "records": {**asdict(self.records), "coalesced": coalesced},
            "links": links,
        }

    def _progress(self) -> tuple[int, int, dict[str, tuple[int, int | None]]]:
        return self.progress() if self.progress else (0, 0, {})

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
        backlog_age_s = self._backlog_age_s(oldest_us, now_us)
        p50, p99 = stats.latency.percentiles((0.50, 0.99), now_us)
        return {
            "target": target,
            "state": self._link_state(stats, backlog_age_s).value,
            "paused_since_us": stats.paused_since_us,
            "error": stats.error or stats.heartbeat_error,
            "stuck": stats.stuck,
            "applied": stats.applied,
            "stale": stats.stale,
            "duplicate": stats.duplicate,
            "removed": stats.removed,
            "quarantined": stats.quarantined,
            "retries": stats.retries,
            "throttles": stats.throttles,
            "pending": pending,
            "backlog_age_s": backlog_age_s,
            "latency_ms": {"p50": p50, "p99": p99},
            "heartbeat_age_s": _age_s(stats.heartbeat_us, now_us),
            "heartbeat_latency_ms": stats.heartbeat_latency_ms,
            "exposure": {
                "seconds": _age_s(stats.complete_us, now_us),
                "records": pending if self.readable else None,
            },
        }

    def _link_state(self, link: LinkStats, backlog_age_s: float | None) -> LinkState:
        if link.paused_since_us is not None:
            return LinkState.PAUSED
        if link.error or link.stuck or link.heartbeat_error:
            return LinkState.RETRYING
        if backlog_age_s is None or self.state is PipelineState.STOPPED:
            return LinkState.UNKNOWN
        return LinkState.LAGGING if backlog_age_s > self.lagging_after_s else LinkState.OK


def _age_s(since_us: int | None, now_us: int) -> float | None:
    return None if since_us is None else max(0.0, (now_us - since_us) / 1e6)


def worst_exposure(exposures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The greater of each figure; unknown as soon as one is."""
    found = list(exposures)
    return {figure: _greatest(figure, found) for figure in ("seconds", "records")}


def _greatest(figure: str, exposures: Sequence[Mapping[str, Any]]) -> float | None:
    values = [exposure[figure] for exposure in exposures]
    return None if not values or None in values else max(values)


def exposure_by_region(pipelines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What would be lost if a source region vanished now: seconds of the worst link of any table,
    and the changes that wait on the worst link of each table, summed."""
    by_region: dict[str, list[Mapping[str, Any]]] = {}
    for pipeline in pipelines:
        by_region.setdefault(pipeline["source"], []).append(pipeline["exposure"])
    return {
        region: {
            "seconds": _greatest("seconds", exposures),
            "records": _sum([exposure["records"] for exposure in exposures]),
        }
        for region, exposures in by_region.items()
    }


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def overall(pipelines: Sequence[Mapping[str, Any]]) -> str:
    """ok, degraded or failed: the worst of the pipelines' states."""
    if any(p["state"] in ("retrying", "stopped") or p["gap"] or p["stalled"] for p in pipelines):
        return "failed"
    return "degraded" if any(map(_is_troubled, pipelines)) else "ok"


def _is_troubled(pipeline: Mapping[str, Any]) -> bool:
    """Whether something waits; what has only just begun knows nothing yet, which is no trouble."""
    fine = ("ok", "unknown") if pipeline["state"] == "starting" else ("ok",)
    waits = any(link["state"] not in fine or link["quarantined"] for link in pipeline["links"])
    own = any(pipeline[trouble] for trouble in ("error", "heartbeat_error", "stuck", "rival"))
    return bool(waits or own or pipeline["records"]["quarantined"])
