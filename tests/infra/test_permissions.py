"""The policy suffices: the shipping code runs with everything refused that it does not allow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from infra.permissions import Statement, access_statements, service_statements
from replicator.aws.api import Boto3Api
from replicator.clock import SystemClock
from replicator.compose import build_pipeline, heart, ledger, pipeline_stats
from replicator.control import create_control_table_request
from replicator.errors import Fatal
from replicator.handover.across import Noter
from replicator.lambda_handler import Function
from replicator.pipeline import Pipeline
from replicator.plane import RegionApi
from replicator.preflight import examine, failed
from replicator.settings import RegionSettings, Settings, TableSettings
from replicator.telemetry import PipelineStats
from replicator.verify.assembly import VerifyOptions, comparison_of, key_names_of
from replicator.verify.patience import Patience
from support.engines import Engine
from support.event_source_mapping import lambda_record
from support.ledgers import conflict
from support.tables import client, create_table, unique_name

HOME, AWAY = "us-east-1", "eu-west-1"
ACCOUNT = "000000000000"
ROLE = "arn:aws:iam::000000000000:role/enter-{}"


@dataclass
class PolicedApi:
    """An Api that refuses what the statements do not allow, and notes what was asked for."""

    api: RegionApi
    aws_region: str
    statements: list[Statement]
    tables: Mapping[str, str]
    """The ARN of each table's stream, by the name that stands for it in a policy."""
    used: set[tuple[str, str]] = field(default_factory=set)

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        for resource in self._resources(operation, request):
            action = f"dynamodb:{operation}"
            self.used.add((action, resource))
            if not self._allowed(action, resource):
                raise Fatal(f"AccessDeniedException: {action} on {resource}")
        return await self.api.call(operation, request)

    def close(self) -> None:
        """Close what is behind it."""
        self.api.close()

    def _resources(self, operation: str, request: Mapping[str, Any]) -> list[str]:
        if operation == "GetRecords":  # an iterator names its stream to nobody but AWS
            return [self.tables[name] for name in self.tables][:1]
        if "StreamArn" in request:
            return [request["StreamArn"]]
        names = [request["TableName"]] if "TableName" in request else [*request["RequestItems"]]
        return [f"arn:aws:dynamodb:{self.aws_region}:{ACCOUNT}:table/{name}" for name in names]

    def _allowed(self, action: str, resource: str) -> bool:
        return any(
            action in statement.actions and resource in map(self._said, statement.resources)
            for statement in self.statements
        )

    def _said(self, resource: str) -> str:
        for name, arn in self.tables.items():
            resource = resource.replace(f"${{stream.{name}}}", arn)
        return resource.replace("${partition}", "aws").replace("${account}", ACCOUNT)


def world(engine: Callable[[str], Engine], *, roles: bool) -> tuple[Settings, dict[str, str]]:
    """Tables of both modes in two regions, and the ARNs of HOME's streams."""
    url = engine("ministack").endpoint_url
    every, one_way, control = unique_name("every"), unique_name("one-way"), unique_name("control")
    streams = {}
    for name in (every, one_way):
        for region in (HOME, AWAY):
            view_type = "NEW_AND_OLD_IMAGES" if name == every else "KEYS_ONLY"
            arn = create_table(url, region, name, view_type)
            if region == HOME:
                streams[name] = arn
    for region in (HOME, AWAY):
        client(url, region).create_table(**create_control_table_request(control))
    settings = Settings(
        regions={
            name: RegionSettings(
                aws_region=name, endpoint_url=url, role_arn=ROLE.format(name) if roles else None
            )
            for name in (HOME, AWAY)
        },
        tables={
            every: TableSettings(regions=(HOME, AWAY)),
            one_way: TableSettings(source=HOME, targets=(AWAY,)),
        },
        control_table=control,
    )
    return settings, streams


