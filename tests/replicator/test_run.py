"""The long-lived process: what it observes, and what it puts together."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from replicator import run
from replicator.clock import SystemClock
from replicator.compose import HOME_SLACK_US, LinkObserver, build_pipeline, pipeline_stats
from replicator.configuration import settings_of
from replicator.dashboard.app import create_app
from replicator.dashboard.serving import listen, serve_shared
from replicator.errors import Fatal, ReplicatorError, Transient
from replicator.handover.active import FencedTable
from replicator.pipeline import Pipeline
from replicator.ports import StreamSource
from replicator.quarantine.command import Choice, Desk, _replay_of
from replicator.records import Mode, TtlDeletes
from replicator.run import REBUILD_S, _replicate
from replicator.settings import Settings
from replicator.telemetry import PipelineStats
from support.clock import VirtualClock

ARN = "arn:aws:dynamodb:us-east-1:1:table/orders/stream/1"
DOCUMENT: dict[str, Any] = {
    "regions": {"us-east-1": {}, "eu-west-1": {}, "ap-south-1": {}},
    "tables": {
        "orders": {"regions": ["us-east-1", "eu-west-1"], "names": {"eu-west-1": "orders-copy"}},
        "ledger": {
            "source": "us-east-1",
            "targets": ["eu-west-1", "ap-south-1"],
            "ttl_deletes": "ignore",
            "marker": "_m",
        },
    },
    "writer": {"unsettled_records_max": 77},
    "future_bound_s": 5.0,
}


class FakeApi:
    """An Api that describes a table with one stream, and remembers what it was asked."""

    def __init__(self, *, streams: bool = True) -> None:
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self._streams = streams
        self.errors: list[Exception] = []
        self.on_put: Callable[[], None] = lambda: None

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer as DynamoDB does, as far as these tests go."""
        self.calls.append((operation, request))
        if self.errors:
            raise self.errors.pop(0)
        if operation == "PutItem":
            self.on_put()
        match operation:
            case "DescribeTable":
                return {"Table": self._table()}
            case "DescribeTimeToLive":
                return {}
            case "DescribeStream":
                return {"StreamDescription": self._stream()}
            case "GetShardIterator":
                return {"ShardIterator": "0"}
            case "GetRecords":
                return self._page(request["ShardIterator"])
            case "BatchGetItem" | "Query":
                return {"Responses": {}, "Items": []}
            case _:
                return {"Attributes": {}}

    def _table(self) -> dict[str, Any]:
        enabled = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        return {
            "TableStatus": "ACTIVE",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            **({"StreamSpecification": enabled, "LatestStreamArn": ARN} if self._streams else {}),
        }

    def _stream(self) -> dict[str, Any]:
        return {
            "StreamArn": ARN,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "StreamStatus": "ENABLED",
            "Shards": [{"ShardId": "a", "SequenceNumberRange": {"StartingSequenceNumber": "1"}}],
        }

    def _page(self, iterator: str) -> dict[str, Any]:
        key = {"id": {"S": "1"}}
        change = {
            "SequenceNumber": "1",
            "ApproximateCreationDateTime": SystemClock().now_us() / 1e6,
            "Keys": key,
            "NewImage": {**key, "n": {"N": "1.50"}},
        }
        records = [{"eventName": "INSERT", "dynamodb": change}] if iterator == "0" else []
        return {"Records": records, "NextShardIterator": "1"}


@pytest.fixture
def settings() -> Settings:
    """Two tables: one that two regions write, and one with one source."""
    return settings_of(DOCUMENT, {}, stated_by="test")


def apis(**changed: FakeApi) -> dict[str, FakeApi]:
    """An endpoint per region."""
    return {name: changed.get(name[:2], FakeApi()) for name in DOCUMENT["regions"]}


def stats(*targets: str) -> PipelineStats:
    """The figures of a pipeline out of us."""
    return PipelineStats(table="orders", source="us", mode="multi-writer", targets=targets)


# --- the observer -------------------------------------------------------------------------------


