"""Metrics in the text form that Prometheus scrapes.

Source: Prometheus, "Exposition formats", text-based format 0.0.4.

This module must not know where the values come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData, NumberDataPoint

from replicator.metrics import BY_NAME, METRICS, Metric


def exposition(data: MetricsData) -> str:
    """All values, in the order of the list of metrics."""
    points: dict[str, list[Any]] = {metric.name: [] for metric in METRICS}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points[metric.name] += metric.data.data_points
    lines = [line for name in points for line in _lines(BY_NAME[name], points[name])]
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, points: list[Any]) -> Iterator[str]:
    name = metric.prometheus
    help_text = metric.text.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {metric.kind.value}"
    for point in points:
        if isinstance(point, HistogramDataPoint):
            yield from _histogram(name, point)
        elif isinstance(point, NumberDataPoint):
            yield f"{name}{_labels(point.attributes or {})} {_number(point.value)}"


def _histogram(name: str, point: HistogramDataPoint) -> Iterator[str]:
    bounds = [*map(_number, point.explicit_bounds), "+Inf"]
    labels = point.attributes or {}
    for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
        yield f"{name}_bucket{_labels({**labels, 'le': bound})} {count}"
    yield f"{name}_sum{_labels(labels)} {_number(point.sum)}"
    yield f"{name}_count{_labels(labels)} {point.count}"


def _labels(attributes: Mapping[str, Any]) -> str:
    if not attributes:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(str(v))}"' for key, v in attributes.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
