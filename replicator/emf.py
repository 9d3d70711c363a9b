"""Metrics in CloudWatch's embedded metric format: a line of JSON that CloudWatch Logs reads.

For where nobody scrapes or collects: under Lambda, and on ECS with the log driver `awslogs`,
whatever is printed goes to CloudWatch Logs. A counter is told as its rise since the last document,
since CloudWatch adds up what it is given.

Source: CloudWatch User Guide, "Specification: Embedded metric format": at most 100 metrics in a
document and 100 values of one.

This module must not know who prints the lines, nor when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from replicator.metrics import (
    BY_NAME,
    DIMENSIONS,
    METRICS,
    ONE,
    SECONDS,
    Kind,
    Metric,
    Scope,
    samples,
)
from replicator.telemetry import PipelineStats

NAMESPACE = "Replicator"
METRICS_MAX = VALUES_MAX = 100

Place: TypeAlias = tuple[tuple[str, str], ...]
"""The dimensions of a value and what they are."""

_NOTHING: Mapping[str, Any] = {"pipelines": []}


def emf(
    document: Mapping[str, Any],
    *,
    since: Mapping[str, Any] | None = None,
    latencies_ms: Mapping[tuple[str, str, str], Sequence[float]] | None = None,
    namespace: str = NAMESPACE,
    wanted: Callable[[Metric], bool] = lambda _: True,
) -> list[str]:
    """The lines that tell a status document to CloudWatch.

    `since`: the document that was told before, of the same process; `latencies_ms`: what deliveries
    took since then, by table, source and target (see `drained`); `wanted`: which metrics to tell.
    """
    time_ms = int(document["now_us"]) // 1000
    lines = []
    for scope in Scope:
        told = [metric for metric in METRICS if metric.scope is scope and wanted(metric)]
        for place, values in _by_place(told, document, since or _NOTHING, latencies_ms or {}):
            names = list(values)
            for start in range(0, len(names), METRICS_MAX):
                part = {name: values[name] for name in names[start : start + METRICS_MAX]}
                lines.append(_line(place, part, time_ms, namespace))
    return lines


def drained(pipelines: Sequence[PipelineStats]) -> dict[tuple[str, str, str], list[float]]:
    """The newest latencies that were not told yet, taken out."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    for stats in pipelines:
        for target, link in stats.links.items():
            taken[stats.table, stats.source, target] = list(link.latency.untold_ms)
            link.latency.untold_ms.clear()
    return taken


def _by_place(
    metrics: Sequence[Metric],
    document: Mapping[str, Any],
    since: Mapping[str, Any],
    latencies_ms: Mapping[tuple[str, str, str], Sequence[float]],
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """For each place of a scope the values to tell, by name."""
    found: list[tuple[Place, str, Any]] = []
    for metric in metrics:
        if metric.kind is Kind.HISTOGRAM:
            found += _latencies(metric, latencies_ms)
        else:
            found += _told(metric, document, since)
    found.sort(key=lambda each: each[0])
    for place, group in groupby(found, key=lambda each: each[0]):
        yield place, {name: value for _, name, value in group}


def _latencies(
    metric: Metric, latencies_ms: Mapping[tuple[str, str, str], Sequence[float]]
) -> Iterator[tuple[Place, str, list[float]]]:
    for names, taken_ms in latencies_ms.items():
        if taken_ms:
            place = tuple(zip(DIMENSIONS[metric.scope], names, strict=True))
            yield place, metric.name, _spread(taken_ms)


def _told(
    metric: Metric, document: Mapping[str, Any], since: Mapping[str, Any]
) -> Iterator[tuple[Place, str, float]]:
    before = {_key(metric, at): value for at, value in samples(metric, since)}
    for attributes, value in samples(metric, document):
        key = _key(metric, attributes)
        earlier = before.get(key, 0.0) if metric.kind is Kind.COUNTER else 0.0
        yield *key, value - earlier if value >= earlier else value


def _key(metric: Metric, attributes: Mapping[str, str]) -> tuple[Place, str]:
    """Where a value belongs, and the name it goes by: an outcome or state is part of the name."""
    place = tuple((name, attributes[name]) for name in DIMENSIONS[metric.scope])
    further = [value for name, value in attributes.items() if name not in dict(place)]
    return place, ".".join([metric.name, *further])


def _spread(latencies_ms: Sequence[float]) -> list[float]:
    """At most VALUES_MAX values in seconds, evenly spread over all of them in order of size."""
    ordered = sorted(latencies_ms)
    count = min(VALUES_MAX, len(ordered))
    if count == 1:
        return [ordered[0] / 1000]
    last = len(ordered) - 1
    return [ordered[round(n * last / (count - 1))] / 1000 for n in range(count)]


def _line(place: Place, values: Mapping[str, Any], time_ms: int, namespace: str) -> str:
    told = {
        "Namespace": namespace,
        "Dimensions": [[name for name, _ in place]],
        "Metrics": [{"Name": name, "Unit": _unit(name)} for name in values],
    }
    head = {"_aws": {"Timestamp": time_ms, "CloudWatchMetrics": [told]}}
    return json.dumps({**head, **dict(place), **values}, separators=(",", ":"))


def _unit(name: str) -> str:
    metric = BY_NAME.get(name) or BY_NAME[name.rpartition(".")[0]]
    return {SECONDS: "Seconds", ONE: "None"}.get(metric.unit, "Count")
