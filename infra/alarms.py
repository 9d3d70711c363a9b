"""What somebody is woken for, and the page that says what to do then.

One list. Each alarm names its runbook in its description; a test holds that page against it. The
metrics are those of replicator/metrics.py, as its EMF lines name them, and AWS's own where AWS
alone can see. Thresholds are defaults of ours: a stream holds 24 hours, so a backlog is told at 4,
at 12 and at 20.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.names import logical
from replicator.records import HeartbeatPlace
from replicator.settings import Settings

NAMESPACE = "Replicator"
HOUR_S = 3_600
KEPT = "ignore"
"""No data changes nothing: what was told to be there is there until it is told to be gone. A
function tells only while there are batches."""

RUNBOOKS = "runbooks"


SILENT = "IF(FILL(writes, 0) > 0 AND FILL(read, 0) < 1, 1, 0)"
"""1 while a table is written to and nobody reads its stream. Under Lambda nobody can send a
heartbeat: a function is not called before there are records, one that a clock calls does not know
how far the mapping has read, and a row of its own in the table is what one-way sources never get.
So the writes themselves stand for it: AWS counts them, whoever replicates. Writes that change
nothing make no record; a table that has no others for 15 minutes is told falsely.
Source: CloudWatch, "Using math expressions with CloudWatch metrics"."""

WAITS = "visible + hidden"
"""How many messages a queue holds. A sum takes what one of the two lacks for 0, and is nothing
where both lack it, as in the newest minute, of which SQS tells late. FILL would make that minute a
0, and an alarm for which every minute counts would never leave OK. The age of messages would not
do: one that was received three times without being deleted no longer counts in
ApproximateAgeOfOldestMessage, whether or not there is somewhere to move it to, and that is before
any age worth an alarm. Source: SQS, "Available CloudWatch metrics for Amazon SQS"; CloudWatch,
"Using math expressions with CloudWatch metrics", basic arithmetic and FILL."""


class Scope(StrEnum):
    """What an alarm is about: which dimensions its metric has."""

    REGION = "region"
    PIPELINE = "pipeline"
    LINK = "link"
    FUNCTION = "function"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of alarm. `missing`: what no data means, in CloudWatch's words."""

    kind: str
    metric: str
    scope: Scope
    threshold: float
    runbook: str
    text: str
    statistic: str = "Maximum"
    period_s: int = 60
    periods: int = 5
    missing: str = "notBreaching"
    namespace: str = NAMESPACE
    modes: tuple[str, ...] = ("lambda", "service")
    expression: str | None = None
    """What is watched in place of the metric itself: `SILENT` or `WAITS`."""

    beats: bool = False
    """It is of heartbeats: where the settings want none, it would never leave its alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm of one region."""

    key: str
    name: str
    kind: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    statistic: str
    period_s: int
    periods: int
    threshold: float
    missing: str
    description: str
    runbook: str
    expression: str | None = None
    written: str | None = None
    """The table whose writes are held against the metric, by its name in DynamoDB."""

    @property
    def inputs(self) -> dict[str, Series]:
        """What the expression is worked out from."""
        own = Series(self.namespace, self.metric, self.dimensions)
        if self.written is None:
            hidden = "ApproximateNumberOfMessagesNotVisible"
            return {"visible": own, "hidden": Series(self.namespace, hidden, self.dimensions)}
        table = {"TableName": self.written}
        return {
            "read": own,
            "writes": Series("AWS/DynamoDB", "ConsumedWriteCapacityUnits", table),
        }


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of CloudWatch at one place."""

    namespace: str
    metric: str
    dimensions: Mapping[str, str]


def _backlog(hours: int, runbook: str) -> Rule:
    return Rule(
        kind=f"backlog-{hours}h",
        metric="replicator.backlog.age",
        scope=Scope.LINK,
        threshold=hours * HOUR_S,
        runbook=runbook,
        text=f"the oldest change not in the target is {hours} h old; a stream holds 24",
        periods=1,
    )


def _exposure(hours: int, runbook: str) -> Rule:
    """A source that cannot be read has a backlog that nobody knows, so that it has no age; what is
    known to have arrived goes on ageing."""
    return Rule(
        kind=f"exposure-{hours}h",
        metric="replicator.exposure.time",
        scope=Scope.REGION,
        threshold=hours * HOUR_S,
        runbook=runbook,
        text=f"for {hours} h nothing is known to have arrived; a stream holds 24",
        periods=1,
        modes=("service",),
    )


def _iterator_age(hours: int, runbook: str) -> Rule:
    """AWS tells it whenever a batch is handed over, also to a function that raises and so tells
    nothing. Source: Lambda, "Types of metrics for Lambda functions"."""
    return Rule(
        kind=f"iterator-age-{hours}h",
        metric="IteratorAge",
        scope=Scope.FUNCTION,
        threshold=hours * HOUR_S * 1_000,
        namespace="AWS/Lambda",
        runbook=runbook,
        text=f"what is handed over is {hours} h old; a stream holds 24",
        periods=1,
        modes=("lambda",),
    )


RULES: Sequence[Rule] = (
    Rule(
        kind="lag", metric="replicator.backlog.age", scope=Scope.LINK, threshold=300,
        runbook="lag-high", text="changes wait for more than 5 minutes",
    ),
    _backlog(4, "lag-high"),
    _backlog(12, "lag-high"),
    _backlog(20, "stream-trimmed"),
    _exposure(4, "lag-high"),
    _exposure(12, "lag-high"),
    _exposure(20, "stream-trimmed"),
    _iterator_age(4, "lag-high"),
    _iterator_age(12, "lag-high"),
    _iterator_age(20, "stream-trimmed"),
    Rule(
        kind="heartbeat", metric="replicator.link.heartbeat.age", scope=Scope.LINK, threshold=300,
        runbook="region-failover", missing="breaching", modes=("service",), beats=True,
        text="no heartbeat has arrived for 5 minutes, or nobody tells",
    ),
    Rule(
        kind="heartbeat", metric="replicator.records.read", scope=Scope.PIPELINE, threshold=1,
        statistic="Sum", period_s=300, periods=3, runbook="lag-high", modes=("lambda",),
        expression=SILENT,
        text="the table has been written to for 15 minutes, and no record of it was read",
    ),
    Rule(
        kind="failing", metric="Errors", scope=Scope.FUNCTION, threshold=1, statistic="Sum",
        namespace="AWS/Lambda", runbook="lag-high", modes=("lambda",),
        text="the function fails again and again; the mapping hands the batch over again",
    ),
    Rule(
        # A function knows nothing between two batches, so not what a region would take with it.
        kind="exposure", metric="replicator.exposure.time", scope=Scope.REGION, threshold=900,
        runbook="region-failover", modes=("service",),
        text="more than 15 minutes of writes would be lost",
    ),
    Rule(
        kind="gap", metric="replicator.gap", scope=Scope.PIPELINE, threshold=1, periods=1,
        runbook="stream-trimmed", missing=KEPT,
        text="the stream has lost records before they were read",
    ),
    Rule(
        kind="quarantine", metric="replicator.link.quarantined", scope=Scope.LINK, threshold=1,
        periods=1, runbook="poison-record", missing=KEPT,
        text="a target refused a change for good",
    ),
    Rule(
        kind="quarantine-home", metric="replicator.source.quarantined", scope=Scope.PIPELINE,
        threshold=1, periods=1, runbook="poison-record", missing=KEPT,
        text="a change could not be settled",
    ),
    Rule(
        kind="destination", metric="ApproximateNumberOfMessagesVisible", scope=Scope.QUEUE,
        threshold=1, periods=15, namespace="AWS/SQS", runbook="stream-trimmed",
        modes=("lambda",), expression=WAITS,
        text="what the mapping gave up was not stored as a gap in 15 minutes",
    ),
    Rule(
        kind="conflict-storm", metric="replicator.conflicts", scope=Scope.PIPELINE,
        threshold=1_000, statistic="Sum", period_s=300, periods=1, runbook="conflict-storm",
        text="more than 1,000 concurrent writes were decided in 5 minutes",
    ),
    Rule(
        kind="throttles", metric="replicator.throttles", scope=Scope.PIPELINE, threshold=100,
        statistic="Sum", period_s=300, periods=3, runbook="throttling",
        text="calls are throttled, for 15 minutes",
    ),
    Rule(
        kind="concurrency", metric="Throttles", scope=Scope.FUNCTION, threshold=1,
        statistic="Sum", period_s=300, periods=3, namespace="AWS/Lambda", runbook="throttling",
        modes=("lambda",), text="invocations are throttled: the concurrency does not suffice",
    ),
    Rule(
        kind="iterator-age", metric="IteratorAge", scope=Scope.FUNCTION, threshold=HOUR_S * 1_000,
        namespace="AWS/Lambda", runbook="lag-high", modes=("lambda",),
        text="the last record of a batch was an hour old",
    ),
    Rule(
        kind="iterator-age", metric="replicator.checkpoint.age", scope=Scope.PIPELINE,
        threshold=HOUR_S, runbook="lag-high", modes=("service",),
        text="a restart would read again what was read an hour ago",
    ),
    Rule(
        kind="clock-skew", metric="replicator.records.clamped", scope=Scope.PIPELINE, threshold=1,
        statistic="Sum", periods=1, runbook="clock-skew",
        text="records claim to be from the future",
    ),
)  # fmt: skip


def alarms_of(settings: Settings, region: str, mode: str) -> list[Alarm]:
    """The alarms of the service that reads a region's streams."""
    return [
        _alarm(rule, region, place, settings)
        for rule in RULES
        if mode in rule.modes
        if not (rule.beats and settings.heartbeat.place is HeartbeatPlace.OFF)
        for place in _places(rule.scope, settings, region)
    ]


