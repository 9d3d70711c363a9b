"""The status document: its shape, its percentiles, what is unknown, and the worst of all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from replicator.records import Gap
from replicator.telemetry import (
    PipelineState,
    PipelineStats,
    overall,
)

NOW_US = 1_700_000_000_000_000
GAP = Gap(table="orders", source="us", stream_arn="arn", shard="a", since_us=7, reason="trimmed")


def figures(*targets: str) -> PipelineStats:
    """The figures of a pipeline that has begun and reads well."""
    stats = PipelineStats(
        table="orders", source="us", mode="multi-writer", targets=targets or ("eu",)
    )
    stats.state, stats.readable, stats.caught_up = PipelineState.RUNNING, True, True
    return stats


def behind(
    pending: int, oldest_us: int | None
) -> Callable[[], tuple[int, int, dict[str, tuple[int, int | None]]]]:
    """What a flow tells, of its link to eu."""
    return lambda: (pending, 3, {"eu": (pending, oldest_us)})


def link(stats: PipelineStats, now_us: int = NOW_US) -> dict[str, Any]:
    """The first link of the document."""
    found: dict[str, Any] = stats.snapshot(now_us)["links"][0]
    return found


def test_the_document_has_the_shape_that_its_readers_rely_on() -> None:
    """Every name of the contract between process, page, command and demo, and of the right type."""
    document = figures("eu", "ap").snapshot(NOW_US)
    assert document == {
        "table": "orders",
        "source": "us",
        "mode": "multi-writer",
        "state": "running",
        "error": None,
        "stream_arn": None,
        "shards": {"open": 0, "finished": 0},
        "unsettled": 0,
        "in_flight": 0,
        "stuck": 0,
        "read_errors": 0,
        "home_retries": 0,
        "throttles": 0,
        "stalled": None,
        "rival": None,
        "gap": None,
        "checkpoint_age_s": None,
        "heartbeat_age_s": None,
        "heartbeat_error": None,
        "exposure": {"seconds": None, "records": 0},
        "records": dict.fromkeys(
            (
                "read",
                "local",
                "echo",
                "coalesced",
                "ignored",
                "conflicts",
                "quarantined",
                "clamped",
            ),
            0,
        ),
        "links": [
            {
                "target": target,
                "state": "ok",
                "paused_since_us": None,
                "error": None,
                **dict.fromkeys(
                    (
                        "applied",
                        "stale",
                        "duplicate",
                        "removed",
                        "quarantined",
                        "retries",
                        "throttles",
                        "stuck",
                        "pending",
                    ),
                    0,
                ),
                "backlog_age_s": 0.0,
                "latency_ms": {"p50": None, "p99": None},
                "heartbeat_age_s": None,
                "heartbeat_latency_ms": None,
                "exposure": {"seconds": None, "records": 0},
            }
            for target in ("eu", "ap")
        ],
    }
    assert json.loads(json.dumps(document)) == document


def test_a_gap_is_told_by_its_time_and_reason() -> None:
    """Nothing else of it is in the document."""
    stats = figures()
    stats.gap = GAP
    assert stats.snapshot(NOW_US)["gap"] == {"since_us": 7, "reason": "trimmed"}


def test_the_flow_tells_what_is_under_way() -> None:
    """Unsettled and coalesced are asked for when somebody looks."""
    stats = figures()
    stats.progress = behind(5, NOW_US)
    document = stats.snapshot(NOW_US)
    assert (document["unsettled"], document["records"]["coalesced"]) == (5, 3)
    assert document["links"][0]["pending"] == 5


@pytest.mark.parametrize(
    ("readable", "oldest_us", "age_s"),
    [
        (True, None, 0.0),
        (False, None, None),
        (True, NOW_US - 2_500_000, 2.5),
        (False, NOW_US - 2_500_000, None),
        (True, NOW_US + 9, 0.0),
    ],
)
def test_what_is_not_known_to_be_nothing_is_unknown(
    *, readable: bool, oldest_us: int | None, age_s: float | None
) -> None:
    """Caught up is 0, what waits has an age, and of a source that cannot be read nothing is known:
    older than what is seen waiting may be what is not seen."""
    stats = figures()
    stats.readable = readable
    stats.progress = behind(0 if oldest_us is None else 1, oldest_us)
    assert link(stats)["backlog_age_s"] == age_s


@pytest.mark.parametrize(
    ("latest_s", "oldest_s", "age_s"),
    [(None, None, None), (None, 9, None), (30, None, 30.0), (30, 9, 30.0), (30, 90, 90.0)],
)
def test_while_a_shard_goes_on_giving_records_the_backlog_is_at_least_as_old_as_the_last(
    latest_s: int | None, oldest_s: int | None, age_s: float | None
) -> None:
    """What it still holds has not been seen; before its first record nothing is known."""
    stats = figures()
    stats.caught_up = False
    stats.latest_us = None if latest_s is None else NOW_US - latest_s * 1_000_000
    stats.progress = behind(1, None if oldest_s is None else NOW_US - oldest_s * 1_000_000)
    assert link(stats)["backlog_age_s"] == age_s


def test_a_pipeline_that_has_not_begun_knows_nothing_of_its_backlog() -> None:
    """It starts unreadable."""
    stats = PipelineStats(table="t", source="us", mode="one-way", targets=("eu",))
    assert link(stats)["backlog_age_s"] is None


def test_a_link_with_an_error_is_retrying() -> None:
    """Until the next call is answered."""
    stats = figures()
    stats.links["eu"].error = "connection refused"
    assert (link(stats)["state"], link(stats)["error"]) == ("retrying", "connection refused")


def test_a_link_with_a_stuck_task_is_retrying() -> None:
    """However well the other calls to the region fare."""
    stats = figures()
    stats.links["eu"].stuck = 1
    assert (link(stats)["state"], link(stats)["stuck"]) == ("retrying", 1)


def test_one_trouble_that_is_over_does_not_hide_another() -> None:
    """What stopped the pipeline comes first, then home, then the stream."""
    stats = figures()
    stats.session_error, stats.home_error, stats.source_error = "session", "home", "source"
    told = [stats.snapshot(NOW_US)["error"]]
    stats.session_error = None
    told.append(stats.snapshot(NOW_US)["error"])
    stats.home_error = None
    told.append(stats.snapshot(NOW_US)["error"])
    assert told == ["session", "home", "source"]


# --- the worst of all ---------------------------------------------------------------------------


def state_of(change: Callable[[PipelineStats], None]) -> str:
    """The state of a process with two pipelines, one of them changed."""
    well, other = figures(), figures()
    change(other)
    return overall([well.snapshot(NOW_US), other.snapshot(NOW_US)])


def _retrying(stats: PipelineStats) -> None:
    stats.state = PipelineState.RETRYING


def _stopped(stats: PipelineStats) -> None:
    stats.state = PipelineState.STOPPED


def _gap(stats: PipelineStats) -> None:
    stats.gap = GAP


def _starting(stats: PipelineStats) -> None:
    stats.state = PipelineState.STARTING


def _link_down(stats: PipelineStats) -> None:
    stats.links["eu"].error = "down"


def _link_stuck(stats: PipelineStats) -> None:
    stats.links["eu"].stuck = 1


def _reading_fails(stats: PipelineStats) -> None:
    stats.source_error = "down"


def _home_fails(stats: PipelineStats) -> None:
    stats.home_error = "down"


def _home_stuck(stats: PipelineStats) -> None:
    stats.stuck_at_home = 1


def _link_quarantine(stats: PipelineStats) -> None:
    stats.links["eu"].quarantined = 1


def _record_quarantine(stats: PipelineStats) -> None:
    stats.records.quarantined = 1


def _conflicts(stats: PipelineStats) -> None:
    stats.records.conflicts = 99


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (_starting, "ok"),
        (_conflicts, "ok"),
        (_link_down, "degraded"),
        (_link_stuck, "degraded"),
        (_reading_fails, "degraded"),
        (_home_fails, "degraded"),
        (_home_stuck, "degraded"),
        (_link_quarantine, "degraded"),
        (_record_quarantine, "degraded"),
        (_retrying, "failed"),
        (_stopped, "failed"),
        (_gap, "failed"),
    ],
)
def test_the_state_of_the_process_is_the_worst_of_its_pipelines(
    change: Callable[[PipelineStats], None], state: str
) -> None:
    """Conflicts are what it is for; what waits degrades it; what stands still or is lost fails."""
    assert state_of(change) == state


def test_without_pipelines_all_is_well() -> None:
    """There is nothing that could be wrong."""
    assert overall([]) == "ok"
