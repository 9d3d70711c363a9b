"""The function: its environment, what it keeps between invocations, and its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest

from conflict.version import Kind, Version
from replicator.clock import SystemClock
from replicator.control import create_control_table_request, row_key
from replicator.doctor import Doctor
from replicator.errors import ConfigurationError, Fatal, Transient
from replicator.lambda_handler import Function
from replicator.pausing import chosen_links, switch_links
from replicator.plane import RegionApi, open_region
from replicator.preflight import Check
from replicator.records import Gap, Parked
from replicator.table import key_of
from replicator.verify.assembly import VerifyOptions
from replicator.verify.command import verify_table
from replicator.waiting import Gaps, Quarantine
from support.engines import Engine
from support.event_source_mapping import EventSourceMapping, lambda_record, queue_event
from support.tables import client, create_table, unique_name

T = TypeVar("T")

HOME, AWAY = "us-east-1", "eu-west-1"
LONG_MS, SHORT_MS = 60_000, 1_500


class Context:
    """Lambda's context object, as far as it is used."""

    def __init__(self, remaining_ms: int = LONG_MS) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms


class Counting:
    """ports.Api that notes the operations of another."""

    def __init__(self, api: RegionApi) -> None:
        self._api = api
        self.operations: list[str] = []

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.operations.append(operation)
        return await self._api.call(operation, request)

    def close(self) -> None:
        self._api.close()


