"""Every alarm can fire: the shipping code tells CloudWatch the metric that it watches, in its mode,
with exactly its dimensions. What is read here are the lines, as CloudWatch reads them."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.alarms import NAMESPACE, WAITS, Alarm, alarms_of
from infra.definition import MODES
from replicator.compose import pipeline_stats
from replicator.configuration import load
from replicator.lambda_metrics import FunctionMetrics
from replicator.process_metrics import ProcessMetrics
from replicator.records import Gap, HeartbeatPlace
from replicator.run import _snapshot
from replicator.settings import HeartbeatSettings, Settings
from replicator.telemetry import PipelineState, PipelineStats
from support.clock import START_US, VirtualClock
from support.infra_reading import from_template, template

EXAMPLE = Path(__file__).parents[2] / "infra" / "example"
SETTINGS = load(EXAMPLE / "replicator.toml", {})
REGIONS = ("us-east-1", "eu-west-1")
HOUR_US = 3_600_000_000
LONG_AGO_US = START_US - 21 * HOUR_US
COMBINE: Mapping[str, Callable[[list[float]], float]] = {"Maximum": max, "Sum": sum}

Values = Mapping[tuple[str, frozenset[tuple[str, str]]], list[float]]
"""By name and dimensions what CloudWatch has been told."""


def pipelines_of(region: str) -> list[PipelineStats]:
    """The pipelines of a service or function, as the shipping code makes them, all in trouble."""
    found = [
        pipeline_stats(SETTINGS, table, region)
        for table, entry in SETTINGS.tables.items()
        if region in entry.sources
    ]
    for stats in found:
        in_trouble(stats)
    return found


def in_trouble(stats: PipelineStats) -> None:
    """Everything that an alarm is about has happened to this pipeline."""
    stats.state, stats.readable, stats.caught_up = PipelineState.RUNNING, True, True
    stats.progress = lambda: (1, 0, dict.fromkeys(stats.targets, (1, LONG_AGO_US)))
    stats.checkpoint_us = LONG_AGO_US
    stats.gap = Gap(
        table=stats.table, source=stats.source, stream_arn="arn", shard="a", since_us=1, reason="x"
    )
    stats.read_throttles = stats.records.read = 100
    stats.records.conflicts, stats.records.clamped, stats.records.quarantined = 1_000, 1, 1
    for link in stats.links.values():
        link.quarantined = 1
        link.note_complete(LONG_AGO_US)
        link.note_heartbeat(LONG_AGO_US, START_US)
        link.latency.note(30.0, START_US)


def told_by_function(pipelines: list[PipelineStats]) -> list[str]:
    """What a function prints after a batch."""
    return FunctionMetrics(clock=VirtualClock()).lines(pipelines, behind_us=LONG_AGO_US)


def told_by_process(pipelines: list[PipelineStats], *, minutes: int = 1) -> list[list[str]]:
    """What `replicator run` prints, a list for each minute."""
    clock, sets = VirtualClock(), []

    async def write(data: bytes) -> None:
        sets.append(data.decode().splitlines())

    async def run() -> None:
        stop = asyncio.Event()
        printing = ProcessMetrics(
            document=_snapshot(pipelines, {}, clock),
            pipelines=pipelines,
            interval_s=SETTINGS.telemetry.emf_interval_s,
            write=write,
            sleep=clock.sleep,
        )
        running = asyncio.create_task(printing.run(stop))
        await clock.sleep(60 * minutes + 1)
        running.cancel()

    clock.run(run())
    return sets


def values_of(lines: Iterable[str]) -> Values:
    """As CloudWatch takes them: by namespace, the set of dimensions and the name."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], list[float]] = defaultdict(list)
    for line in map(json.loads, lines):
        for told in line["_aws"]["CloudWatchMetrics"]:
            assert told["Namespace"] == NAMESPACE
            for names in told["Dimensions"]:
                place = frozenset((name, line[name]) for name in names)
                for metric in told["Metrics"]:
                    value = line[metric["Name"]]
                    found[metric["Name"], place] += value if isinstance(value, list) else [value]
    return found


def fires(alarm: Alarm, values: Values) -> bool:
    """Whether the values are such as the alarm is about."""
    found = values.get((alarm.metric, frozenset(alarm.dimensions.items())), [])
    if alarm.written is not None:  # it fires when this metric is missed
        return sum(found) >= 1
    return bool(found) and COMBINE[alarm.statistic](found) >= alarm.threshold


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("mode", MODES)
def test_every_alarm_can_fire_in_its_mode(mode: str, region: str) -> None:
    """What AWS counts by itself is left to it: that is a function's and a queue's."""
    pipelines = pipelines_of(region)
    lines = told_by_function(pipelines) if mode == "lambda" else told_by_process(pipelines)[0]
    values = values_of(lines)
    alarms = alarms_of(SETTINGS, region, mode)
    assert {alarm.namespace for alarm in alarms} == (
        {NAMESPACE} if mode == "service" else {NAMESPACE, "AWS/Lambda", "AWS/SQS"}
    )
    dead = [a.name for a in alarms if a.namespace == NAMESPACE and not fires(a, values)]
    assert not dead


def test_a_lost_record_alone_is_told_under_lambda() -> None:
    """A message of the queue makes the gap's alarm fire, without a batch."""
    (stats, *_) = pipelines_of("us-east-1")
    assert stats.gap is not None
    values = values_of(FunctionMetrics(clock=VirtualClock()).of_gap(stats, stats.gap))
    alarms = alarms_of(SETTINGS, "us-east-1", "lambda")
    (gap,) = (a for a in alarms if a.kind == "gap" and a.dimensions["table"] == stats.table)
    assert fires(gap, values)


