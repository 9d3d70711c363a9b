"""Rows that hold a moment, which only rises: until when all was read, was across, was heard of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from replicator.aws.api import Boto3Api
from replicator.control import ControlTable, create_control_table_request, row_key
from replicator.handover.across import Across
from replicator.heartbeats import ControlRow
from replicator.positions import ControlCheckpoints
from support.clock import VirtualClock
from support.engines import Engine
from support.scripted_api import ScriptedApi
from support.tables import unique_name

CONTROL = "control"


@pytest.fixture(scope="module")
def api(engine: Callable[[str], Engine]) -> Iterator[tuple[Boto3Api, str]]:
    """Give a control table in an engine that evaluates conditions."""
    url, name = engine("ministack").endpoint_url, unique_name()
    with closing(Boto3Api.open(region="eu-west-1", endpoint_url=url)) as opened:
        asyncio.run(opened.call("CreateTable", create_control_table_request(name)))
        yield opened, name


@pytest.mark.parametrize(
    ("stands", "then"),
    [
        (None, "17"),
        ({"N": "16"}, "17"),
        ({"N": "17"}, "17"),
        ({"N": "18"}, "18"),
        ({"S": "x"}, "17"),
        ({"L": []}, "17"),
        ({"N": "-1"}, "17"),
        ({"N": "1E40"}, "17"),
    ],
    ids=str,
)
def test_a_moment_rises_and_what_is_none_gives_way(
    api: tuple[Boto3Api, str], stands: dict[str, Any] | None, then: str
) -> None:
    """A worker back from the dead does no harm, and a malformed row does not stand for ever."""
    opened, name = api
    control, key = ControlTable(api=opened, name=name), row_key("read#orders", unique_name())

    async def raised() -> list[dict[str, Any]]:
        if stands is not None:
            await opened.call("PutItem", {"TableName": name, "Item": {**key, "read_us": stands}})
        await control.raise_moment(key, "read_us", 17)
        return await control.query("read#orders", since=key["sk"]["S"])

    assert asyncio.run(raised())[0] == {**key, "read_us": {"N": then}}


def test_all_rows_that_hold_a_moment_are_raised() -> None:
    """Each by its own attribute, and in a row of its own."""
    api = ScriptedApi({}, {}, {})
    control = ControlTable(api=api, name=CONTROL)

    async def note() -> None:
        checkpoints = ControlCheckpoints(api=api, control_table=CONTROL, clock=VirtualClock())
        await checkpoints.note_read("orders", "us", 17)
        await Across(api=api, control_table=CONTROL).note("orders", "us", 17)
        await ControlRow(control=control, table="orders", source="us").send(17)

    asyncio.run(note())
    assert [request["Item"] for request in api.requests] == [
        {**row_key("read#orders#us", "state"), "read_us": {"N": "17"}},
        {**row_key("across#orders", "us"), "until_us": {"N": "17"}},
        {**row_key("heartbeat#orders", "us"), "sent_us": {"N": "17"}},
    ]
    assert all("< :moment" in request["ConditionExpression"] for request in api.requests)


def test_what_was_read_last_comes_back() -> None:
    """To the microsecond; nothing where nothing was noted, and long ago where it is malformed."""
    row = {**row_key("read#orders#us", "state"), "read_us": {"N": "17"}}
    for rows, read_us in (([row], 17), ([], None), ([{**row, "read_us": {"S": "x"}}], 0)):
        checkpoints = ControlCheckpoints(
            api=ScriptedApi({"Items": rows}), control_table=CONTROL, clock=VirtualClock()
        )
        assert asyncio.run(checkpoints.last_read("orders", "us")) == read_us