def test_a_failing_link_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Every retry counts; the log tells the beginning and the end of an outage."""
    figures = stats("eu", "ap")
    observer = LinkObserver(figures)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            observer.failed("eu", Transient("connection refused"))
        told = [figures.links["eu"].error]
        for _ in range(2):
            observer.recovered("eu")
            told.append(figures.links["eu"].error)
    assert told == ["connection refused", None, None]
    assert figures.links["eu"].retries == 3
    assert figures.links["ap"].retries == 0
    assert [record.message for record in caplog.records] == ["region.failing", "region.recovered"]


def test_a_failing_home_region_is_the_pipelines_error() -> None:
    """The home region is no link of its own pipeline."""
    figures = stats("eu")
    observer = LinkObserver(figures)
    observer.failed("us", Transient("throttled"))
    assert (figures.home_error, figures.error) == ("throttled", "throttled")
    assert figures.links["eu"].error is None
    observer.recovered("us")
    assert figures.error is None


@pytest.mark.parametrize("region", ["us", "eu"])
def test_a_stuck_task_is_told_until_it_is_freed(
    region: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls that are answered meanwhile do not hide it, and the log tells it once."""
    figures = stats("eu")
    observer = LinkObserver(figures)

    def seen() -> tuple[str | None, int]:
        if region == "us":
            return figures.home_error, figures.stuck_at_home
        return figures.links[region].error, figures.links[region].stuck

    with caplog.at_level(logging.INFO):
        observer.stuck(region, Fatal("access denied"), first=True)
        observer.recovered(region)
        observer.stuck(region, Fatal("key disabled"), first=False)
        observer.stuck(region, Fatal("key disabled"), first=True)
        told = [seen()]
        observer.freed(region)
        told.append(seen())
        observer.freed(region)
        told.append(seen())
    assert told == [("key disabled", 2), ("key disabled", 1), (None, 0)]
    assert [record.message for record in caplog.records] == ["task.stuck", "task.freed"]


def test_an_error_of_unknown_kind_is_told_without_its_text() -> None:
    """Only this package's own messages are known to hold nobody's data."""
    figures = stats("eu")
    LinkObserver(figures).failed("eu", ValueError("alice@example.com"))
    assert figures.links["eu"].error == "ValueError"


# --- composition --------------------------------------------------------------------------------


def built(settings: Settings, table: str, **changed: FakeApi) -> Pipeline:
    """The pipeline of a table out of us-east-1."""
    figures = pipeline_stats(settings, table, "us-east-1")
    return asyncio.run(build_pipeline(settings, apis(**changed), figures))


def test_a_table_that_every_region_writes_goes_to_all_others(settings: Settings) -> None:
    """Mode, targets and bounds come from the settings; home believes a little more than others."""
    pipeline = built(settings, "orders")
    parts = pipeline._parts
    assert (pipeline.stats.source, pipeline.stats.targets) == ("us-east-1", ("eu-west-1",))
    assert parts.transformer.mode is Mode.MULTI_WRITER
    assert (parts.transformer.home, parts.transformer.marker) == ("us-east-1", "_replicator")
    assert parts.transformer.future_bound_us == 5_000_000 + HOME_SLACK_US
    assert parts.limits.unsettled_records_max == 77


def test_a_one_way_table_goes_to_its_targets(settings: Settings) -> None:
    """With what the table's own section says."""
    pipeline = built(settings, "ledger")
    transformer = pipeline._parts.transformer
    assert pipeline.stats.targets == ("eu-west-1", "ap-south-1")
    assert transformer.mode is Mode.ONE_WAY
    assert transformer.ttl_deletes is TtlDeletes.IGNORE
    assert transformer.marker == "_m"


def test_a_replay_out_of_the_quarantine_stands_behind_the_same_fence(settings: Settings) -> None:
    """A parked change of a source that was moved away from must not overwrite the new one."""
    desk = Desk(settings=settings, connect=apis().__getitem__, choice=Choice())
    replay = asyncio.run(_replay_of(desk, "ledger", "us-east-1", SystemClock()))
    ports = replay.writer._regions
    fenced = {region: isinstance(port._table, FencedTable) for region, port in ports.items()}
    assert fenced == {"us-east-1": False, "eu-west-1": True, "ap-south-1": True}


async def found(pipeline: Pipeline) -> tuple[str, StreamSource]:
    """The table's present stream."""
    return await pipeline._parts.find_stream()


def test_a_table_without_a_stream_is_fatal_and_says_what_to_do(settings: Settings) -> None:
    """It may be given one later, so the pipeline tries again."""
    pipeline = built(settings, "orders", us=FakeApi(streams=False))
    with pytest.raises(Fatal, match="replicator setup"):
        asyncio.run(found(pipeline))


