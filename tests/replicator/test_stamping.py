"""Stamping: what an application's calls look like on the wire, and that nothing else changes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import boto3
import pytest
from boto3.dynamodb.conditions import Attr
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from conflict.version import Kind, Version, parse
from replicator.errors import ConfigurationError
from replicator.stamping import StampClock, enable, process_clock, with_set

NOW_US = 1_800_000_000_000_000
MARKER = "_replicator"


@dataclass
class Wall:
    """A wall clock that stands still unless it is moved."""

    us: int = NOW_US

    def now_us(self) -> int:
        return self.us


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


@dataclass
class Wire:
    """What was sent, attempt by attempt, and what is answered."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def answer(self, request: Any, **_: object) -> AWSResponse:
        """Botocore's `before-send`: stands for the network."""
        self.sent.append(json.loads(request.body))
        status, body = self.answers.pop(0) if self.answers else (200, {})
        headers: Any = {"content-type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, status, headers, _Raw(json.dumps(body).encode()))


@pytest.fixture
def wire() -> Wire:
    """The network of a test."""
    return Wire()


@pytest.fixture
def wall() -> Wall:
    """The wall clock of a test."""
    return Wall()


def _client(wire: Wire, wall: Wall, **options: Any) -> Any:
    config = Config(retries={"total_max_attempts": 3, "mode": "standard"})
    made = boto3.client("dynamodb", region_name="us-east-1", config=config)
    made.meta.events.register("before-send.dynamodb", cast("Any", wire.answer))
    enable(made, region="us", clock=StampClock(wall), **options)
    return made


def _resource(wire: Wire, wall: Wall) -> Any:
    made = boto3.resource("dynamodb", region_name="us-east-1")
    made.meta.client.meta.events.register("before-send.dynamodb", cast("Any", wire.answer))
    enable(made, region="us", clock=StampClock(wall))
    return made


def _stamp(value: dict[str, str]) -> Version:
    version = parse(value["S"])
    assert version is not None
    assert (version.origin, version.kind) == ("us", Kind.APPLICATION)
    return version


def _marked(request: dict[str, Any]) -> dict[str, Any]:
    """The value that an update's stamp sets."""
    names = request["ExpressionAttributeNames"]
    (name,) = [name for name, attribute in names.items() if attribute == MARKER]
    after = request["UpdateExpression"].partition(f"{name} = ")[2]
    value: dict[str, Any] = request["ExpressionAttributeValues"][after.partition(",")[0].split()[0]]
    return value


def test_a_put_carries_its_version_and_keeps_the_rest(wire: Wire, wall: Wall) -> None:
    """The marker joins the item; the caller's own item and every other argument stay."""
    item = {"id": {"S": "1"}, MARKER: {"S": "copied from elsewhere"}}
    _client(wire, wall).put_item(TableName="t", Item=item, ReturnValues="ALL_OLD")

    (sent,) = wire.sent
    assert _stamp(sent["Item"].pop(MARKER)).time_us == NOW_US
    assert sent == {"TableName": "t", "Item": {"id": {"S": "1"}}, "ReturnValues": "ALL_OLD"}
    assert item[MARKER] == {"S": "copied from elsewhere"}


@pytest.mark.parametrize(
    ("expression", "merged"),
    [
        ("", "SET #m = :m"),
        ("SET a = :a", "SET #m = :m, a = :a"),
        ("set a = :a REMOVE b", "set #m = :m, a = :a REMOVE b"),
        ("REMOVE b", "REMOVE b SET #m = :m"),
        ("ADD n :one DELETE s :s", "ADD n :one DELETE s :s SET #m = :m"),
        ("REMOVE b\nSET\ta = :a", "REMOVE b\nSET #m = :m,\ta = :a"),
        ("REMOVE #set, a.set, reset, set_a SET b=:set", None),
        ("ADD #SET :set", "ADD #SET :set SET #m = :m"),
    ],
)
def test_an_update_gets_one_assignment_more(expression: str, merged: str | None) -> None:
    """The SET clause is found among whatever clauses there are; names with SET in them are not."""
    expected = merged or "REMOVE #set, a.set, reset, set_a SET #m = :m, b=:set"
    assert with_set(expression, "#m = :m") == expected


def test_placeholders_do_not_meet_the_callers(wire: Wire, wall: Wall) -> None:
    """Where the caller uses the very names of the stamp's placeholders, others are taken."""
    _client(wire, wall).update_item(
        TableName="t",
        Key={"id": {"S": "1"}},
        UpdateExpression="SET #replicator = :replicator",
        ExpressionAttributeNames={"#replicator": "a"},
        ExpressionAttributeValues={":replicator": {"N": "1"}},
    )

    (sent,) = wire.sent
    _stamp(_marked(sent))
    assert sent["ExpressionAttributeNames"]["#replicator"] == "a"
    assert sent["ExpressionAttributeValues"][":replicator"] == {"N": "1"}


def test_a_callers_placeholder_for_the_marker_is_used(wire: Wire, wall: Wall) -> None:
    """A condition may name the marker; the stamp uses the same placeholder for it."""
    _client(wire, wall).update_item(
        TableName="t",
        Key={"id": {"S": "1"}},
        ConditionExpression="attribute_exists(#mine)",
        ExpressionAttributeNames={"#mine": MARKER},
    )

    assert wire.sent[0]["ExpressionAttributeNames"] == {"#mine": MARKER}
    assert wire.sent[0]["UpdateExpression"].startswith("SET #mine = :")


@pytest.mark.parametrize("expression", ["SET #m = :m", "SET a = :m REMOVE #m"])
def test_an_update_that_names_the_marker_is_left_alone(
    wire: Wire, wall: Wall, expression: str
) -> None:
    """Two assignments of one path would be refused."""
    values = {":m": {"S": "x"}}
    _client(wire, wall).update_item(
        TableName="t",
        Key={"id": {"S": "1"}},
        UpdateExpression=expression,
        ExpressionAttributeNames={"#m": MARKER},
        ExpressionAttributeValues=values,
    )

    assert wire.sent[0]["UpdateExpression"] == expression
    assert wire.sent[0]["ExpressionAttributeValues"] == values


@pytest.mark.parametrize("legacy", ["AttributeUpdates", "Expected"])
def test_a_legacy_update_is_stamped_in_its_own_form(wire: Wire, wall: Wall, legacy: str) -> None:
    """Expressions and the older parameters may not be mixed in one call."""
    arguments: dict[str, Any] = {
        "AttributeUpdates": {"a": {"Action": "ADD", "Value": {"N": "1"}}},
        "Expected": {"a": {"Exists": False}},
    }
    _client(wire, wall).update_item(
        TableName="t", Key={"id": {"S": "1"}}, **{legacy: arguments[legacy]}
    )

    (sent,) = wire.sent
    change = sent["AttributeUpdates"].pop(MARKER)
    assert change["Action"] == "PUT"
    _stamp(change["Value"])
    assert "UpdateExpression" not in sent
    assert sent[legacy] == arguments[legacy]


def test_a_batch_stamps_puts_and_leaves_deletes(wire: Wire, wall: Wall) -> None:
    """Every put of the call has one version; a delete is as it was."""
    delete = {"DeleteRequest": {"Key": {"id": {"S": "9"}}}}
    puts = [{"PutRequest": {"Item": {"id": {"S": name}}}} for name in "12"]
    _client(wire, wall).batch_write_item(RequestItems={"t": [*puts, delete], "u": [puts[0]]})

    sent = wire.sent[0]["RequestItems"]
    stamps = [
        _stamp(request["PutRequest"]["Item"][MARKER]) for request in (*sent["t"][:2], sent["u"][0])
    ]
    assert len(set(stamps)) == 1
    assert sent["t"][2] == delete
    assert MARKER not in puts[0]["PutRequest"]["Item"]


def test_a_transaction_stamps_puts_and_updates(wire: Wire, wall: Wall) -> None:
    """Deletes and condition checks of a transaction are as they were."""
    key = {"TableName": "t", "Key": {"id": {"S": "3"}}}
    others = [
        {"Delete": key},
        {"ConditionCheck": {**key, "ConditionExpression": "attribute_exists(id)"}},
    ]
    _client(wire, wall).transact_write_items(
        TransactItems=[
            {"Put": {"TableName": "t", "Item": {"id": {"S": "1"}}}},
            {"Update": {**key, "Key": {"id": {"S": "2"}}, "UpdateExpression": "REMOVE a"}},
            *others,
        ]
    )

    put, update, *rest = wire.sent[0]["TransactItems"]
    assert _stamp(put["Put"]["Item"][MARKER]) == _stamp(_marked(update["Update"]))
    assert rest == others


def test_a_transaction_with_a_token_of_the_callers_is_left_alone(wire: Wire, wall: Wall) -> None:
    """A token is refused with other parameters than before, and a stamp is never the same."""
    items = [{"Put": {"TableName": "t", "Item": {"id": {"S": "1"}}}}]
    _client(wire, wall).transact_write_items(TransactItems=items, ClientRequestToken="mine")

    assert wire.sent[0]["TransactItems"] == items


def test_reads_deletes_and_partiql_are_left_alone(wire: Wire, wall: Wall) -> None:
    """Nothing but the four writes is touched."""
    client = _client(wire, wall)
    client.get_item(TableName="t", Key={"id": {"S": "1"}})
    client.delete_item(TableName="t", Key={"id": {"S": "1"}})
    client.execute_statement(Statement="INSERT INTO t VALUE {'id': '1'}")

    assert MARKER not in json.dumps(wire.sent)


def test_a_retry_keeps_its_stamp(wire: Wire, wall: Wall) -> None:
    """What botocore sends again after a 500 is the same version, however late it is."""
    wire.answers = [(500, {"__type": "InternalServerError"}), (200, {})]
    _client(wire, wall).put_item(TableName="t", Item={"id": {"S": "1"}})

    first, second = wire.sent
    assert first == second
    _stamp(first["Item"][MARKER])


def test_only_named_tables_are_stamped(wire: Wire, wall: Wall) -> None:
    """`tables` limits it, by name or by ARN, in batches as well."""
    client = _client(wire, wall, tables=["t"])
    put = {"PutRequest": {"Item": {"id": {"S": "1"}}}}
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t"
    client.put_item(TableName="u", Item={"id": {"S": "1"}})
    client.put_item(TableName=arn, Item={"id": {"S": "1"}})
    client.batch_write_item(RequestItems={"t": [put], "u": [put]})

    assert MARKER not in wire.sent[0]["Item"]
    _stamp(wire.sent[1]["Item"][MARKER])
    _stamp(wire.sent[2]["RequestItems"]["t"][0]["PutRequest"]["Item"][MARKER])
    assert wire.sent[2]["RequestItems"]["u"] == [put]


def test_a_resource_and_its_tables_are_stamped(wire: Wire, wall: Wall) -> None:
    """Python values, condition objects and batch_writer: the stamp is in wire form all the same."""
    wire.answers = [(200, {}), (200, {}), (200, {"UnprocessedItems": {}})]
    table = _resource(wire, wall).Table("t")
    table.put_item(Item={"id": "1", "n": 5})
    table.update_item(
        Key={"id": "1"},
        UpdateExpression="ADD n :one",
        ConditionExpression=Attr("n").eq(5),
        ExpressionAttributeValues={":one": 1},
    )
    with table.batch_writer() as batch:
        batch.put_item(Item={"id": "2"})

    put, update, batched = wire.sent
    _stamp(put["Item"].pop(MARKER))
    assert put["Item"] == {"id": {"S": "1"}, "n": {"N": "5"}}
    _stamp(_marked(update))
    assert update["ConditionExpression"] == "#n0 = :v0"
    _stamp(batched["RequestItems"]["t"][0]["PutRequest"]["Item"][MARKER])


@pytest.mark.parametrize("returned", ["UPDATED_NEW", "UPDATED_OLD"])
def test_an_answer_holds_what_the_caller_updated(wire: Wire, wall: Wall, returned: str) -> None:
    """The marker is not among the attributes that the caller's own update changed."""
    stamp = {"S": Version(7, "us", 1, Kind.APPLICATION).text}
    wire.answers = [
        (200, {"Attributes": {"a": {"N": "1"}, MARKER: stamp}}),
        (200, {"Attributes": {MARKER: stamp}}),
    ]
    client = _client(wire, wall)
    update = {"TableName": "t", "Key": {"id": {"S": "1"}}, "UpdateExpression": "REMOVE b"}

    assert client.update_item(**update, ReturnValues=returned)["Attributes"] == {"a": {"N": "1"}}
    assert "Attributes" not in client.update_item(**update, ReturnValues=returned)


def _seen_in(version: Version) -> list[tuple[str, dict[str, Any], tuple[int, dict[str, Any]]]]:
    item = {"id": {"S": "1"}, MARKER: {"S": version.text}}
    key = {"TableName": "t", "Key": {"id": {"S": "1"}}}
    failed = {"__type": "x#ConditionalCheckFailedException", "Item": item}
    canceled = {
        "__type": "x#TransactionCanceledException",
        "CancellationReasons": [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": item}],
    }
    return [
        ("get_item", key, (200, {"Item": item})),
        ("scan", {"TableName": "t"}, (200, {"Items": [item], "Count": 1})),
        (
            "batch_get_item",
            {"RequestItems": {"t": {"Keys": [key["Key"]]}}},
            (200, {"Responses": {"t": [item]}}),
        ),
        (
            "transact_get_items",
            {"TransactItems": [{"Get": key}]},
            (200, {"Responses": [{}, {"Item": item}]}),
        ),
        ("delete_item", {**key, "ReturnValues": "ALL_OLD"}, (200, {"Attributes": item})),
        ("put_item", {"TableName": "t", "Item": {"id": {"S": "1"}}}, (400, failed)),
        (
            "transact_write_items",
            {"TransactItems": [{"Delete": key}]},
            (400, canceled),
        ),
    ]


@pytest.mark.parametrize("call", range(7))
def test_a_stamp_is_later_than_all_that_was_seen(wire: Wire, wall: Wall, call: int) -> None:
    """Whatever answer showed it, also one that refused: another region's version is overtaken."""
    seen = Version(NOW_US + 5_000_000, "eu", 3, Kind.REPLICATED)
    name, arguments, answer = _seen_in(seen)[call]
    client = _client(wire, wall)
    wire.answers = [answer]
    if answer[0] == 200:
        getattr(client, name)(**arguments)
    else:
        with pytest.raises(client.exceptions.ClientError):
            getattr(client, name)(**arguments)
    client.put_item(TableName="t", Item={"id": {"S": "1"}})

    assert _stamp(wire.sent[-1]["Item"][MARKER]).time_us == seen.time_us + 1


def test_a_version_from_too_far_ahead_is_not_followed(wall: Wall) -> None:
    """One forged marker does not drag every later write of the process along."""
    clock = StampClock(wall, future_bound_us=10)
    clock.saw(NOW_US + 11)
    assert clock.next_us() == NOW_US
    clock.saw(NOW_US + 10)
    assert clock.next_us() == NOW_US + 11


def test_stamps_rise_while_the_clock_does_not(wall: Wall) -> None:
    """A wall clock that stands or goes back is overtaken."""
    clock = StampClock(wall)
    times = [clock.next_us()]
    wall.us -= 1_000_000
    times += [clock.next_us() for _ in range(3)]
    assert times == [NOW_US, NOW_US + 1, NOW_US + 2, NOW_US + 3]


def test_two_clients_of_a_process_share_the_clock() -> None:
    """Else one's write could be stamped below what the other has just written."""
    assert process_clock() is process_clock()


def test_a_forked_process_gives_other_versions(wire: Wire, wall: Wall) -> None:
    """Parent and child stamp in the same microsecond, and no two versions are the same."""
    client = _client(wire, wall)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        client.put_item(TableName="t", Item={"id": {"S": "1"}})
        os.write(writer, wire.sent[0]["Item"][MARKER]["S"].encode())
        os._exit(0)
    os.waitpid(child, 0)
    client.put_item(TableName="t", Item={"id": {"S": "1"}})

    theirs = parse(os.read(reader, 1000).decode())
    ours = _stamp(wire.sent[0]["Item"][MARKER])
    assert theirs is not None
    assert theirs.time_us == ours.time_us
    assert theirs.order != ours.order


@pytest.mark.parametrize("wrong", ["region", "service", "twice"])
def test_wrong_use_is_one_line(wire: Wire, wall: Wall, wrong: str) -> None:
    """A name that no region can have, another service's client, a second time."""
    client = _client(wire, wall) if wrong == "twice" else boto3.client("dynamodb", "us-east-1")
    if wrong == "service":
        client = boto3.client("dynamodbstreams", "us-east-1")
    with pytest.raises(ConfigurationError) as error:
        enable(client, region="not a region" if wrong == "region" else "us")
    assert str(error.value).startswith("stamping: ")
    assert "\n" not in str(error.value)