def policed(
    settings: Settings, streams: Mapping[str, str], mode: str = "service"
) -> dict[str, PolicedApi]:
    """Each region behind the policy of the service that reads HOME's streams, or where it is
    entered by a role, behind that role's."""
    service = service_statements(settings, HOME, mode, kms=False)
    return {
        name: PolicedApi(
            Boto3Api.open(region=region.aws_region, endpoint_url=region.endpoint_url),
            region.aws_region,
            service if region.role_arn is None else access_statements(settings, name, kms=False),
            streams,
        )
        for name, region in settings.regions.items()
    }


@pytest.mark.parametrize("roles", [False, True], ids=["one account", "by roles"])
def test_the_service_runs_on_its_policy_alone(
    engine: Callable[[str], Engine], *, roles: bool
) -> None:
    """Preflight, both modes, puts and deletes, notes, comparison: nothing is refused; and what the
    policy allows beyond is named here, with the call that needs it."""
    settings, streams = world(engine, roles=roles)
    apis = policed(settings, streams)
    asyncio.run(_replicate(settings, apis))
    used = {pair for api in apis.values() for pair in api.used}
    allowed = {
        (action, api._said(resource))
        for api in apis.values()
        for statement in api.statements
        for action in statement.actions
        for resource in statement.resources
        if action.startswith("dynamodb:")
    }
    assert used <= allowed
    unused = {(a.partition(":")[2], _role(r, settings)) for a, r in allowed - used}
    assert unused <= {
        ("GetRecords", "stream"),  # counted for one of the streams only
        ("DeleteItem", "control"),  # a gap that was mended, a change taken out of quarantine
        ("Query", "control"),
        ("PutItem", "control"),
        ("BatchGetItem", "control"),
        ("BatchGetItem", "every"),  # a lost race is read again
        ("BatchGetItem", "one-way"),  # a copy that differs is looked at, and repaired
        ("PutItem", "every"),  # at home: what was beaten is put back
        ("DeleteItem", "every"),  # at home: what arrived beneath a tombstone
        ("UpdateItem", "every"),
    }


def test_a_mapping_has_what_lambda_asks_of_its_role() -> None:
    """ "Please ensure the role can perform the GetRecords, GetShardIterator, DescribeStream, and
    ListStreams Actions on your stream", says CreateEventSourceMapping. The process lists none."""
    settings = Settings(
        regions={name: RegionSettings(aws_region=name) for name in (HOME, AWAY)},
        tables={name: TableSettings(regions=(HOME, AWAY)) for name in ("orders", "ledger")},
    )
    asked = {"GetRecords", "GetShardIterator", "DescribeStream", "ListStreams"}
    for mode, may in (("lambda", asked), ("service", asked - {"ListStreams"})):
        streams = [
            statement
            for statement in service_statements(settings, HOME, mode, kms=True)
            if any("stream." in resource for resource in statement.resources)
        ]
        assert [s.resources for s in streams] == [("${stream.orders}", "${stream.ledger}")]
        assert {action.removeprefix("dynamodb:") for action in streams[0].actions} == may


def test_the_function_runs_on_its_policy_alone(engine: Callable[[str], Engine]) -> None:
    """Tables described, pauses, gaps and what is parked looked up, both modes, puts and deletes:
    nothing is refused. The streams are read by the mapping."""
    settings, streams = world(engine, roles=False)
    apis = policed(settings, streams, "lambda")
    kept = ledger(settings, HOME, apis[HOME])
    function = Function(settings=settings, source=HOME, apis=apis, ledger=kept)
    url = settings.regions[HOME].endpoint_url
    assert url is not None
    with closing(function):
        for table, arn in streams.items():
            if settings.tables[table].source is None:  # the other's stream tells keys alone
                kept.note(conflict())
            home = client(url, HOME)
            for name in "12":
                home.put_item(TableName=table, Item={"id": {"S": name}})
            home.delete_item(TableName=table, Key={"id": {"S": "1"}})
            event = {"Records": [lambda_record(r, arn, HOME) for r in _records(url, arn)]}
            assert function.handle(event, _Context()) == {"batchItemFailures": []}
            left = client(url, AWAY).scan(TableName=table, ConsistentRead=True)["Items"]
            assert [item["id"]["S"] for item in left] == ["2"]
    assert not {action for api in apis.values() for action, _ in api.used} & {
        "dynamodb:GetRecords", "dynamodb:Scan",
    }  # fmt: skip