def _places(scope: Scope, settings: Settings, region: str) -> Iterator[Mapping[str, str]]:
    match scope:
        case Scope.REGION:
            yield {"source": region}
        case Scope.FUNCTION:
            yield {"FunctionName": f"replicator-{region}"}
        case Scope.QUEUE:
            yield {"QueueName": f"replicator-{region}-failures"}
        case Scope.PIPELINE | Scope.LINK:
            for name, table in settings.tables.items():
                if region not in table.sources:
                    continue
                place = {"table": name, "source": region}
                if scope is Scope.PIPELINE:
                    yield place
                else:
                    yield from ({**place, "target": to} for to in table.targets_of(region))


def _alarm(rule: Rule, region: str, place: Mapping[str, str], settings: Settings) -> Alarm:
    parts = [place[name] for name in ("table", "target") if name in place]
    name = "-".join(("replicator", region, rule.kind, *parts))
    where = ", ".join(f"{key} {value}" for key, value in place.items())
    return Alarm(
        key="Alarm" + "".join(logical(part) for part in (rule.kind, *parts)),
        name=name,
        kind=rule.kind,
        namespace=rule.namespace,
        metric=rule.metric,
        dimensions=place,
        statistic=rule.statistic,
        period_s=rule.period_s,
        periods=rule.periods,
        threshold=rule.threshold,
        missing=rule.missing,
        description=f"{rule.text} ({where}). Runbook: {RUNBOOKS}/{rule.runbook}.md",
        runbook=rule.runbook,
        expression=rule.expression,
        written=settings.table_name(place["table"], region) if rule.expression == SILENT else None,
    )
