"""What a function tells CloudWatch: what it did since the last time, and nothing it cannot know."""

from __future__ import annotations

import json
from typing import Any

from replicator.lambda_metrics import FunctionMetrics, is_told
from replicator.metrics import LATENCY, METRICS, Kind
from support.clock import START_US, VirtualClock
from support.figures import pipeline

BEHIND_US = START_US - 2_500_000


def links(lines: list[str]) -> dict[str, dict[str, Any]]:
    """The lines of links, by target."""
    read = [json.loads(line) for line in lines]
    return {line["target"]: line for line in read if "target" in line}


def test_each_invocation_tells_what_it_added() -> None:
    """Counters by their rise, each latency once; the age is that of its batch."""
    clock, stats = VirtualClock(), pipeline()
    metrics = FunctionMetrics(clock=clock)
    first = links(metrics.lines([stats], behind_us=BEHIND_US))["eu"]
    assert first["replicator.deliveries.applied"] == stats.links["eu"].applied
    assert len(first[LATENCY]) == 3
    assert first["replicator.backlog.age"] == 2.5
    stats.links["eu"].applied += 2
    again = links(metrics.lines([stats], behind_us=BEHIND_US))["eu"]
    assert again["replicator.deliveries.applied"] == 2
    assert LATENCY not in again


def test_tables_are_told_apart() -> None:
    """A batch of one says nothing of what another's counted before."""
    one, other = pipeline("orders"), pipeline("ledger")
    metrics = FunctionMetrics(clock=VirtualClock())
    metrics.lines([one], behind_us=BEHIND_US)
    found = links(metrics.lines([other], behind_us=BEHIND_US))["eu"]
    assert found["table"] == "ledger"
    assert found["replicator.deliveries.applied"] == other.links["eu"].applied


def test_what_only_a_process_knows_is_not_told() -> None:
    """A function that is not called is neither up nor down, and no link's state is known to it."""
    lines = FunctionMetrics(clock=VirtualClock()).lines([pipeline()], behind_us=BEHIND_US)
    names = {name for line in lines for name in json.loads(line)}
    assert not any(".state" in name or "heartbeat" in name for name in names)
    assert "replicator.link.quarantined" in names
    for metric in METRICS:
        assert is_told(metric) or metric.kind is Kind.GAUGE
