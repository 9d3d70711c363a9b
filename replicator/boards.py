"""Dashboards for Grafana and CloudWatch, made from the list of metrics.

    python -m replicator.boards infra       writes infra/grafana.json and infra/cloudwatch.json

The panels are one list for both: what is looked at first stands on top, and every metric stands in
some panel (a test says so). Grafana reads what `/metrics` gives to Prometheus; CloudWatch what the
embedded metric format gives, found by name, whatever tables and regions there are.

In infra/cloudwatch.json `${AWS::Region}` stands for the region, as CloudFormation's Fn::Sub has it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator.emf import NAMESPACE
from replicator.metrics import BY_NAME, DIMENSIONS, LATENCY, SECONDS, Kind, Metric

COLUMNS = 24
HEIGHT = 8
PERIOD_S = 60
QUANTILES = (0.5, 0.99)
FINE = ("ok", "running")
"""States that nobody has to look at."""

GRAFANA_FILE, CLOUDWATCH_FILE = "grafana.json", "cloudwatch.json"
GRAFANA_SCHEMA = 39
"""Source: Grafana, dashboard JSON model, schemaVersion of Grafana 10 and 11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Some metrics that are looked at together."""

    title: str
    metrics: tuple[str, ...]
    width: int = 8

    @property
    def text(self) -> str:
        """What the metrics mean."""
        return "\n".join(f"{name}: {BY_NAME[name].text}" for name in self.metrics)

    @property
    def is_time(self) -> bool:
        """Whether the values are seconds."""
        return BY_NAME[self.metrics[0]].unit == SECONDS

    @property
    def is_state(self) -> bool:
        """Whether the values are states."""
        return bool(BY_NAME[self.metrics[0]].states)


def _panel(title: str, *names: str, width: int = 8) -> Panel:
    return Panel(title=title, metrics=tuple(f"replicator.{name}" for name in names), width=width)


PANELS: tuple[Panel, ...] = (
    _panel("State of each link", "link.state"),
    _panel("What would be lost: time", "exposure.time"),
    _panel("What would be lost: changes", "exposure.records"),
    _panel("Replication latency, p50 and p99", LATENCY.removeprefix("replicator."), width=12),
    _panel("Backlog age", "backlog.age", width=12),
    _panel("Changes behind", "backlog.records"),
    _panel("Heartbeat age", "link.heartbeat.age", "heartbeat.age"),
    _panel("Heartbeat latency", "link.heartbeat.latency"),
    _panel("Changes brought to targets", "deliveries"),
    _panel("Records read", "records.read", "records"),
    _panel("Conflicts decided", "conflicts", "ledger.unwritten"),
    _panel("Kept aside", "link.quarantined", "source.quarantined"),
    _panel("Gaps", "gap"),
    _panel("Processes and pipelines", "process.state", "pipeline.state"),
    _panel("Failed calls", "writer.errors", "reader.errors", "home.errors"),
    _panel("Throttled calls", "throttles", "writer.throttles"),
    _panel("Stuck changes", "link.stuck"),
    _panel("Work under way", "unsettled", "in_flight"),
    _panel("Checkpoint age", "checkpoint.age"),
    _panel("Shards being read", "shards.open"),
)


def _placed() -> Iterator[tuple[Panel, int, int]]:
    """Each panel with its place on the grid, from left to right and from the top."""
    x = y = 0
    for panel in PANELS:
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        yield panel, x, y
        x += panel.width


# --- Grafana ------------------------------------------------------------------------------------


def grafana() -> dict[str, Any]:
    """The dashboard as Grafana imports it. Source: Grafana, dashboard JSON model."""
    return {
        "title": "Replicator",
        "uid": "replicator",
        "tags": ["replicator", "dynamodb"],
        "schemaVersion": GRAFANA_SCHEMA,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": list(_variables())},
        "panels": [
            _grafana_panel(number, panel, x, y)
            for number, (panel, x, y) in enumerate(_placed(), start=1)
        ],
    }


_SOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "${datasource}"}


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
    }  # fmt: skip
    for name in ("table", "source", "target"):
        query = f"label_values({BY_NAME['replicator.link.state'].prometheus}, {name})"
        yield {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": query,
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _grafana_panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    queries = [query for name in panel.metrics for query in _queries(BY_NAME[name])]
    kind = "stat" if panel.is_state else "timeseries"
    made: dict[str, Any] = {
        "id": number,
        "type": kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": "s" if panel.is_time else "short", "min": 0},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": panel.is_state,
            }
            for n, (expression, legend) in enumerate(queries)
        ],
    }
    if panel.is_state:
        made["options"] = {"textMode": "name", "colorMode": "none"}
    return made


def _queries(metric: Metric) -> Iterator[tuple[str, str]]:
    """Each PromQL expression of a metric, and how its lines are called."""
    scope = DIMENSIONS[metric.scope]
    chosen = ",".join(f'{name}=~"${name}"' for name in scope)
    selector = f"{{{chosen}}}" if chosen else ""
    by = ", ".join(metric.dimensions)
    legend = " ".join(f"{{{{{name}}}}}" for name in metric.dimensions)
    name = metric.prometheus
    match metric.kind:
        case Kind.HISTOGRAM:
            for quantile in QUANTILES:
                rate = f"sum by ({by}, le) (rate({name}_bucket{selector}[$__rate_interval]))"
                yield f"histogram_quantile({quantile}, {rate})", f"p{quantile * 100:g} {legend}"
        case Kind.COUNTER:
            short = metric.name.removeprefix("replicator.")
            yield f"sum by ({by}) (rate({name}{selector}[$__rate_interval]))", f"{legend} {short}"
        case Kind.GAUGE if metric.states:
            yield f"max by ({by}) ({name}{selector}) == 1", legend
        case Kind.GAUGE:
            yield f"max by ({by}) ({name}{selector})", legend


# --- CloudWatch ---------------------------------------------------------------------------------


def cloudwatch() -> dict[str, Any]:
    """The dashboard's body. Source: CloudWatch API, dashboard body structure and syntax."""
    return {
        "start": "-PT3H",
        "widgets": [
            {
                "type": "metric",
                "x": x,
                "y": y,
                "width": panel.width,
                "height": HEIGHT,
                "properties": _properties(panel),
            }
            for panel, x, y in _placed()
        ],
    }


