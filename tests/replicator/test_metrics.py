"""Metrics: one list, and every way out of the process tells what the status document tells."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from prometheus_client.parser import text_string_to_metric_families

from replicator.exporting import Metrics, Push, Pusher, otlp_pusher, with_path
from replicator.metrics import BY_NAME, LATENCY, METRICS, Kind, samples
from replicator.telemetry import PipelineStats
from support.figures import NOW_US, document_of, pipeline


def metrics_of(*pipelines: PipelineStats) -> Metrics:
    """The metrics of a process."""
    return Metrics(document=lambda: document_of(*pipelines), pipelines=pipelines, instance="1")


Scraped = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(text: str) -> Scraped:
    """What Prometheus' own parser reads."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(document: Mapping[str, Any]) -> Scraped:
    """The values of the list in the document, by the names of Prometheus."""
    return {
        (metric.prometheus, tuple(sorted(place.items()))): value
        for metric in METRICS
        if metric.kind is not Kind.HISTOGRAM
        for place, value in samples(metric, document)
    }


# --- the list -----------------------------------------------------------------------------------


def test_names_are_told_once_and_each_has_a_meaning() -> None:
    """Under one prefix, in dots here and underscores there, units by name and never twice."""
    assert len(BY_NAME) == len(METRICS) == len({metric.prometheus for metric in METRICS})
    for metric in METRICS:
        assert metric.name.startswith("replicator.")
        assert metric.text
        assert metric.prometheus.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert ("_seconds" in metric.prometheus) is (metric.unit == "s")


def test_every_metric_has_a_value_in_a_full_document() -> None:
    """A path that leads nowhere would be a metric that is never told."""
    document = document_of(pipeline())
    for metric in METRICS:
        if metric.kind is not Kind.HISTOGRAM:
            values = [value for _, value in samples(metric, document)]
            assert any(values), metric.name


def test_what_is_not_known_is_left_out() -> None:
    """No series rather than a 0; that it is unknown is told by the state."""
    stats = PipelineStats(table="orders", source="us", mode="one-way", targets=("eu",))
    found = told(document_of(stats))
    names = {name for name, _ in found}
    assert (
        not {
            "replicator_backlog_age_seconds",
            "replicator_heartbeat_age_seconds",
            "replicator_link_heartbeat_age_seconds",
            "replicator_checkpoint_age_seconds",
            "replicator_exposure_time_seconds",
            "replicator_exposure_records",
        }
        & names
    )
    place = (("source", "us"), ("state", "unknown"), ("table", "orders"), ("target", "eu"))
    assert found["replicator_link_state", place] == 1.0


# --- Prometheus ---------------------------------------------------------------------------------


def test_prometheus_is_told_what_the_document_says() -> None:
    """Every value of it, and nothing else but the histogram."""
    stats = pipeline()
    found = scraped(metrics_of(stats).prometheus())
    latency = {key for key in found if key[0].startswith(BY_NAME[LATENCY].prometheus)}
    assert {key: value for key, value in found.items() if key not in latency} == told(
        document_of(stats)
    )
    place = (("source", "us"), ("table", "orders"), ("target", "eu"))
    assert found["replicator_backlog_age_seconds", place] == 1.5
    assert found["replicator_link_heartbeat_latency_seconds", place] == 0.3


def test_the_histogram_takes_each_latency_once() -> None:
    """However often it is asked for."""
    stats = pipeline()
    metrics = metrics_of(stats)
    name = BY_NAME[LATENCY].prometheus
    place = (("source", "us"), ("table", "orders"), ("target", "eu"))
    for _ in range(2):
        found = scraped(metrics.prometheus())
        assert found[f"{name}_count", place] == 3
        assert found[f"{name}_sum", place] == pytest.approx(1.12)
        assert found[f"{name}_bucket", (("le", "0.05"), *place)] == 1
        assert found[f"{name}_bucket", (("le", "0.1"), *place)] == 2
        assert found[f"{name}_bucket", (("le", "+Inf"), *place)] == 3
    stats.links["eu"].latency.note(50.0, NOW_US)
    assert scraped(metrics.prometheus())[f"{name}_count", place] == 4


def test_a_series_ends_when_its_value_is_no_longer_known() -> None:
    """The last known value of a dead source must not stand as if it held."""
    stats = pipeline()
    metrics = metrics_of(stats)
    assert "replicator_backlog_age_seconds{" in metrics.prometheus()
    stats.readable = False
    assert "replicator_backlog_age_seconds{" not in metrics.prometheus()


