"""The dashboard of a region: what each of its alarms watches, with the threshold drawn in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.alarms import Alarm


def dashboard_of(region: str, aws_region: str, alarms: Sequence[Alarm]) -> dict[str, Any]:
    """One graph for each thing that an alarm watches."""
    graphs: dict[str, list[Alarm]] = {}
    for alarm in alarms:
        graphs.setdefault(alarm.metric, []).append(alarm)
    widgets = [
        {"type": "metric", "width": 12, "height": 6, "properties": _graph(aws_region, found)}
        for found in graphs.values()
    ]
    return {"name": f"replicator-{region}", "body": {"widgets": widgets}}


def _graph(aws_region: str, found: Sequence[Alarm]) -> Mapping[str, Any]:
    thresholds = sorted({(alarm.kind, alarm.threshold) for alarm in found})
    return {
        "region": aws_region,
        "title": found[0].metric,
        "stat": found[0].statistic,
        "period": found[0].period_s,
        "metrics": _series(found),
        "annotations": {
            "horizontal": [{"label": label, "value": value} for label, value in thresholds]
        },
    }


def _series(alarms: Sequence[Alarm]) -> list[list[str]]:
    found: dict[tuple[str, ...], None] = {}
    for alarm in alarms:
        pairs = [text for pair in alarm.dimensions.items() for text in pair]
        found[(alarm.namespace, alarm.metric, *pairs)] = None
    return [list(series) for series in found]
