"""Dashboards: made from the list of metrics, complete, and as they stand in infra/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from replicator.boards import COLUMNS, PANELS, cloudwatch, files, grafana
from replicator.emf import emf
from replicator.metrics import METRICS, Kind
from replicator.telemetry import PipelineStats, exposure_by_region, overall

INFRA = Path(__file__).parents[2] / "infra"
NAME = re.compile(r"replicator_[a-z_]+")


@pytest.mark.parametrize("name", files())
def test_what_stands_in_infra_is_fresh(name: str) -> None:
    """Made anew by `make dashboards`."""
    assert (INFRA / name).read_text(encoding="utf-8") == files()[name], "run `make dashboards`"


def test_every_metric_is_looked_at_in_one_panel() -> None:
    """A metric that nobody sees is no use, and a panel shows what there is."""
    shown = [name for panel in PANELS for name in panel.metrics]
    assert sorted(shown) == sorted(metric.name for metric in METRICS)


def test_a_panel_has_one_unit() -> None:
    """Seconds and counts do not share an axis."""
    by_name = {metric.name: metric for metric in METRICS}
    for panel in PANELS:
        assert len({by_name[name].unit == "s" for name in panel.metrics}) == 1, panel.title


def test_grafana_asks_for_names_that_prometheus_is_told() -> None:
    """In expressions that are whole, with labels that the metric has."""
    told = {metric.prometheus for metric in METRICS if metric.kind is not Kind.HISTOGRAM}
    told |= {f"{m.prometheus}_bucket" for m in METRICS if m.kind is Kind.HISTOGRAM}
    by_name = {metric.prometheus: metric for metric in METRICS}
    asked = set()
    for panel in grafana()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            (name,) = NAME.findall(expression)
            asked.add(name)
            for pair in ("()", "{}", "[]"):
                assert expression.count(pair[0]) == expression.count(pair[1])
            labels = set(re.findall(r'(\w+)=~"\$\1"', expression))
            assert labels <= set(by_name[name.removesuffix("_bucket")].dimensions)
    assert asked == told


def test_grafanas_panels_have_places_of_their_own() -> None:
    """None covers another, none is wider than the grid."""
    assert_tiled([panel["gridPos"] for panel in grafana()["panels"]], "w", "h")


def test_cloudwatch_searches_for_what_the_embedded_format_tells() -> None:
    """The same names under the same dimensions; a state that is well is not searched for."""
    found = {
        match.groups()
        for widget in cloudwatch()["widgets"]
        for (metric,) in widget["properties"]["metrics"]
        if (match := re.fullmatch(
            r"SEARCH\('\{Replicator,?([a-z,]*)\} MetricName=\"([a-z0-9._]+)\"', '\w+', 60\)",
            metric["expression"],
        ))
    }  # fmt: skip
    told = told_to_cloudwatch()
    assert found <= told
    left = {name for _, name in told - found}
    assert all(name.endswith((".ok", ".running")) for name in left)


def told_to_cloudwatch() -> set[tuple[str, str]]:
    """Dimensions and names of everything that a line may hold."""
    stats = PipelineStats(table="orders", source="us", mode="multi-writer", targets=("eu",))
    stats.readable = stats.caught_up = True
    stats.checkpoint_us = stats.heartbeat_us = 1
    stats.links["eu"].note_complete(1)
    stats.links["eu"].note_heartbeat(1, 2)
    documents = [stats.snapshot(7)]
    document: dict[str, Any] = {"now_us": 7, "state": overall(documents), "pipelines": documents}
    document["exposure"] = exposure_by_region(documents)
    document["ledger"] = {"us": {"unwritten": 0}}
    lines = emf(document, latencies_ms={("orders", "us", "eu"): [1.0]})
    told = [json.loads(line)["_aws"]["CloudWatchMetrics"][0] for line in lines]
    return {(",".join(one["Dimensions"][0]), m["Name"]) for one in told for m in one["Metrics"]}


def test_cloudwatchs_widgets_have_places_of_their_own() -> None:
    """None covers another, none is wider than the grid."""
    assert_tiled(cloudwatch()["widgets"], "width", "height")


def assert_tiled(places: list[dict[str, int]], width: str, height: str) -> None:
    """Assert that no two places have a square in common."""
    taken: set[tuple[int, int]] = set()
    for place in places:
        squares = {
            (x, y)
            for x in range(place["x"], place["x"] + place[width])
            for y in range(place["y"], place["y"] + place[height])
        }
        assert not squares & taken
        assert max(x for x, _ in squares) < COLUMNS
        taken |= squares
