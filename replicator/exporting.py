"""Metrics go out: Prometheus asks at `/metrics`, and by configuration OTLP is pushed.

Instruments of the OpenTelemetry SDK observe the status document, which is made once per
collection: nothing is recorded per change, and what is exported is what `status` shows. The SDK has
no histogram that observes, and its own costs 9 µs for each latency; so the figures keep the buckets
(latencies.py), and their points are put beside the SDK's.

Everything happens on the event loop that the figures belong to; only the push itself, which
waits for a collector, goes to a thread. A collector that cannot be reached costs a log line, a word
in the status and no change.

This module must not know what a metric means: metrics.py does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import Resource

from replicator import __version__
from replicator.exposition import exposition
from replicator.latencies import BOUNDS_S
from replicator.metrics import BY_NAME, LATENCY, METRICS, Kind, Metric, samples
from replicator.ports import Sleep
from replicator.telemetry import LinkStats, PipelineStats
from replicator.writer import first_of

log = logging.getLogger(__name__)

PUSH_TIMEOUT_S = 5.0
OTLP_PATH = "/v1/metrics"
"""Source: OTLP specification, "OTLP/HTTP Request", default path of metrics."""


class Pusher(Protocol):
    """Sends what was collected to a collector; blocks."""

    def export(self, metrics_data: MetricsData) -> MetricExportResult: ...


@dataclass(slots=True, kw_only=True)
class PushStats:
    """How the pushing fares."""

    endpoint: str
    pushed: int = 0
    failed: int = 0
    error: str | None = None


class Metrics:
    """The instruments of one process."""

    def __init__(
        self,
        *,
        document: Callable[[], Mapping[str, Any]],
        pipelines: Sequence[PipelineStats],
        instance: str,
    ) -> None:
        self._make_document, self._pipelines = document, pipelines
        self._document: Mapping[str, Any] = {"pipelines": []}
        self._reader = InMemoryMetricReader()
        resource = {
            "service.name": "replicator",
            "service.version": __version__,
            "service.instance.id": instance,
        }
        provider = MeterProvider(
            [self._reader],
            resource=Resource.create(resource),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        self._started_ns = time.time_ns()
        meter = provider.get_meter("replicator", __version__)
        for metric in METRICS:
            observe = [partial(self._observe, metric)]
            told = {"unit": metric.unit, "description": metric.text}
            match metric.kind:
                case Kind.COUNTER:
                    meter.create_observable_counter(metric.name, observe, **told)
                case Kind.GAUGE:
                    meter.create_observable_gauge(metric.name, observe, **told)
                case Kind.HISTOGRAM:
                    pass  # see _with_latencies

    def collect(self) -> MetricsData:
        """All values as of now."""
        self._document = self._make_document()
        found = self._reader.get_metrics_data()
        resources = found.resource_metrics if found else ()
        return MetricsData([self._with_latencies(resource) for resource in resources])

    def prometheus(self) -> str:
        """All values as of now, as Prometheus reads them."""
        return exposition(self.collect())

    def _with_latencies(self, resource: ResourceMetrics) -> ResourceMetrics:
        (scope,) = resource.scope_metrics
        points = [
            self._point(stats, target, link)
            for stats in self._pipelines
            for target, link in stats.links.items()
        ]
        told = BY_NAME[LATENCY]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        latency = SdkMetric(name=told.name, description=told.text, unit=told.unit, data=data)
        return replace(resource, scope_metrics=[replace(scope, metrics=[*scope.metrics, latency])])

    def _point(self, stats: PipelineStats, target: str, link: LinkStats) -> HistogramDataPoint:
        latency = link.latency
        return HistogramDataPoint(
            attributes={"table": stats.table, "source": stats.source, "target": target},
            start_time_unix_nano=self._started_ns,
            time_unix_nano=time.time_ns(),
            count=sum(latency.buckets),
            sum=latency.sum_ms / 1000,
            bucket_counts=tuple(latency.buckets),
            explicit_bounds=BOUNDS_S,
            min=min(latency.least_ms, latency.greatest_ms) / 1000,
            max=latency.greatest_ms / 1000,
        )

    def _observe(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, place) for place, value in samples(metric, self._document)]


class Push:
    """Metrics pushed to a collector, again and again."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        pusher: Callable[[], Pusher],
        endpoint: str,
        interval_s: float,
        sleep: Sleep,
    ) -> None:
        self._metrics, self._make_pusher = metrics, pusher
        self._interval_s, self._sleep = interval_s, sleep
        self.stats = PushStats(endpoint=endpoint)

    @property
    def document(self) -> dict[str, Any]:
        """How it fares, for the status."""
        return asdict(self.stats)

    async def run(self, stop: asyncio.Event) -> None:
        """Push until `stop` is set, and once more then, unless nobody takes it."""
        try:
            pusher = self._make_pusher()
        except ImportError:
            remedy = "install dynamodb-stream-replicator[otlp]"
            self._failed(f"no OTLP exporter is installed; {remedy}, or unset otlp_endpoint")
            await stop.wait()
            return
        while not stop.is_set():
            await first_of(self._sleep(self._interval_s), stop.wait())
            if not (stop.is_set() and self.stats.error):
                await self._push(pusher)

    async def _push(self, pusher: Pusher) -> None:
        result = await asyncio.to_thread(pusher.export, self._metrics.collect())
        if result is MetricExportResult.SUCCESS:
            self.stats.pushed += 1
            if self.stats.error is not None:
                log.info("otlp.recovered", extra={"endpoint": self.stats.endpoint})
            self.stats.error = None
            return
        self.stats.failed += 1
        self._failed(f"{self.stats.endpoint}: takes no metrics; is a collector running there?")

    def _failed(self, line: str) -> None:
        if self.stats.error is None:
            log.error("otlp.failing", extra={"error": line})
        self.stats.error = line


def otlp_pusher(endpoint: str) -> Pusher:
    """An exporter that speaks OTLP over HTTP. Raises: ImportError where none is installed."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter,
    )

    return OTLPMetricExporter(endpoint=with_path(endpoint), timeout=PUSH_TIMEOUT_S)


def with_path(endpoint: str) -> str:
    """The endpoint with the path of metrics, where it names none."""
    bare = urlsplit(endpoint).path in ("", "/")
    return endpoint.rstrip("/") + OTLP_PATH if bare else endpoint