def test_what_is_summed_is_told_by_its_rise() -> None:
    """A process counts from its start; told again and again, one conflict would be a storm."""
    first, second = told_by_process(pipelines_of("us-east-1"), minutes=2)
    summed = [a for a in alarms_of(SETTINGS, "us-east-1", "service") if a.statistic == "Sum"]
    assert summed
    for alarm in summed:
        assert fires(alarm, values_of(first)), alarm.name
        assert not fires(alarm, values_of(second)), alarm.name


@pytest.mark.parametrize("region", REGIONS)
def test_the_service_is_deployed_with_its_metrics_on(region: str) -> None:
    """By the environment of its task, read as `run` reads it; each minute, as the alarms look."""
    said = from_template(template(EXAMPLE / "service" / region / "template.json"))
    (task,) = said["tasks"]
    telemetry = load(EXAMPLE / "replicator.toml", task["environment"]).telemetry
    assert telemetry.emf
    periods: set[Any] = {a.period_s for a in alarms_of(SETTINGS, region, "service")}
    assert telemetry.emf_interval_s <= min(periods)


def test_without_heartbeats_no_alarm_waits_for_them() -> None:
    """It would be in alarm for ever: no data means silence to it."""
    off = HeartbeatSettings(place=HeartbeatPlace.OFF)
    settings: Settings = SETTINGS.model_copy(update={"heartbeat": off})
    there = {alarm.kind for alarm in alarms_of(SETTINGS, "us-east-1", "service")}
    left = {alarm.kind for alarm in alarms_of(settings, "us-east-1", "service")}
    assert there - left == {"heartbeat"}
    of_lambda = [alarm.kind for alarm in alarms_of(settings, "us-east-1", "lambda")]
    assert "heartbeat" in of_lambda  # that one counts records


def test_the_comparison_would_notice() -> None:
    """A dimension too many, another name: no such metric."""
    values = values_of(told_by_process(pipelines_of("us-east-1"))[0])
    (alarm, *_) = (a for a in alarms_of(SETTINGS, "us-east-1", "service") if a.kind == "gap")
    assert fires(alarm, values)
    assert not fires(replace(alarm, metric="replicator.gaps"), values)
    assert not fires(replace(alarm, dimensions={**alarm.dimensions, "target": "x"}), values)


def test_a_source_that_cannot_be_read_is_told_before_its_stream_forgets() -> None:
    """Its backlog has no age then, so that those alarms are still; what has arrived goes on ageing,
    and at 20 hours somebody is told so."""
    pipelines = pipelines_of("us-east-1")
    for stats in pipelines:
        stats.state, stats.readable, stats.caught_up = PipelineState.RETRYING, False, False
    values = values_of(told_by_process(pipelines)[0])
    fired = {a.kind for a in alarms_of(SETTINGS, "us-east-1", "service") if fires(a, values)}
    assert not fired & {"lag", "backlog-4h", "backlog-12h", "backlog-20h"}
    assert {"exposure", "exposure-4h", "exposure-12h", "exposure-20h"} <= fired


def test_a_function_that_raises_is_told_before_its_stream_forgets() -> None:
    """It tells nothing itself; AWS does, in milliseconds, at each batch that is handed over."""
    alarms = [a for a in alarms_of(SETTINGS, "us-east-1", "lambda") if a.metric == "IteratorAge"]
    assert {a.threshold / 3_600_000 for a in alarms} == {1, 4, 12, 20}
    assert all(a.namespace == "AWS/Lambda" for a in alarms)
    (last,) = (a for a in alarms if a.threshold == 20 * 3_600_000)
    assert last.periods == 1


def test_what_the_queue_holds_is_counted_and_not_its_age() -> None:
    """A message that was received three times has no age any more: by then it is not stored."""
    (alarm,) = (a for a in alarms_of(SETTINGS, "us-east-1", "lambda") if a.kind == "destination")
    assert alarm.expression == WAITS
    assert alarm.period_s * alarm.periods == 900
    assert alarm.threshold == 1
    watched = {name: series.metric for name, series in alarm.inputs.items()}
    assert watched == {
        "visible": "ApproximateNumberOfMessagesVisible",
        "hidden": "ApproximateNumberOfMessagesNotVisible",
    }
    assert all(series.dimensions == alarm.dimensions for series in alarm.inputs.values())
    assert all(name in WAITS for name in watched)


def test_a_minute_that_is_told_late_does_not_hold_the_queues_alarm_back() -> None:
    """All of its minutes have to count, and FILL would make the newest one a 0, always: metrics of
    SQS come late. A bare sum is of the minutes that there are."""
    (alarm,) = (a for a in alarms_of(SETTINGS, "us-east-1", "lambda") if a.kind == "destination")
    assert alarm.expression is not None
    assert "FILL" not in alarm.expression
    assert set(alarm.expression.split(" + ")) == set(alarm.inputs)


@pytest.mark.parametrize("kind", ["gap", "quarantine", "quarantine-home"])
def test_silence_ends_no_alarm_of_what_stays(kind: str) -> None:
    """A function without batches tells nothing, and what is parked or lost is so all the same."""
    found = [a for a in alarms_of(SETTINGS, "us-east-1", "lambda") if a.kind == kind]
    assert found
    assert {a.missing for a in found} == {"ignore"}
