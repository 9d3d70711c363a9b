"""Every metric: its name, unit and meaning, and where in the status document its value stands.

This is the one list. What `/metrics`, OTLP and CloudWatch are given, the dashboards in infra/ and
the table in the README are all made from it.

A value that is not known is left out, never told as 0; `replicator.link.state` says that it is
unknown. A state is told as one series for each that there can be, 1 for the one that holds.

Pure: a document in, samples out. This module must not know who exports them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from replicator.telemetry import LinkState, PipelineState

Attributes: TypeAlias = dict[str, str]
Path: TypeAlias = tuple[str, ...]


class Kind(StrEnum):
    """How values of a metric follow each other."""

    COUNTER = "counter"
    """Only rises, as long as the process lives."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """What a value is of; the dimensions that name it."""

    PROCESS = "process"
    REGION = "region"
    PIPELINE = "pipeline"
    LINK = "link"


DIMENSIONS: Mapping[Scope, tuple[str, ...]] = {
    Scope.PROCESS: (),
    Scope.REGION: ("source",),
    Scope.PIPELINE: ("table", "source"),
    Scope.LINK: ("table", "source", "target"),
}

SECONDS, RECORDS, CALLS, TASKS, SHARDS, ONE = "s", "{record}", "{call}", "{task}", "{shard}", "1"

LATENCY = "replicator.replication.latency"
PROCESS_STATES = ("ok", "degraded", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `path`: where its value stands in the part of the document that its scope names.

    `by` names a further dimension and gives a path for each of its values; with `states` the value
    at `path` is one of these. `scale` makes the unit out of the document's.
    """

    name: str
    kind: Kind
    unit: str
    scope: Scope
    text: str
    path: Path = ()
    by: tuple[str, Mapping[str, Path]] | None = None
    states: tuple[str, ...] = ()
    scale: float = 1.0

    @property
    def prometheus(self) -> str:
        """The name by Prometheus' rules. Source: OpenTelemetry, Prometheus compatibility."""
        name = self.name.replace(".", "_")
        if self.unit == SECONDS:
            name += "_seconds"
        return f"{name}_total" if self.kind is Kind.COUNTER else name

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What tells its values apart."""
        further = (self.by[0],) if self.by else ("state",) if self.states else ()
        return (*DIMENSIONS[self.scope], *further)


def _link(name: str, kind: Kind, unit: str, text: str, *path: str, **more: Any) -> Metric:
    return Metric(name=name, kind=kind, unit=unit, scope=Scope.LINK, text=text, path=path, **more)


def _pipeline(name: str, kind: Kind, unit: str, text: str, *path: str, **more: Any) -> Metric:
    return Metric(
        name=name, kind=kind, unit=unit, scope=Scope.PIPELINE, text=text, path=path, **more
    )


def _region(name: str, kind: Kind, unit: str, text: str, *path: str) -> Metric:
    return Metric(name=name, kind=kind, unit=unit, scope=Scope.REGION, text=text, path=path)


METRICS: tuple[Metric, ...] = (
    _link(LATENCY, Kind.HISTOGRAM, SECONDS, "from a write to its durable apply in the target"),
    _link(
        "replicator.backlog.age", Kind.GAUGE, SECONDS,
        "age of the oldest change not yet in the target; 0 when caught up", "backlog_age_s",
    ),
    _link(
        "replicator.backlog.records", Kind.GAUGE, RECORDS,
        "changes read and not yet in the target", "pending",
    ),
    _link(
        "replicator.deliveries", Kind.COUNTER, RECORDS, "changes brought to the target",
        by=("outcome", {name: (name,) for name in ("applied", "stale", "duplicate")}),
    ),
    _link(
        "replicator.writer.errors", Kind.COUNTER, CALLS,
        "calls to the target that failed and were made again", "retries",
    ),
    _link(
        "replicator.writer.throttles", Kind.COUNTER, CALLS,
        "calls to the target that were throttled", "throttles",
    ),
    _link(
        "replicator.link.stuck", Kind.GAUGE, TASKS,
        "changes that failed in the target and wait to be begun again", "stuck",
    ),
    _link(
        "replicator.link.quarantined", Kind.GAUGE, RECORDS,
        "changes that the target refused for good and that are kept aside", "quarantined",
    ),
    _link(
        "replicator.link.heartbeat.age", Kind.GAUGE, SECONDS,
        "since the newest heartbeat that arrived in the target was written", "heartbeat_age_s",
    ),
    _link(
        "replicator.link.heartbeat.latency", Kind.GAUGE, SECONDS,
        "what the newest heartbeat took to the target", "heartbeat_latency_ms", scale=0.001,
    ),
    _link(
        "replicator.link.state", Kind.GAUGE, ONE, "how the link fares", "state",
        states=tuple(LinkState),
    ),
    _pipeline("replicator.records.read", Kind.COUNTER, RECORDS, "records read", "records", "read"),
    _pipeline(
        "replicator.records", Kind.COUNTER, RECORDS, "records read, by what they were",
        by=(
            "outcome",
            {name: ("records", name) for name in ("local", "echo", "ignored", "clamped")},
        ),
    ),
    _pipeline(
        "replicator.conflicts", Kind.COUNTER, RECORDS, "concurrent writes that were decided",
        "records", "conflicts",
    ),
    _pipeline(
        "replicator.source.quarantined", Kind.GAUGE, RECORDS,
        "changes that could not be settled at home and are kept aside", "records", "quarantined",
    ),
    _pipeline(
        "replicator.unsettled", Kind.GAUGE, RECORDS,
        "records read and not yet durable in every target", "unsettled",
    ),
    _pipeline("replicator.in_flight", Kind.GAUGE, TASKS, "changes being worked on", "in_flight"),
    _pipeline(
        "replicator.reader.errors", Kind.COUNTER, CALLS,
        "calls to the stream that failed and were made again", "read_errors",
    ),
    _pipeline(
        "replicator.home.errors", Kind.COUNTER, CALLS,
        "calls to the source's own table that failed and were made again", "home_retries",
    ),
    _pipeline(
        "replicator.throttles", Kind.COUNTER, CALLS,
        "calls that were throttled: stream, source and targets together", "throttles",
    ),
    _pipeline(
        "replicator.checkpoint.age", Kind.GAUGE, SECONDS,
        "how long ago the oldest page was read that a restart would read again", "checkpoint_age_s",
    ),
    _pipeline(
        "replicator.gap", Kind.GAUGE, ONE, "1 while records are known to be lost to retention",
        "gap",
    ),
    _pipeline(
        "replicator.heartbeat.age", Kind.GAUGE, SECONDS,
        "since the newest heartbeat that came out of the source was written", "heartbeat_age_s",
    ),
    _pipeline("replicator.shards.open", Kind.GAUGE, SHARDS, "shards being read", "shards", "open"),
    _pipeline(
        "replicator.pipeline.state", Kind.GAUGE, ONE, "where the pipeline stands", "state",
        states=tuple(PipelineState),
    ),
    _region(
        "replicator.exposure.time", Kind.GAUGE, SECONDS,
        "what would be lost if the source region vanished now, as time", "exposure", "seconds",
    ),
    _region(
        "replicator.exposure.records", Kind.GAUGE, RECORDS,
        "what would be lost if the source region vanished now, as far as it was read",
        "exposure", "records",
    ),
    _region(
        "replicator.ledger.unwritten", Kind.COUNTER, RECORDS,
        "conflicts that could not be kept in the ledger", "ledger", "unwritten",
    ),
    Metric(
        name="replicator.process.state", kind=Kind.GAUGE, unit=ONE, scope=Scope.PROCESS,
        text="the worst of the pipelines' states", path=("state",), states=PROCESS_STATES,
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def samples(metric: Metric, document: Mapping[str, Any]) -> Iterator[tuple[Attributes, float]]:
    """The values of a metric in a status document, each with its dimensions."""
    for attributes, part in _parts(metric.scope, document):
        if metric.by is not None:
            label, paths = metric.by
            for outcome, path in paths.items():
                yield {**attributes, label: outcome}, float(_at(part, path) or 0)
            continue
        value = _at(part, metric.path)
        if metric.states:
            for state in metric.states:
                yield {**attributes, "state": state}, float(value == state)
        elif metric.path == ("gap",):
            yield attributes, float(value is not None)
        elif value is not None:
            yield attributes, value * metric.scale


def _parts(
    scope: Scope, document: Mapping[str, Any]
) -> Iterator[tuple[Attributes, Mapping[str, Any]]]:
    if scope is Scope.PROCESS:
        yield {}, document
    elif scope is Scope.REGION:
        for region, exposure in document.get("exposure", {}).items():
            ledger = document.get("ledger", {}).get(region, {})
            yield {"source": region}, {"exposure": exposure, "ledger": ledger}
    for pipeline in document["pipelines"] if scope in (Scope.PIPELINE, Scope.LINK) else ():
        place = {"table": pipeline["table"], "source": pipeline["source"]}
        if scope is Scope.PIPELINE:
            yield place, pipeline
            continue
        for link in pipeline["links"]:
            yield {**place, "target": link["target"]}, link


def _at(part: Mapping[str, Any], path: Path) -> Any:
    value: Any = part
    for step in path:
        value = value.get(step) if value is not None else None
    return value
