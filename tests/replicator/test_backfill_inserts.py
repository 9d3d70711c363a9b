"""Inserts in batches: what stands is never overwritten, what is throttled never dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from random import Random
from typing import Any

import pytest

from replicator.aws.api import Boto3Api
from replicator.backfill.inserts import STATEMENT_CHARACTERS_MAX, Inserts
from replicator.backfill.work import Watch
from replicator.errors import Fatal, ReplicatorError, Transient
from replicator.ports import Api
from replicator.rate import Bucket
from replicator.writer import RegionPort, Writer, WriterLimits
from support.adapters import MemoryPorts
from support.clock import VirtualClock
from support.engines import Engine
from support.memory import MemoryRegion
from support.scripted_api import ScriptedApi, Wire
from support.tables import client, create_table, unique_name

REGION = "eu-west-1"
ODD_NAMES: Wire = {
    'it\'s "odd"': {"S": "'"},
    "\xfc.[0]": {"L": [{"M": {}}]},
    "n": {"N": "1234567890123456789012345678901234567.5"},
    "b": {"B": b"\0"},
    "e": {"S": ""},
}


def numbered(*numbers: int) -> list[Wire]:
    """Items by number."""
    return [{"id": {"S": str(number)}, **ODD_NAMES} for number in numbers]


def inserts(api: Api, table: str, clock: VirtualClock) -> Inserts:
    """Inserts over an Api; the writer behind them is used for its patience only."""
    ports = MemoryPorts(MemoryRegion(REGION), sleep=clock.sleep)
    port = RegionPort(table=ports, states=ports, concurrency=1, limit_us=lambda: 0)
    writer = Writer(
        regions={REGION: port},
        limits=WriterLimits(),
        observer=Watch(asyncio.get_running_loop().create_future()),
        sleep=clock.sleep,
        rng=Random(1),
    )
    bucket = Bucket(None, monotonic_s=clock.monotonic_s, sleep=clock.sleep)
    return Inserts(api=api, table=table, region=REGION, writer=writer, bucket=bucket)


def run(clock: VirtualClock, api: Api, *pages: list[Wire]) -> list[list[bool]]:
    """Insert some pages, one after the other."""

    async def main() -> list[list[bool]]:
        subject = inserts(api, "orders", clock)
        return [await subject.insert(page, [1.0] * len(page)) for page in pages]

    return clock.run(main())


def answers(*codes: str | None) -> Wire:
    """An answer with these errors."""
    return {"Responses": [{} if code is None else {"Error": {"Code": code}} for code in codes]}


@pytest.mark.parametrize("name", ["dynamodb-local", "ministack", "moto"])
def test_only_empty_places_are_filled(name: str, engine: Callable[[str], Engine]) -> None:
    """On every engine: what could be inserted is there verbatim, and what stood stands."""
    url = engine(name).endpoint_url
    table = unique_name()
    create_table(url, REGION, table, None)
    boto = client(url, REGION)
    standing: Any = {"id": {"S": "3"}, "own": {"S": "x"}}
    boto.put_item(TableName=table, Item=standing)

    async def main(api: Api) -> list[bool]:
        return await inserts(api, table, VirtualClock()).insert(numbered(*range(60)), [1.0] * 60)

    with closing(Boto3Api.open(region=REGION, endpoint_url=url, threads=4)) as api:
        made = asyncio.run(main(api))
    found = {item["id"]["S"]: item for item in boto.scan(TableName=table)["Items"]}
    assert not made[3]
    assert found.pop("3") == standing
    assert found == {
        item["id"]["S"]: item for item in numbered(*range(60)) if made[int(item["id"]["S"])]
    }
    assert any(made) == (name != "moto")


def test_a_batch_has_at_most_25_statements() -> None:
    """All of them are made, in as many calls as it takes."""
    api = ScriptedApi(*(answers(*[None] * count) for count in (25, 25, 7)))
    assert run(VirtualClock(), api, numbered(*range(57))) == [[True] * 57]
    assert [len(request["Statements"]) for request in api.requests] == [25, 25, 7]


def test_what_stands_is_told_by_its_place() -> None:
    """The others of the batch are inserted."""
    api = ScriptedApi(answers(None, "DuplicateItem", None, "ValidationError"))
    assert run(VirtualClock(), api, numbered(*range(4))) == [[True, False, True, False]]


def test_throttled_statements_are_made_again() -> None:
    """Until each has been answered; only they."""
    throttled = "ProvisionedThroughputExceeded"
    api = ScriptedApi(
        answers(None, throttled, throttled),
        answers(throttled, throttled),
        answers("ThrottlingError", None),
        answers("DuplicateItem"),
    )
    assert run(VirtualClock(), api, numbered(1, 2, 3)) == [[True, False, True]]
    texts = [[s["Parameters"][0]["S"] for s in r["Statements"]] for r in api.requests]
    assert texts == [["1", "2", "3"], ["2", "3"], ["2", "3"], ["2"]]


@pytest.mark.parametrize(
    "first",
    [
        [Fatal("BatchExecuteStatement: UnknownOperationException")],
        [Transient("500")] * 3,
        [answers("AccessDenied", "AccessDenied")],
    ],
)
def test_what_does_not_support_batches_is_asked_once(first: list[Wire | ReplicatorError]) -> None:
    """From then on everything goes the other way."""
    api = ScriptedApi(*first)
    done = run(VirtualClock(), api, numbered(1, 2), numbered(3, 4))
    assert done == [[False, False], [False, False]]
    assert len(api.calls) == len(first)


def test_a_failure_that_passes_is_no_lack_of_support() -> None:
    """The first batch has a few tries, and later ones as many as it takes."""
    api = ScriptedApi(Transient("reset"), answers(None), *[Transient("reset")] * 9, answers(None))
    assert run(VirtualClock(), api, numbered(1), numbered(2)) == [[True], [True]]


def test_one_item_that_spoils_a_call_spoils_no_other() -> None:
    """The whole batch goes the way of single writes, where each is judged by itself."""
    api = ScriptedApi(answers(None), Fatal("ValidationException"), answers(None))
    done = run(VirtualClock(), api, numbered(1), numbered(2, 3), numbered(4))
    assert done == [[True], [False, False], [True]]


def test_a_statement_that_is_too_long_is_left_out() -> None:
    """An item of very many attributes is written by itself."""
    wide: Wire = {"id": {"S": "w"}, **{"a" * 200 + str(n): {"S": ""} for n in range(50)}}
    assert sum(map(len, wide)) > STATEMENT_CHARACTERS_MAX
    api = ScriptedApi(answers(None))
    assert run(VirtualClock(), api, [wide, *numbered(1)]) == [[False, True]]


def test_values_are_parameters() -> None:
    """Nothing of an item's content stands in a statement, and quotes in names are doubled."""
    api = ScriptedApi(answers(None))
    run(VirtualClock(), api, numbered(1))
    (statement,) = api.requests[0]["Statements"]
    assert statement["Statement"].startswith(
        "INSERT INTO \"orders\" VALUE {'id': ?, 'it''s \"odd\"': ?, "
    )
    assert statement["Parameters"][0] == {"S": "1"}
