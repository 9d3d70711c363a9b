"""The embedded metric format: lines that CloudWatch reads, within its bounds."""

from __future__ import annotations

import json
from typing import Any

from replicator.emf import METRICS_MAX, VALUES_MAX, drained, emf
from replicator.metrics import LATENCY
from support.figures import NOW_US, document_of, pipeline


def lines_of(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    """The lines, read as CloudWatch reads them: every metric that is declared has its value."""
    lines = [json.loads(line) for line in emf(*args, **kwargs)]
    for line in lines:
        (declared,) = line["_aws"]["CloudWatchMetrics"]
        names = [metric["Name"] for metric in declared["Metrics"]]
        dimensions = declared["Dimensions"][0]
        assert {"_aws", *names, *dimensions} == line.keys()
        assert len(names) <= METRICS_MAX
        assert line["_aws"]["Timestamp"] == NOW_US // 1000
        assert all(isinstance(line[name], str) for name in dimensions)
    return lines


def test_cloudwatch_is_told_each_place_by_a_line_of_its_own() -> None:
    """With its dimensions; an outcome or a state is part of the name."""
    lines = lines_of(document_of(pipeline()))
    link = next(line for line in lines if line.get("target") == "eu")
    assert (link["table"], link["source"]) == ("orders", "us")
    assert link["replicator.backlog.age"] == 1.5
    assert link["replicator.deliveries.stale"] == 31.0
    assert link["replicator.link.state.retrying"] == 1.0
    region = next(line for line in lines if "replicator.exposure.time" in line)
    assert region["source"] == "us"


def test_a_counter_is_told_as_its_rise() -> None:
    """CloudWatch adds up; after a restart the count begins anew."""
    stats = pipeline()
    before = document_of(stats)
    stats.links["eu"].applied += 5
    stats.links["ap"].applied = 2
    lines = lines_of(document_of(stats), since=before)
    rises = {
        line["target"]: line["replicator.deliveries.applied"] for line in lines if "target" in line
    }
    assert rises == {"eu": 5.0, "ap": 2.0}
    assert next(line for line in lines if "target" in line)["replicator.backlog.records"] in (13, 0)


def test_latencies_are_told_as_values_spread_over_all() -> None:
    """The least and the greatest among them, and no more than a line may hold."""
    stats = pipeline()
    stats.links["eu"].latency.untold_ms.extend(float(n) for n in range(4_000))
    latencies = drained([stats])
    assert not stats.links["eu"].latency.untold_ms
    lines = lines_of(document_of(stats), latencies_ms=latencies)
    values = next(line[LATENCY] for line in lines if line.get("target") == "eu")
    assert (len(values), min(values), max(values)) == (VALUES_MAX, 0.0, 3.999)
    assert not any(LATENCY in line for line in lines if line.get("target") == "ap")