def test_labels_are_escaped() -> None:
    """A name may hold what the format uses itself."""
    stats = pipeline(table='a"b\\c\nd')
    names = {dict(place).get("table") for _, place in scraped(metrics_of(stats).prometheus())}
    assert 'a"b\\c\nd' in names


# --- OTLP ---------------------------------------------------------------------------------------


class Collector:
    """A pusher that fails as it is told."""

    def __init__(self) -> None:
        self.taken: list[MetricsData] = []
        self.well = True

    def export(self, metrics_data: MetricsData) -> MetricExportResult:
        """Take what was collected."""
        if not self.well:
            return MetricExportResult.FAILURE
        self.taken.append(metrics_data)
        return MetricExportResult.SUCCESS


def pushing(make: Callable[[], Pusher], script: Callable[[Push], Any]) -> Push:
    """Push every few milliseconds while `script` runs."""
    push = Push(
        metrics=metrics_of(pipeline()),
        pusher=make,
        endpoint="http://127.0.0.1:4318",
        interval_s=0.001,
        sleep=asyncio.sleep,
    )
    stop = asyncio.Event()

    async def main() -> None:
        running = asyncio.create_task(push.run(stop))
        await script(push)
        stop.set()
        await running

    asyncio.run(main())
    return push


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.001)


def test_a_collector_is_given_every_metric_of_the_list() -> None:
    """By its name and unit, with what names the process."""
    collector = Collector()

    async def script(push: Push) -> None:
        await until(lambda: push.stats.pushed > 0)

    push = pushing(lambda: collector, script)
    (resource,) = collector.taken[0].resource_metrics
    assert resource.resource.attributes["service.name"] == "replicator"
    found = {m.name: m.unit for scope in resource.scope_metrics for m in scope.metrics}
    assert found == {metric.name: metric.unit for metric in METRICS}
    assert push.document["error"] is None


def test_a_collector_that_takes_nothing_is_told_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the log and in the status, until it takes something."""
    collector = Collector()
    collector.well = False

    async def script(push: Push) -> None:
        await until(lambda: push.stats.failed >= 3)
        assert push.document["error"] is not None
        assert push.document["error"].startswith("http://127.0.0.1:4318: takes no metrics")
        collector.well = True
        await until(lambda: push.stats.pushed >= 1)

    with caplog.at_level(logging.INFO):
        push = pushing(lambda: collector, script)
    assert push.document["error"] is None
    assert [r.message for r in caplog.records] == ["otlp.failing", "otlp.recovered"]


def test_where_no_exporter_is_installed_the_status_says_what_to_do() -> None:
    """And nothing else happens."""

    def missing() -> Pusher:
        raise ImportError

    async def script(push: Push) -> None:
        await until(lambda: push.stats.error is not None)

    push = pushing(missing, script)
    assert "install dynamodb-stream-replicator[otlp]" in str(push.stats.error)
    assert push.stats.pushed == 0


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/metrics"),
        ("http://collector:4318/", "http://collector:4318/v1/metrics"),
        ("https://c.example/otlp/v1/metrics", "https://c.example/otlp/v1/metrics"),
    ],
)
def test_the_path_of_metrics_is_added_where_there_is_none(endpoint: str, url: str) -> None:
    """As OTLP says."""
    assert with_path(endpoint) == url


class Receiver(BaseHTTPRequestHandler):
    """A collector that keeps what it is sent."""

    received: ClassVar[list[tuple[str, ExportMetricsServiceRequest]]] = []

    def do_POST(self) -> None:
        """Take one request of OTLP."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.received.append((self.path, ExportMetricsServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def test_over_the_wire_a_collector_reads_the_same_values() -> None:
    """By the shipping exporter and its protocol."""
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.handle_request)
    thread.start()
    try:
        pusher = otlp_pusher(f"http://127.0.0.1:{server.server_port}")
        data = metrics_of(pipeline()).collect()
        assert pusher.export(data) is MetricExportResult.SUCCESS
    finally:
        thread.join(30)
        server.server_close()
    ((path, request),) = Receiver.received
    assert path == "/v1/metrics"
    found = {m.name: m for m in request.resource_metrics[0].scope_metrics[0].metrics}
    assert found.keys() == BY_NAME.keys()
    points = found["replicator.backlog.age"].gauge.data_points
    assert sorted(point.as_double for point in points) == [0.0, 1.5]
    latencies = found[LATENCY].histogram.data_points
    assert {(at.count, at.min, at.max) for at in latencies} == {(3, 0.03, 1.0), (0, 0.0, 0.0)}
    assert found["replicator.conflicts"].sum.is_monotonic
