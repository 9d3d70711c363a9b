"""What `status` and `top` say of a process that is not well: each state, and what to do."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from replicator.show import show_status
from replicator.telemetry import PipelineState, PipelineStats, exposure_by_region, overall

NOW_US = 1_700_000_000_000_000


def troubled(**figures: Any) -> PipelineStats:
    """A pipeline that runs and is caught up, but for these figures."""
    stats = PipelineStats(table="orders", source="us", mode="multi-writer", targets=("eu",))
    stats.state, stats.readable, stats.caught_up = PipelineState.RUNNING, True, True
    for name, value in figures.items():
        setattr(stats, name, value)
    return stats


def printed(stats: PipelineStats, **more: Any) -> list[str]:
    """The lines that `status` prints of it."""
    documents = [stats.snapshot(NOW_US)]
    status = {
        "version": "1",
        "pid": 7,
        "now_us": NOW_US,
        "state": overall(documents),
        "exposure": exposure_by_region(documents),
        "pipelines": documents,
        **more,
    }
    out = io.StringIO()
    show_status("http://here", status, Console(file=out, width=1_000, highlight=False))
    return out.getvalue().splitlines()


def test_a_pipeline_that_stands_still_is_called_stalled() -> None:
    """Its row does not say `ok`, and that nothing waits is not claimed."""
    reason = "positions have not been looked after for 120 s"
    lines = printed(troubled(stalled=reason))
    assert lines[0].startswith("failed")
    (row,) = [line.split() for line in lines if "us → eu" in line]
    assert row[4:7] == ["stalled", "0", "unknown"]
    advice = "restart the process, it goes on from its checkpoint"
    assert f"▲ orders, us: stands still: {reason}; {advice}" in lines


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (PipelineState.RUNNING, "ok"),
        (PipelineState.RETRYING, "retrying"),
        (PipelineState.STARTING, "starting"),
    ],
)
def test_a_link_is_called_what_the_json_calls_it(state: PipelineState, word: str) -> None:
    """And by its pipeline's state only where nothing else says that it does not run."""
    stats = troubled(state=state)
    (link,) = stats.snapshot(NOW_US)["links"]
    assert link["state"] == "ok"
    (row,) = [line.split() for line in printed(stats) if "us → eu" in line]
    assert row[4] == word


@pytest.mark.parametrize(
    ("figures", "line"),
    [
        (
            {"rival": "host/7/ab"},
            "host/7/ab reads it as well; that does no harm, stop one of the two",
        ),
        (
            {"stuck_at_home": 1_234},
            "1,234 changes failed at home and will be tried again",
        ),
        (
            {"heartbeat_error": "PutItem: denied"},
            "takes no heartbeat: PutItem: denied; check that this process may write there",
        ),
    ],
)
def test_what_makes_a_process_degraded_is_said(figures: dict[str, Any], line: str) -> None:
    """Nothing is left to be guessed from one word."""
    lines = printed(troubled(**figures))
    assert lines[0].startswith("degraded")
    assert f"▲ orders, us: {line}" in lines


def test_changes_that_are_stuck_in_a_target_are_said() -> None:
    """The link is retrying; how many wait stands below."""
    stats = troubled()
    stats.links["eu"].stuck = 1
    stuck = "1 change failed there and will be tried again"
    assert f"▲ orders, us → eu: {stuck}" in printed(stats)


def test_what_troubles_the_telemetry_is_said_with_what_to_do() -> None:
    """Conflicts that are not kept, metrics that nobody receives."""
    ledger = {"eu": {"noted": 9, "written": 2, "unwritten": 7, "error": "PutItem: denied"}}
    otlp = {"endpoint": "http://collector", "pushed": 0, "failed": 1, "error": "refused"}
    lines = printed(troubled(), ledger=ledger, telemetry={"otlp": otlp})
    assert any("eu: 7 conflicts are missing in the ledger for good" in line for line in lines)
    assert any("denied; check that this process may write its control" in line for line in lines)
    assert any("refused; check the collector" in line for line in lines)
