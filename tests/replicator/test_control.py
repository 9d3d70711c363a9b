"""Rows of the control table: their layout, their conditions, and what is made of damaged ones.

That tombstones, held writes and checkpoints behave as their ports say is tested by the contract
suite, against engines that evaluate the conditions.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from conflict.operations import Hold, Item, Key, RaiseTombstone, Release, marker_of
from conflict.version import Kind, Version
from replicator.control import (
    RETENTION_S,
    create_control_table_request,
    digest,
    time_to_live_request,
)
from replicator.errors import ConditionFailed, Fatal
from replicator.key_states import ControlKeyStates
from replicator.packing import packed
from replicator.positions import AT_HOME, ControlCheckpoints, ControlPositions
from replicator.records import After, Checkpoint, Finished
from support.clock import START_US, VirtualClock
from support.scripted_api import ScriptedApi, Wire

PERSON = "jane@example.org"
KEY = Key({"id": {"S": PERSON}}, f'["S{PERSON}"]')
VERSION = Version(17, "eu-west-1", 4, Kind.REPLICATED)
ARN = "arn:aws:dynamodb:us-east-1:1:table/orders/stream/2026-01-01T00:00:00.000"
EXPIRES = {"N": str(START_US // 1_000_000 + RETENTION_S)}
ROW: dict[str, Any] = {"pk": {"S": f"key#orders#{digest(KEY)}"}, "sk": {"S": "state"}}


def states(api: ScriptedApi, clock: VirtualClock) -> ControlKeyStates:
    """Put the key states of one table before a scripted Api."""
    return ControlKeyStates(
        api=api, control_table="control", table="orders", clock=clock, sleep=clock.sleep
    )


def checkpoints(api: ScriptedApi, clock: VirtualClock) -> ControlCheckpoints:
    """Put the checkpoints before a scripted Api."""
    return ControlCheckpoints(api=api, control_table="control", clock=clock)


def checkpoint(position: After | Finished) -> Checkpoint:
    """Make a checkpoint of one shard."""
    return Checkpoint(
        table="orders", source="us", stream_arn=ARN, shard="shardId-1", position=position
    )


def test_the_control_table_is_billed_on_demand() -> None:
    """Its keys are two texts, and rows expire by `expires_at`."""
    request = create_control_table_request("control")
    assert request["BillingMode"] == "PAY_PER_REQUEST"
    assert request["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    specification = time_to_live_request("control")["TimeToLiveSpecification"]
    assert specification == {"Enabled": True, "AttributeName": "expires_at"}


def test_a_tombstone_rises_by_its_order_text() -> None:
    """The condition compares orders, so that an equal one stands; retention starts anew."""
    clock, api = VirtualClock(), ScriptedApi({})
    raised = clock.run(states(api, clock).raise_tombstone(RaiseTombstone("eu", KEY, VERSION)))
    assert raised is None
    [request] = api.requests
    assert request["Key"] == ROW
    assert request["ConditionExpression"] == (
        "attribute_not_exists(tombstone) OR tombstone < :order"
    )
    assert request["ExpressionAttributeValues"] == {
        ":version": {"S": VERSION.text},
        ":order": {"S": VERSION.order_text},
        ":expires": EXPIRES,
    }


def test_a_key_never_appears_in_clear() -> None:
    """A row is named by a digest, which differs by key."""
    clock, api = VirtualClock(), ScriptedApi({}, {"Responses": {}})
    clock.run(states(api, clock).raise_tombstone(RaiseTombstone("eu", KEY, VERSION)))
    clock.run(states(api, clock).read([KEY]))
    assert PERSON not in repr(api.calls)
    assert digest(KEY) != digest(Key(KEY.attributes, "another"))


def test_a_sequence_of_forty_digits_is_held_and_released() -> None:
    """Sequences are compared as padded texts: a number of DynamoDB has 38 digits only."""
    clock, api = VirtualClock(), ScriptedApi({}, {})
    long = Version(17, "eu-west-1", 10**39, Kind.REPLICATED)
    clock.run(states(api, clock).hold(Hold("eu", KEY, Item({}, marker_of(long)))))
    clock.run(states(api, clock).release(Release("eu", KEY, 5)))
    hold, release = (request["ExpressionAttributeValues"] for request in api.requests)
    assert hold[":sequence"] == {"S": "1" + "0" * 39}
    assert release[":before"] == {"S": "5".zfill(40)}
    assert release[":before"]["S"] < hold[":sequence"]["S"]


def test_a_write_without_a_version_cannot_be_held() -> None:
    """Holding is a decision on versions."""
    clock = VirtualClock()
    with pytest.raises(TypeError):
        clock.run(states(ScriptedApi(), clock).hold(Hold("eu", KEY, Item({}, None))))


GOOD_HELD: dict[str, Any] = {"held_version": {"S": VERSION.text}, "held_image": {"B": packed({})}}


@pytest.mark.parametrize(
    "damage",
    [
        {"tombstone": {"S": VERSION.text[:-1]}},
        {"tombstone": {"N": "7"}},
        {**GOOD_HELD, "held_version": {"S": "later"}},
        {**GOOD_HELD, "held_image": {"B": b"not packed"}},
        {"held_version": GOOD_HELD["held_version"]},
    ],
)
def test_a_damaged_state_stops_the_table(damage: dict[str, Any]) -> None:
    """To take a damaged tombstone for none could bring a deleted item back."""
    clock = VirtualClock()
    api = ScriptedApi({"Responses": {"control": [{**ROW, **damage}]}})
    with pytest.raises(Fatal, match=rf"control: key#orders#{digest(KEY)}: .* is malformed"):
        clock.run(states(api, clock).read([KEY]))


def test_a_tombstone_that_cannot_be_compared_stops_the_table() -> None:
    """What stands in the way of a tombstone must itself be one."""
    clock, api = VirtualClock(), ScriptedApi(ConditionFailed({**ROW, "tombstone": {"S": "zzz"}}))
    with pytest.raises(Fatal, match="tombstone is malformed"):
        clock.run(states(api, clock).raise_tombstone(RaiseTombstone("eu", KEY, VERSION)))


def checkpoint_row(settled: dict[str, Any]) -> Wire:
    """Make the stored row of `checkpoint`."""
    key = {"pk": {"S": "checkpoint#orders#us"}, "sk": {"S": f"{ARN}#shardId-1"}}
    return {**key, "settled": settled}


@pytest.mark.parametrize(
    ("position", "text"), [(After(5), "5".zfill(40)), (Finished(), "finished")]
)
def test_a_checkpoint_only_rises(position: After | Finished, text: str) -> None:
    """Positions sort as texts, the end of a shard above all."""
    clock, api = VirtualClock(), ScriptedApi({})
    clock.run(checkpoints(api, clock).save(checkpoint(position)))
    [request] = api.requests
    assert request["ConditionExpression"] == "attribute_not_exists(settled) OR settled < :settled"
    assert request["ExpressionAttributeValues"][":settled"] == {"S": text}
    assert text <= "finished"


def test_only_a_finished_checkpoint_expires() -> None:
    """Without the others a long outage would not be seen as a gap."""
    clock, api = VirtualClock(), ScriptedApi({}, {})
    clock.run(checkpoints(api, clock).save(checkpoint(After(5))))
    clock.run(checkpoints(api, clock).save(checkpoint(Finished())))
    running, finished = api.requests
    assert "expires_at" not in running["UpdateExpression"]
    assert "expires_at = :expires" in finished["UpdateExpression"]
    assert finished["ExpressionAttributeValues"][":expires"] == EXPIRES


def test_a_position_at_home_is_another_row_and_always_expires() -> None:
    """A checkpoint beyond it makes it useless, and nothing else removes it."""
    clock, api = VirtualClock(), ScriptedApi({}, {"Items": []})
    at_home = ControlPositions(api=api, control_table="control", clock=clock, kind=AT_HOME)
    clock.run(at_home.save(checkpoint(After(5))))
    clock.run(at_home.load("orders", "us"))
    saved, loaded = api.requests
    assert saved["Key"]["pk"] == {"S": "home#orders#us"}
    assert saved["ExpressionAttributeValues"][":expires"] == EXPIRES
    assert loaded["ExpressionAttributeValues"] == {":pk": {"S": "home#orders#us"}}


MALFORMED = [{"S": "5"}, {"S": "5".zfill(39)}, {"S": "zzz"}, {"S": "٣".zfill(40)}, {"N": "5"}, {}]


@pytest.mark.parametrize("settled", MALFORMED)
def test_a_damaged_checkpoint_is_reported_and_left_out(
    settled: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The shard is then read from its oldest record, which is harmless, and not in silence."""
    clock, api = VirtualClock(), ScriptedApi({"Items": [checkpoint_row(settled)]})
    with caplog.at_level(logging.WARNING):
        assert clock.run(checkpoints(api, clock).load("orders", "us")) == []
    [event] = caplog.records
    assert event.getMessage() == "checkpoint.malformed"
    assert vars(event)["shard"] == "shardId-1"


