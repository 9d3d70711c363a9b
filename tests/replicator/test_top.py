"""`replicator top`: what it shows, and that old figures never pass for new ones."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from replicator.inquiry import Report
from replicator.telemetry import PipelineState, PipelineStats, exposure_by_region, overall
from replicator.top import interrupted_quietly, watch

NOW_US = 1_700_000_000_000_000
URL = "http://127.0.0.1:8080"


def status(applied: int, seconds: float = 0.0, pid: int = 7) -> dict[str, Any]:
    """What a process reports after so many changes and seconds."""
    stats = PipelineStats(table="orders", source="us", mode="multi-writer", targets=("eu",))
    stats.state, stats.readable, stats.caught_up = PipelineState.RUNNING, True, True
    stats.links["eu"].applied = applied
    documents = [stats.snapshot(NOW_US)]
    return {
        "version": "1",
        "pid": pid,
        "now_us": NOW_US + int(seconds * 1e6),
        "state": overall(documents),
        "exposure": exposure_by_region(documents),
        "pipelines": documents,
    }


def answer(document: dict[str, Any]) -> list[Report]:
    """What one process answered."""
    return [Report(url=URL, status=document)]


def watched(
    *looks: Sequence[Report], as_json: bool = False, terminal: bool = False
) -> tuple[str, bool, list[float]]:
    """What was printed over so many looks, whether all was well, and the pauses."""
    pauses: list[float] = []
    out, answers = io.StringIO(), iter(looks)
    well = watch(
        lambda: next(answers),
        looks=len(looks),
        interval_s=2.0,
        as_json=as_json,
        console=Console(file=out, width=1_000, force_terminal=terminal, highlight=False),
        sleep=pauses.append,
    )
    return out.getvalue(), well, pauses


def row(printed: str, nth: int) -> list[str]:
    """The words of the link's row at a look."""
    return [line.split() for line in printed.splitlines() if "us → eu" in line][nth]


def test_rates_are_those_between_two_looks() -> None:
    """At the first look there are none; totals stand in their place."""
    printed, well, pauses = watched(answer(status(100)), answer(status(400, 2.0)))
    assert (well, pauses) == (True, [2.0])
    heads = [line for line in printed.splitlines() if line.startswith("table")]
    assert ["applied/s" in head for head in heads] == [False, True]
    assert "100" in row(printed, 0)
    assert "150.0" in row(printed, 1)


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    """Its counters begin at 0, so a rate is never negative."""
    printed, _, _ = watched(answer(status(400)), answer(status(30, 2.0, pid=8)))
    assert "15.0" in row(printed, 1)


def test_a_process_that_a_dashboard_cannot_reach_has_no_rate() -> None:
    """Unknown is no figure, and least of all 0."""
    silent = status(400, 2.0)
    silent["pipelines"][0]["links"][0]["applied"] = None
    looks = status(100), silent, status(500, 4.0), status(700, 6.0)
    printed, _, _ = watched(*map(answer, looks))
    unknown = [row(printed, nth).count("unknown") for nth in (1, 2, 3)]
    assert unknown == [unknown[2] + 1, unknown[2] + 1, unknown[2]]
    assert "100.0" in row(printed, 3)


def test_a_process_that_does_not_answer_shows_no_figures() -> None:
    """Its error stands in their place; when it is back, rates begin anew."""
    silent = [Report(url=URL, error=f"{URL}: no status: refused")]
    printed, well, _ = watched(answer(status(100)), silent, answer(status(200, 9.0)))
    assert f"✗ {URL}: no status: refused" in printed
    assert printed.count("us → eu") == 2
    assert "200" in row(printed, 1)
    assert well
    assert not watched(answer(status(1)), silent)[1]


def test_json_is_a_line_for_each_look() -> None:
    """Each the document of `status --json`, with nothing added for the eye."""
    printed, _, _ = watched(answer(status(1)), answer(status(2)), as_json=True)
    lines = [json.loads(line) for line in printed.splitlines()]
    assert lines == [[{"url": URL, "status": status(n), "error": None}] for n in (1, 2)]


def test_on_a_terminal_the_screen_is_live() -> None:
    """It takes the alternate screen, and gives it back."""
    printed, well, _ = watched(answer(status(100)), answer(status(400, 2.0)), terminal=True)
    assert well
    assert printed.count("\x1b[?1049h") == printed.count("\x1b[?1049l") == 1
    assert "150.0" in printed


def test_ctrl_c_is_its_end_and_no_failure() -> None:
    """A person has seen enough."""

    def interrupted() -> bool:
        raise KeyboardInterrupt

    def troubled() -> bool:
        return False

    assert interrupted_quietly(interrupted)
    assert not interrupted_quietly(troubled)
