"""A pipeline on a real engine, in this process, with a proxy that spoils its calls.

    with Live(engine, regions=("us", "eu")) as live:
        live.write("us", "k", "v")
        live.proxies["eu"].next("PutItem", LostAnswer())
        live.run(lambda: live.contents("eu") == {"k": "v"})

Everything between the stream and the tables is the shipping code, as `replicator run` puts it
together; only the signals and the page are missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from replicator.aws import sessions
from replicator.aws.api import Boto3Api
from replicator.clock import SystemClock
from replicator.compose import build_pipeline, pipeline_stats
from replicator.configuration import settings_of
from replicator.control import create_control_table_request
from replicator.errors import ReplicatorError
from replicator.plane import RegionApi
from replicator.records import Parked
from replicator.requests import Wire
from replicator.settings import ClientPlane
from replicator.waiting import Quarantine
from replicator.wire.api import LeanApi
from replicator.wire.pool import PoolLimits
from support.engines import Engine
from support.fault_proxy import FaultProxy
from support.tables import client, create_table, unique_name

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import StreamSpecificationTypeDef

WITHIN_S = 40.0
THREADS = 8


class Live:
    """One table, its control tables, and the pipelines of all its sources; a context manager."""

    def __init__(
        self,
        engine: Engine,
        *,
        regions: tuple[str, ...] = ("us-east-1", "eu-west-1"),
        one_way: bool = False,
        view_type: str = "NEW_AND_OLD_IMAGES",
        options: Mapping[str, object] | None = None,
        plane: ClientPlane = ClientPlane.LEAN,
    ) -> None:
        self.plane = plane
        self.url, self.regions = engine.endpoint_url, regions
        self.home, self.away = regions[0], regions[1]
        self.table = unique_name("live")
        self.control = unique_name("control")
        self.sources = regions[:1] if one_way else regions
        self.proxies = {region: FaultProxy(self.url) for region in regions}
        members: dict[str, object] = {"regions": list(regions)}
        if one_way:
            members = {"source": regions[0], "targets": list(regions[1:])}
        self.settings = settings_of(
            {
                "control_table": self.control,
                "regions": {region: {} for region in regions},
                "tables": {self.table: {**members, **(options or {})}},
                "reader": {"poll_idle_s": 0.1, "describe_interval_s": 1.0},
            },
            {},
            stated_by="a test",
        )
        for region in regions:
            read = region in self.sources
            create_table(self.url, region, self.table, view_type if read else None)
        self._stack = ExitStack()
        self._clients = {region: client(self.url, region) for region in regions}
        self.stats = {
            source: pipeline_stats(self.settings, self.table, source) for source in self.sources
        }

    def __enter__(self) -> Self:
        self.apis: dict[str, RegionApi] = {}
        for region, proxy in self.proxies.items():
            self._stack.enter_context(proxy)
            self.apis[region] = api = opened(region, proxy.url, self.plane)
            self._stack.callback(api.close)
            self._clients[region].create_table(**create_control_table_request(self.control))
            self._stack.callback(self._clients[region].close)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # --- what applications do -----------------------------------------------------------------

    def write(self, region: str, key: str, content: str) -> None:
        """Put an item as an application of the region does, past every proxy."""
        item = {"id": {"S": key}, "content": {"S": content}}
        self._clients[region].put_item(TableName=self.table, Item=item)

    def put(self, region: str, item: dict[str, Any]) -> None:
        """Put any item, in wire form."""
        self._clients[region].put_item(TableName=self.table, Item=item)

    def drop(self, region: str) -> None:
        """Delete the table in a region."""
        self._clients[region].delete_table(TableName=self.table)

    def recreated(self, region: str) -> Callable[[], bool]:
        """A step that makes the table of a region anew, empty and without a stream."""

        def made() -> bool:
            create_table(self.url, region, self.table, None)
            return True

        return made

    def switch_stream_off(self, region: str) -> None:
        """What the stream held is no longer there for anybody."""
        off: StreamSpecificationTypeDef = {"StreamEnabled": False}
        self._clients[region].update_table(TableName=self.table, StreamSpecification=off)

    def delete(self, region: str, key: str) -> None:
        """Delete an item as an application of the region does."""
        self._clients[region].delete_item(TableName=self.table, Key={"id": {"S": key}})

    # --- what happens -------------------------------------------------------------------------

    def run(self, *steps: Callable[[], bool], sources: tuple[str, ...] | None = None) -> None:
        """Run the pipelines until each step has come true in its turn; fail if one never does."""
        asyncio.run(self._run(steps, sources or self.sources))

    async def _run(self, steps: Sequence[Callable[[], bool]], sources: tuple[str, ...]) -> None:
        stop = asyncio.Event()
        running = [asyncio.create_task(self._replicate(source, stop)) for source in sources]
        deadline_s = time.monotonic() + WITHIN_S
        try:
            for step in steps:
                while not await asyncio.to_thread(step):
                    assert time.monotonic() < deadline_s, self._standing()
                    await asyncio.sleep(0.05)
        finally:
            stop.set()
            await asyncio.gather(*running)

    async def _replicate(self, source: str, stop: asyncio.Event) -> None:
        stats = self.stats[source]
        while not stop.is_set():
            try:
                pipeline = await build_pipeline(self.settings, self.apis, stats)
            except ReplicatorError:
                await asyncio.sleep(0.1)
            else:
                await pipeline.run(stop)

    def _standing(self) -> str:
        now_us = time.time_ns() // 1000
        found = {region: self.contents(region) for region in self.regions}
        return f"{found}\n{[stats.snapshot(now_us) for stats in self.stats.values()]}"

    # --- what is there ------------------------------------------------------------------------

    def items(self, region: str) -> dict[str, Wire]:
        """What a region holds, by key, marker inside."""
        answer = self._clients[region].scan(TableName=self.table, ConsistentRead=True)
        found: list[Any] = answer["Items"]
        return {item["id"]["S"]: item for item in found}

    def contents(self, region: str) -> dict[str, str]:
        """The content of each item that `write` has put, by key."""
        return {key: item["content"]["S"] for key, item in self.items(region).items()}

    def control_rows(self, region: str, pk: str) -> list[Wire]:
        """The rows of a partition of a region's control table."""
        answer = self._clients[region].query(
            TableName=self.control,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )
        found: list[Any] = answer["Items"]
        return found

    def put_control_row(self, region: str, row: Wire) -> None:
        """Write a row of the control table as somebody else might."""
        self._clients[region].put_item(TableName=self.control, Item=row)

    def parked(self, region: str) -> list[Parked]:
        """What the control table of a region keeps aside."""
        quarantine = Quarantine(api=self.apis[region], control_table=self.control)
        return asyncio.run(quarantine.load(self.table))

    def arrived(self, expected: Mapping[str, str]) -> Callable[[], bool]:
        """Whether every region holds just this."""
        return lambda: all(self.contents(region) == expected for region in self.regions)

    def link(self, source: str | None = None) -> dict[str, Any]:
        """The figures of the first link of a source."""
        (link, *_) = self.stats[source or self.home].snapshot(time.time_ns() // 1000)["links"]
        figures: dict[str, Any] = link
        return figures

    def heal(self, region: str, *operations: str) -> Callable[[], bool]:
        """A step that ends what stands in the way of some operations."""

        def healed() -> bool:
            for operation in operations:
                self.proxies[region].always(operation, None)
            return True

        return healed

    def struck(self) -> dict[str, int]:
        """How often each fault came up, over all regions and operations."""
        found: dict[str, int] = {}
        for proxy in self.proxies.values():
            for (_, fault), times in proxy.struck.items():
                found[fault] = found.get(fault, 0) + times
        return found


def opened(region: str, url: str, plane: ClientPlane) -> RegionApi:
    """The API of a region on a plane; both give up a silent service after botocore's time."""
    reference = Boto3Api.open(region=region, endpoint_url=url, threads=THREADS)
    if plane is ClientPlane.BOTOCORE:
        return reference
    return LeanApi(
        region=region,
        access=reference.access,
        control=reference,
        clock=SystemClock(),
        limits=PoolLimits(answer_s=sessions.READ_TIMEOUT_S),
    )