def _properties(panel: Panel) -> dict[str, Any]:
    searches = [search for name in panel.metrics for search in _searches(BY_NAME[name])]
    axis: dict[str, Any] = {"min": 0, "showUnits": False}
    if panel.is_time:
        axis["label"] = "seconds"
    return {
        "title": panel.title,
        "region": "${AWS::Region}",
        "view": "timeSeries",
        "period": PERIOD_S,
        "yAxis": {"left": axis},
        "metrics": [
            [{"expression": expression, "id": f"e{n}", "label": label}]
            for n, (expression, label) in enumerate(searches, start=1)
        ],
    }


def _searches(metric: Metric) -> Iterator[tuple[str, str]]:
    """Each search for the series of a metric, and what they are called."""
    statistics = {
        Kind.HISTOGRAM: tuple(f"p{quantile * 100:g}" for quantile in QUANTILES),
        Kind.COUNTER: ("Sum",),
        Kind.GAUGE: ("Maximum",),
    }[metric.kind]
    places = ",".join((NAMESPACE, *DIMENSIONS[metric.scope]))
    for name in _emf_names(metric):
        for statistic in statistics:
            label = name.removeprefix("replicator.")
            if metric.kind is Kind.HISTOGRAM:
                label = f"{statistic} {label}"
            found = f'{{{places}}} MetricName="{name}"'
            yield f"SEARCH('{found}', '{statistic}', {PERIOD_S})", label


def _emf_names(metric: Metric) -> list[str]:
    if metric.by is not None:
        return [f"{metric.name}.{outcome}" for outcome in metric.by[1]]
    if metric.states:
        return [f"{metric.name}.{state}" for state in metric.states if state not in FINE]
    return [metric.name]


def files() -> dict[str, str]:
    """What is to stand in infra/, by the name of the file."""
    return {
        name: json.dumps(board, indent=1, ensure_ascii=False) + "\n"
        for name, board in ((GRAFANA_FILE, grafana()), (CLOUDWATCH_FILE, cloudwatch()))
    }


def write(directory: Path) -> None:
    """Write the files."""
    for name, text in files().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