class Deployed:
    """A table in two regions of an engine, and the function of one of them."""

    def __init__(self, url: str, tmp_path: Path, *, view_type: str, away_url: str) -> None:
        self.url, self.table = url, unique_name()
        self.arn = create_table(url, HOME, self.table, view_type)
        create_table(url, AWAY, self.table)
        config = tmp_path / "replicator.toml"
        control = unique_name("control")
        for region in (HOME, AWAY):
            client(url, region).create_table(**create_control_table_request(control))
        config.write_text(
            f'control_table = "{control}"\n'
            f'[regions.{HOME}]\nendpoint_url = "{url}"\n'
            f'[regions.{AWAY}]\nendpoint_url = "{away_url}"\n'
            f'[tables.{self.table}]\nregions = ["{HOME}", "{AWAY}"]\n'
        )
        self.function = Function.of({"REPLICATOR_CONFIG": str(config), "AWS_REGION": HOME})

    def also(self, tmp_path: Path, where: str) -> str:
        """A further table, one-way, that is read from the same stream; its name in the target."""
        config, copy = tmp_path / "replicator.toml", unique_name("copy")
        create_table(self.url, AWAY, copy)
        section = (
            f'[tables.{copy}]\nsource = "{HOME}"\ntargets = ["{AWAY}"]\n'
            f'names = {{ {HOME} = "{self.table}" }}\nwhere = "{where}"\n'
        )
        config.write_text(config.read_text() + section)
        self.function.close()
        self.function = Function.of({"REPLICATOR_CONFIG": str(config), "AWS_REGION": HOME})
        return copy

    def event(self) -> dict[str, Any]:
        """All that the stream of the home region holds."""
        streams = boto3.client("dynamodbstreams", region_name=HOME, endpoint_url=self.url)
        shard = streams.describe_stream(StreamArn=self.arn)["StreamDescription"]["Shards"][0]
        iterator = streams.get_shard_iterator(
            StreamArn=self.arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        return {"Records": [lambda_record(r, self.arn, HOME) for r in records]}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """On the loop that the function's connections belong to."""
        return self.function._loop.run_until_complete(work)

    def gaps(self) -> list[Gap]:
        """What is stored as lost."""
        control_table = self.function.settings.control_table
        gaps = Gaps(api=self.function.apis[HOME], control_table=control_table)
        return self.run(gaps.load(self.table, HOME))

    def put(self, name: str) -> None:
        """A write of the home region's application."""
        client(self.url, HOME).put_item(TableName=self.table, Item={"id": {"S": name}})

    def away(self, table: str | None = None) -> set[str]:
        """What has arrived."""
        name = table or self.table
        items = client(self.url, AWAY).scan(TableName=name, ConsistentRead=True)["Items"]
        return {item["id"]["S"] for item in items}


@pytest.fixture
def deploy(engine: Callable[[str], Engine], tmp_path: Path) -> Iterator[Callable[..., Deployed]]:
    """Make a deployment on MiniStack."""
    made: list[Deployed] = []

    def give(*, view_type: str = "NEW_AND_OLD_IMAGES", away_url: str = "") -> Deployed:
        url = engine("ministack").endpoint_url
        one = Deployed(url, tmp_path, view_type=view_type, away_url=away_url or url)
        made.append(one)
        return one

    yield give
    for one in made:
        with closing(one.function):
            pass


def test_a_warm_function_keeps_what_it_made(deploy: Callable[..., Deployed]) -> None:
    """Tables are described once, pauses, gaps and what is parked read once in a while, positions
    never."""
    deployed = deploy()
    counting = {name: Counting(api) for name, api in deployed.function.apis.items()}
    deployed.function.apis = counting
    for name in "12":
        deployed.put(name)
        answer = deployed.function.handle(deployed.event(), Context())
        assert answer == {"batchItemFailures": []}
        assert name in deployed.away()

    operations = counting[HOME].operations
    assert operations.count("DescribeTable") == 1
    assert operations.count("Query") == 3
    assert not {"GetRecords", "DescribeStream"} & set(operations)


def given_up(deployed: Deployed, names: str) -> dict[str, Any]:
    """Write items that the function fails to bring across until the mapping gives them up; returns
    what the queue then holds."""
    mapping = EventSourceMapping(
        stream_arn=deployed.arn, now_s=time.time, bisect=False, retries_max=0
    )
    for name in names:
        deployed.put(name)
    mapping.take_in("shard-1", deployed.event()["Records"])

    def down(_event: dict[str, Any]) -> object:
        raise Transient("down")

    (slot,) = mapping.slots
    mapping.step(slot, down)
    (discarded,) = mapping.discarded
    return queue_event(discarded, deployed.arn, time.time())


def told(capsys: pytest.CaptureFixture[str], name: str) -> list[float]:
    """The values of a metric that were printed."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line[name] for line in lines if name in line]


def test_what_the_mapping_gives_up_is_a_gap_until_it_is_repaired(
    deploy: Callable[..., Deployed], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored once however often the message comes, told by a metric and by `doctor`, and closed by
    a repair that ends clean."""
    deployed = deploy()
    event = given_up(deployed, "12")
    for _ in range(2):
        assert deployed.function.handle(event, Context()) == {"batchItemFailures": []}
    (gap,) = deployed.gaps()
    assert "gave up 2 records: RetryAttemptsExhausted" in gap.reason
    assert told(capsys, "replicator.gap") == [1, 1]

    deployed.put("3")
    answer = deployed.function.handle({"Records": deployed.event()["Records"][2:3]}, Context())
    assert answer == {"batchItemFailures": []}
    assert deployed.away() == {"3"}
    assert told(capsys, "replicator.gap") == [1]
    assert any("records are lost" in check.text for check in doctor_of(deployed))

    assert repair(deployed, regions=(HOME, AWAY)) == 0
    assert deployed.away() == {"1", "2", "3"}
    assert not deployed.gaps()
    assert not any("records are lost" in check.text for check in doctor_of(deployed))


def test_a_repair_that_does_not_look_at_everything_closes_no_gap(
    deploy: Callable[..., Deployed],
) -> None:
    """A sample is no proof, and neither is a look without a repair."""
    deployed = deploy()
    deployed.function.handle(given_up(deployed, "1"), Context())
    repair(deployed, sample=0.5)
    repair(deployed, repairs=False)
    assert deployed.gaps()


def test_a_message_that_is_not_understood_stays_in_the_queue(
    deploy: Callable[..., Deployed],
) -> None:
    """So does one of another table's stream, and one that cannot be stored now."""
    deployed = deploy()
    good = given_up(deployed, "1")["Records"][0]
    other = good["body"].replace(deployed.table, "other")
    messages = [
        {**good, "messageId": "not json", "body": "{"},
        {**good, "messageId": "no batch", "body": "{}"},
        {**good, "messageId": "another table", "body": other},
        {**good, "messageId": "good"},
    ]
    answer = deployed.function.handle({"Records": messages}, Context())
    failed = [each["itemIdentifier"] for each in answer["batchItemFailures"]]
    assert failed == ["not json", "no batch", "another table"]

    client(deployed.url, HOME).delete_table(TableName=deployed.function.settings.control_table)
    answer = deployed.function.handle({"Records": messages[3:]}, Context())
    assert [each["itemIdentifier"] for each in answer["batchItemFailures"]] == ["good"]


def test_a_paused_link_keeps_its_batches_and_a_resumed_one_takes_them(
    deploy: Callable[..., Deployed],
) -> None:
    """The batch is handed over again from its first record, and nothing of it arrives before."""
    deployed = deploy()
    settings, apis = deployed.function.settings, deployed.function.apis
    (link,) = chosen_links(settings, deployed.table, HOME, None)

    def switch(*, paused: bool) -> None:
        deployed.run(switch_links(settings, apis, [link], paused=paused, now_us=1))
        deployed.function._looked_s.clear()  # some seconds have passed

    deployed.put("1")
    event = deployed.event()
    first = event["Records"][0]["dynamodb"]["SequenceNumber"]
    switch(paused=True)
    for _ in range(2):
        answer = deployed.function.handle(event, Context())
        assert answer == {"batchItemFailures": [{"itemIdentifier": first}]}
        assert deployed.away() == set()
    switch(paused=False)
    assert deployed.function.handle(event, Context()) == {"batchItemFailures": []}
    assert deployed.away() == {"1"}


def test_a_malformed_pause_keeps_the_batches_until_it_is_resumed(
    deploy: Callable[..., Deployed],
) -> None:
    """No invocation fails for it, and the command that resumes a link takes the row out."""
    deployed = deploy()
    settings, apis = deployed.function.settings, deployed.function.apis
    (link,) = chosen_links(settings, deployed.table, HOME, None)
    row = row_key(f"pause#{link.table}#{link.source}", link.target)
    put = {"TableName": settings.control_table, "Item": {**row, "since_us": {"S": "yesterday"}}}
    deployed.run(apis[HOME].call("PutItem", put))
    deployed.put("1")
    event = deployed.event()
    first = event["Records"][0]["dynamodb"]["SequenceNumber"]
    answer = deployed.function.handle(event, Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": first}]}
    for changed in ([link], []):
        resumed = deployed.run(switch_links(settings, apis, [link], paused=False, now_us=1))
        assert (resumed.changed, resumed.failed) == (changed, {})
    deployed.function._looked_s.clear()  # some seconds have passed
    assert deployed.function.handle(event, Context()) == {"batchItemFailures": []}
    assert deployed.away() == {"1"}


def doctor_of(deployed: Deployed) -> list[Check]:
    """What the doctor finds."""
    doctor = Doctor(
        settings=deployed.function.settings,
        sources=frozenset({HOME}),
        connect=lambda region: deployed.function.apis[region],
        clock=SystemClock(),
        date_of=lambda _region: None,
        mappings_of=lambda _region, _arn: [],
    )
    return deployed.run(doctor.examine([HOME]))


def repair(deployed: Deployed, *, repairs: bool = True, **options: Any) -> int:
    """`replicator verify`, with `--repair` or without; its exit status."""
    settings = deployed.function.settings
    with ExitStack() as opened:

        def connect(region: str) -> RegionApi:
            api = open_region(settings, region)
            opened.callback(api.close)
            return api

        return verify_table(
            settings,
            VerifyOptions(table=deployed.table, repair=repairs, settle_s=0.1, **options),
            connect=connect,
            as_json=False,
            report=None,
        )


def test_an_invocation_prints_its_metrics(
    deploy: Callable[..., Deployed], capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of the embedded metric format for each place, and no key or item in any."""
    deployed = deploy()
    deployed.put("jane@example.org")
    deployed.function.handle(deployed.event(), Context())
    out = capsys.readouterr().out
    lines = [json.loads(line) for line in out.splitlines()]
    (link,) = [line for line in lines if line.get("target") == AWAY]
    assert link["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Replicator"
    assert link["replicator.deliveries.applied"] == 1
    assert len(link["replicator.replication.latency"]) == 1
    assert link["replicator.backlog.age"] >= 0
    (pipeline,) = [line for line in lines if "target" not in line]
    assert pipeline["replicator.records.read"] == 1  # the alarm `heartbeat` counts on it
    assert "jane" not in out


def test_what_is_parked_is_told_until_a_later_change_of_its_key_arrives(
    deploy: Callable[..., Deployed], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another environment has parked it: each batch tells so, not only the one that did."""
    deployed = deploy()
    control_table = deployed.function.settings.control_table
    quarantine = Quarantine(api=deployed.function.apis[HOME], control_table=control_table)
    older = Parked(
        table=deployed.table,
        source=HOME,
        target=AWAY,
        key=key_of({"id": {"S": "1"}}, ("id",)),
        version=Version(1, HOME, 1, Kind.SETTLED),
        image={"id": {"S": "1"}},
        reason="too large",
        parked_us=1,
    )
    deployed.run(quarantine.park(older))
    for name in "23":
        deployed.put(name)
        deployed.function.handle(deployed.event(), Context())
        assert told(capsys, "replicator.link.quarantined") == [1]
    assert len(deployed.run(quarantine.notes(deployed.table))) == 1

    deployed.put("1")
    deployed.function.handle(deployed.event(), Context())
    assert told(capsys, "replicator.link.quarantined") == [0]
    assert deployed.run(quarantine.notes(deployed.table)) == []


def test_what_the_time_does_not_suffice_for_is_named(deploy: Callable[..., Deployed]) -> None:
    """A region that is out of reach: the lowest record, as the event spells it, within the time."""
    deployed = deploy(away_url="http://127.0.0.1:1")
    for name in "12":
        deployed.put(name)
    event = deployed.event()
    answer = deployed.function.handle(event, Context(SHORT_MS))

    lowest = event["Records"][0]["dynamodb"]["SequenceNumber"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": lowest}]}


def test_a_decided_conflict_is_in_the_ledger_when_the_answer_is_given(
    deploy: Callable[..., Deployed],
) -> None:
    """The environment may be frozen for ever after it."""
    deployed = deploy()
    rival = Version(1_700_000_000_000_000, AWAY, 7, Kind.SETTLED)
    item: dict[str, Any] = {"id": {"S": "1"}, "_replicator": {"S": rival.text}}
    client(deployed.url, AWAY).put_item(TableName=deployed.table, Item=item)
    deployed.put("1")
    assert deployed.function.handle(deployed.event(), Context()) == {"batchItemFailures": []}

    rows = client(deployed.url, HOME).query(
        TableName=deployed.function.settings.control_table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"conflict#{deployed.table}"}},
    )["Items"]
    assert [row["loser"]["S"] for row in rows] == [rival.text]


def test_what_was_settled_at_home_is_remembered_where_all_environments_see_it(
    deploy: Callable[..., Deployed], tmp_path: Path
) -> None:
    """In the control table: another environment, which is handed the batch again, stamps nothing.

    Records that are young come for the first time, and cost no look.
    """
    deployed = deploy(away_url="http://127.0.0.1:1")
    for name in "12":
        deployed.put(name)
    event = deployed.event()
    for record in event["Records"]:
        record["dynamodb"]["ApproximateCreationDateTime"] -= 3600
    lowest = event["Records"][0]["dynamodb"]["SequenceNumber"]
    named = {"batchItemFailures": [{"itemIdentifier": lowest}]}
    assert deployed.function.handle(event, Context(SHORT_MS)) == named

    config = tmp_path / "replicator.toml"
    config.write_text(config.read_text().replace('"http://127.0.0.1:1"', f'"{deployed.url}"'))
    other = Function.of({"REPLICATOR_CONFIG": str(config), "AWS_REGION": HOME})
    counting = Counting(other.apis[HOME])
    other.apis = {**other.apis, HOME: counting}
    with closing(other):
        assert other.handle(event, Context()) == {"batchItemFailures": []}
        assert "UpdateItem" not in counting.operations
        assert deployed.away() == {"1", "2"}


def test_a_stream_is_read_for_every_table_that_names_it(
    deploy: Callable[..., Deployed], tmp_path: Path
) -> None:
    """One batch serves them all, each with its own filter."""
    deployed = deploy()
    copy = deployed.also(tmp_path, "id > '1'")
    for name in "123":
        deployed.put(name)
    assert deployed.function.handle(deployed.event(), Context()) == {"batchItemFailures": []}
    assert deployed.away() == {"1", "2", "3"}
    assert deployed.away(copy) == {"2", "3"}


def test_a_record_that_is_not_understood_holds_up_no_other(
    deploy: Callable[..., Deployed],
) -> None:
    """The mapping halves the batch until it is alone, gives it up, and tells the destination."""
    deployed = deploy()
    for name in "12345":
        deployed.put(name)
    records = deployed.event()["Records"]
    records[2]["dynamodb"]["NewImage"] = {"id": {"B": "no base64!"}}
    mapping = EventSourceMapping(stream_arn=deployed.arn, now_s=lambda: 0.0, retries_max=2)
    mapping.take_in("s", records)
    while mapping.slots:
        mapping.step(mapping.slots[0], lambda event: deployed.function.handle(event, Context()))

    assert deployed.away() == {"1", "2", "4", "5"}
    (discarded,) = mapping.discarded
    assert discarded.sequences == (records[2]["dynamodb"]["SequenceNumber"],)


def test_a_window_gets_its_state_back(deploy: Callable[..., Deployed]) -> None:
    """A mapping with tumbling windows works, and its last invocation may be empty."""
    deployed = deploy()
    deployed.put("1")
    event = {**deployed.event(), "window": {}, "state": {"n": 7}}
    assert deployed.function.handle(event, Context()) == {
        "batchItemFailures": [],
        "state": {"n": 7},
    }
    last = {"Records": [], "window": {}, "isFinalInvokeForWindow": True}
    assert deployed.function.handle(last, Context()) == {"batchItemFailures": [], "state": {}}


def test_a_stream_without_both_images_is_refused(deploy: Callable[..., Deployed]) -> None:
    """Where several regions write, one image cannot tell an echo; nothing is guessed."""
    deployed = deploy(view_type="NEW_IMAGE")
    deployed.put("1")
    with pytest.raises(Fatal, match="a stream of NEW_IMAGE"):
        deployed.function.handle(deployed.event(), Context())
    assert deployed.away() == set()


def test_a_stream_of_another_table_is_refused(deploy: Callable[..., Deployed]) -> None:
    """It names the table, what is known and what to do."""
    deployed = deploy()
    deployed.put("1")
    event = deployed.event()
    for record in event["Records"]:
        record["eventSourceARN"] = deployed.arn.replace(deployed.table, "someone-elses")
    with pytest.raises(Fatal) as error:
        deployed.function.handle(event, Context())
    assert str(error.value) == (
        f"event: table someone-elses is not read in {HOME}; known: {deployed.table}; "
        "correct the mapping or the configuration"
    )


# --- the environment ---------------------------------------------------------------------------

FILE = f"""
[regions.{HOME}]
[regions.{AWAY}]
[regions.lab]
aws_region = "{HOME}"
profile = "lab"
[tables.orders]
source = "{HOME}"
targets = ["{AWAY}"]
[tables.items]
source = "lab"
targets = ["{AWAY}"]
"""


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "replicator.toml: not found; set REPLICATOR_CONFIG, or put"),
        ({"REPLICATOR_CONFIG": "no.toml"}, "no.toml: not found"),
        ({"REPLICATOR_CONFIG": "file"}, "REPLICATOR_SOURCE: is not set, and AWS_REGION '' fits no"),
        (
            {"REPLICATOR_CONFIG": "file", "AWS_REGION": HOME},
            f"fits several regions; set it to one of lab, {HOME}",
        ),
        (
            {"REPLICATOR_CONFIG": "file", "REPLICATOR_SOURCE": AWAY},
            f"REPLICATOR_SOURCE: {AWAY!r} reads no stream; ",
        ),
        ({"REPLICATOR_TABLES": "{}"}, "environment: regions: "),
    ],
)
def test_a_wrong_environment_is_one_line(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    """It names the variable and the remedy."""
    (tmp_path / "file").write_text(FILE)
    with pytest.raises(ConfigurationError) as error:
        Function.of({"LAMBDA_TASK_ROOT": str(tmp_path), **environment})
    first, *_ = str(error.value).splitlines()
    assert words in first


def test_a_function_may_be_configured_by_its_environment_alone(tmp_path: Path) -> None:
    """Without a file in the package."""
    function = Function.of(
        {
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "AWS_REGION": HOME,
            "REPLICATOR_REGIONS": f'{{"{HOME}": {{}}, "{AWAY}": {{}}}}',
            "REPLICATOR_TABLES": f'{{"orders": {{"source": "{HOME}", "targets": ["{AWAY}"]}}}}',
        }
    )
    with closing(function):
        assert function.source == HOME
        assert set(function.apis) == {HOME, AWAY}