@pytest.mark.parametrize("settled", MALFORMED[:-1])
def test_a_damaged_checkpoint_is_overwritten(settled: dict[str, Any]) -> None:
    """One that sorts above all positions would otherwise stand for ever; nothing else may."""
    clock, api = VirtualClock(), ScriptedApi(ConditionFailed(checkpoint_row(settled)), {})
    clock.run(checkpoints(api, clock).save(checkpoint(After(5))))
    assert api.requests[1]["ConditionExpression"] == "settled = :malformed"
    assert api.requests[1]["ExpressionAttributeValues"][":malformed"] == settled


def test_a_checkpoint_behind_the_stored_one_is_dropped() -> None:
    """A worker that comes back from the dead moves nothing back."""
    clock, api = VirtualClock(), ScriptedApi(ConditionFailed(checkpoint_row({"S": "9".zfill(40)})))
    clock.run(checkpoints(api, clock).save(checkpoint(After(5))))
    assert len(api.calls) == 1


def test_all_pages_of_checkpoints_are_loaded() -> None:
    """A query goes on until no key is left to go on from."""
    row = checkpoint_row({"S": "7".zfill(40)})
    clock, api = (
        VirtualClock(),
        ScriptedApi({"Items": [row], "LastEvaluatedKey": ROW}, {"Items": []}),
    )
    assert clock.run(checkpoints(api, clock).load("orders", "us")) == [checkpoint(After(7))]
    assert [request.get("ExclusiveStartKey") for request in api.requests] == [None, ROW]
    assert all(request["ConsistentRead"] for request in api.requests)