def test_what_is_put_together_replicates(settings: Settings) -> None:
    """A record of the source ends as a put in each target's table, the marker inside."""
    arrived = asyncio.Event()
    regions = apis()
    regions["ap-south-1"].on_put = arrived.set

    async def main() -> None:
        figures = pipeline_stats(settings, "ledger", "us-east-1")
        pipeline = await build_pipeline(settings, regions, figures)
        stop = asyncio.Event()
        running = asyncio.create_task(pipeline.run(stop))
        await asyncio.wait_for(arrived.wait(), timeout=30.0)
        stop.set()
        await running

    asyncio.run(main())
    for region in ("eu-west-1", "ap-south-1"):
        (put,) = [
            request
            for operation, request in regions[region].calls
            if operation == "PutItem" and request["TableName"] == "ledger"
        ]
        assert put["Item"]["n"] == {"N": "1.50"}
        assert "#us-east-1#" in put["Item"]["_m"]["S"]
    written = {
        request["TableName"] for op, request in regions["us-east-1"].calls if op == "PutItem"
    }
    assert written <= {settings.control_table}


# --- a source that is out of reach at the start ---------------------------------------------------


@pytest.mark.parametrize("error", [Transient("no answer"), Fatal("access denied")])
def test_a_source_that_is_out_of_reach_is_tried_until_it_answers(
    settings: Settings, error: ReplicatorError
) -> None:
    """Its pipeline says why it does not run, and begins when it can."""
    clock = VirtualClock()
    regions = apis()
    regions["us-east-1"].errors += [error] * 3
    figures = pipeline_stats(settings, "ledger", "us-east-1")
    arrived, stop = asyncio.Event(), asyncio.Event()
    regions["ap-south-1"].on_put = arrived.set

    async def main() -> None:
        running = asyncio.create_task(_replicate(settings, regions, figures, stop))
        await clock.sleep(1.0)
        document = figures.snapshot(clock.now_us())
        assert (document["state"], document["error"]) == ("retrying", str(error))
        assert document["links"][0]["backlog_age_s"] is None
        await arrived.wait()
        stop.set()
        await running

    clock.run(main(), limit_s=60.0)
    assert clock.monotonic_s() >= 3 * REBUILD_S
    assert figures.snapshot(clock.now_us())["state"] == "stopped"


def test_a_stop_ends_the_tries_to_reach_a_source_at_once(settings: Settings) -> None:
    """Nothing is under way that could be waited for."""
    clock = VirtualClock()
    regions = apis()
    regions["us-east-1"].errors += [Transient("no answer")] * 1_000
    figures = pipeline_stats(settings, "ledger", "us-east-1")
    stop = asyncio.Event()

    async def main() -> None:
        running = asyncio.create_task(_replicate(settings, regions, figures, stop))
        await clock.sleep(1.0)
        stop.set()
        await running

    clock.run(main())
    assert clock.monotonic_s() == 1.0


# --- the page -----------------------------------------------------------------------------------


def test_a_page_that_fails_is_served_again_and_ends_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Replication does not depend on who looks at it; the log says that nobody can."""
    stop, failures = asyncio.Event(), 2

    async def fails(app: Starlette, listener: socket.socket, until: asyncio.Event) -> None:
        nonlocal failures
        assert app.state.live
        assert listener.fileno() >= 0
        if failures:
            failures -= 1
            raise ValueError("no page")
        stop.set()
        await until.wait()

    monkeypatch.setattr(run, "serve_shared", fails)
    monkeypatch.setattr(run, "_stop_on_signals", lambda: stop)
    monkeypatch.setattr(run, "REBUILD_S", 0.0)
    monkeypatch.setattr(run, "listen", lambda host, _: listen(host, 0))

    async def scenario() -> int:
        async with asyncio.timeout(30):
            return await run._run(settings, frozenset(), {}, 1)

    assert asyncio.run(scenario()) == 0
    told = [each for each in caplog.records if each.message == "beside.failed"]
    assert [each.__dict__["what"] for each in told if each.__dict__["what"] == "page"] == [
        "page"
    ] * 2


def test_a_page_whose_status_failed_shows_the_next_one() -> None:
    """The socket stays open meanwhile, and the same application is served again."""
    broken = True

    def snapshot() -> dict[str, Any]:
        nonlocal broken
        if broken:
            broken = False
            raise ValueError("no status")
        return {"state": "ok", "pipelines": []}

    async def scenario() -> None:
        stop, app = asyncio.Event(), create_app(snapshot)
        with listen("127.0.0.1", 0) as listener:
            with pytest.raises(ValueError, match="no status"):
                await serve_shared(app, listener, stop)
            serving = asyncio.create_task(serve_shared(app, listener, stop))
            async with httpx.AsyncClient() as client:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/healthz"
                assert (await client.get(url, timeout=30)).json() == {"state": "ok"}
            stop.set()
            await serving

    asyncio.run(scenario())