class _Context:
    """Lambda's context object, as far as it is used."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def _records(url: str, arn: str) -> list[dict[str, Any]]:
    """All that a stream holds."""
    streams = boto3.client("dynamodbstreams", region_name=HOME, endpoint_url=url)
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    page: Any = streams.get_records(ShardIterator=iterator["ShardIterator"])
    found: list[dict[str, Any]] = page["Records"]
    return found


def _role(resource: str, settings: Settings) -> str:
    if "/stream/" in resource:
        return "stream"
    name = resource.rpartition("/")[2]
    return "control" if name == settings.control_table else name.rpartition("-")[0]


async def _replicate(settings: Settings, apis: Mapping[str, PolicedApi]) -> None:
    checks = await examine(settings, connect=apis.__getitem__, sources=frozenset({HOME}))
    assert not failed(checks), failed(checks)
    stats = [pipeline_stats(settings, table, HOME) for table in settings.tables]
    pipelines = [await build_pipeline(settings, apis, each) for each in stats]
    noter = Noter(
        apis=apis,
        control_table=settings.control_table,
        pipelines=stats,
        clock=SystemClock(),
        sleep=asyncio.sleep,
    )
    stop = asyncio.Event()
    running = [asyncio.create_task(each.run(stop)) for each in pipelines]
    running += _observers(settings, apis, stats, stop)
    running.append(asyncio.create_task(noter.run(stop)))
    try:
        async with asyncio.timeout(60):
            await _write(settings, pipelines)
    finally:
        stop.set()
        await asyncio.gather(*running)
    assert all(each.error is None for each in stats), [each.error for each in stats]
    for table in settings.tables:
        clock = SystemClock()
        comparison = comparison_of(
            settings,
            VerifyOptions(table=table, settle_s=0.1),
            apis=apis,
            key_names=await key_names_of(settings, table, apis),
            clock=clock,
            observer=Patience(clock),
        )
        assert (await comparison.run(print)).clean


def _observers(
    settings: Settings,
    apis: Mapping[str, PolicedApi],
    stats: list[PipelineStats],
    stop: asyncio.Event,
) -> list[asyncio.Task[None]]:
    """Heartbeats, and a ledger that has something to keep."""
    kept = ledger(settings, HOME, apis[HOME])
    kept.note(conflict())
    hearts = [heart(settings, apis, each) for each in stats]
    work = [kept.run(stop), *(each.run(stop) for each in hearts if each is not None)]
    assert len(work) == 1 + len(stats)
    return [asyncio.create_task(each) for each in work]


async def _write(settings: Settings, pipelines: list[Pipeline]) -> None:
    url = settings.regions[HOME].endpoint_url
    assert url is not None
    home = client(url, HOME)
    for table in settings.tables:
        for number in range(4):
            item = {"id": {"S": str(number)}, "v": {"S": "new"}}
            await asyncio.to_thread(home.put_item, TableName=table, Item=item)
    await _applied(pipelines, 4)
    for table in settings.tables:
        item = {"id": {"S": "1"}, "v": {"S": "newer"}}
        await asyncio.to_thread(home.put_item, TableName=table, Item=item)
        await asyncio.to_thread(home.delete_item, TableName=table, Key={"id": {"S": "0"}})
    await _applied(pipelines, 6)
    await _until(lambda: all(each.stats.links[AWAY].complete_us for each in pipelines))
    await _until(lambda: all(each.stats.links[AWAY].heartbeat_us for each in pipelines))
    await asyncio.sleep(2.5)  # checkpoints and notes are written once a second


async def _applied(pipelines: list[Pipeline], count: int) -> None:
    await _until(lambda: all(each.stats.links[AWAY].applied >= count for each in pipelines))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - figures have no event
        await asyncio.sleep(0.05)
