"""`replicator conflicts`: the ledgers of all regions, on a real engine."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conflict.version import Kind, Version
from replicator.aws.api import Boto3Api
from replicator.configuration import settings_of
from replicator.conflicts import PAGE_ROWS, Found, Wanted, export, gather, newest, show
from replicator.control import ControlTable, create_control_table_request
from replicator.errors import ConfigurationError, Transient
from replicator.ledger import Conflict, Ledger, Secret, Side
from replicator.ports import Api
from support.clock import START_US, VirtualClock
from support.engines import Engine
from support.ledgers import Desk, MemoryControl, conflict
from support.tables import unique_name


@pytest.fixture
def regions(engine: Callable[[str], Engine]) -> Iterator[dict[str, Any]]:
    """Two regions with control tables of their own, and the settings that name them."""
    url, name = engine("ministack").endpoint_url, unique_name("control")
    apis = {
        region: Boto3Api.open(region=region, endpoint_url=url)
        for region in ("us-east-1", "eu-west-1")
    }
    document = {
        "regions": {region: {"endpoint_url": url} for region in apis},
        "tables": {"orders": {"regions": list(apis)}, "other": {"regions": list(apis)}},
        "control_table": name,
    }
    with closing(apis["us-east-1"]), closing(apis["eu-west-1"]), asyncio.Runner() as runner:
        for api in apis.values():
            runner.run(api.call("CreateTable", create_control_table_request(name)))
        yield {"apis": apis, "settings": settings_of(document, {}, stated_by="test")}


def test_the_ledgers_of_all_regions_are_read_as_one(
    regions: dict[str, Any], tmp_path: Path
) -> None:
    """Filtered by table, region and time; exported as lines that only their owner may read."""
    apis, settings, clock = regions["apis"], regions["settings"], VirtualClock()

    async def write(source: str, *conflicts: Conflict) -> None:
        control = ControlTable(api=apis[source], name=settings.control_table)
        ledger = Ledger(
            region=source,
            control=control,
            secret=Secret(control, None),
            clock=clock,
            sleep=asyncio.sleep,
        )
        for each in conflicts:
            ledger.note(each)
        await ledger.write_rest()
        assert ledger.stats.written == len(conflicts)

    asyncio.run(
        write(
            "us-east-1",
            *(conflict(START_US - n * 1_000_000, source="us-east-1") for n in range(60)),
        )
    )
    asyncio.run(write("eu-west-1", conflict(START_US + 5, source="eu-west-1", region="us-east-1")))

    def found(**wanted: Any) -> list[int]:
        answer = gather(settings, Wanted(**wanted), connect=apis.__getitem__, clock=clock)
        assert answer.missing == ()
        return [c["at_us"] - START_US for c in answer.conflicts]

    everything = found(limit=None)
    assert (len(everything), everything[:2]) == (61, [5, 0])
    assert found() == everything[:50]
    assert found(limit=1, table="orders") == [5]
    assert found(since_s=1.5) == [5, 0, -1_000_000]
    assert found(region="us-east-1") == [5]
    assert found(table="other") == []
    path = tmp_path / "out.jsonl"
    wanted = Wanted(table="orders", limit=None)
    answer = gather(settings, wanted, connect=apis.__getitem__, clock=clock)
    assert export(answer.conflicts, path) == 61
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["at_us"] for line in lines] == [START_US + n for n in everything]
    assert path.stat().st_mode & 0o077 == 0


def ledger_of(count: int, *, every: int = 1) -> MemoryControl:
    """A control table that holds so many conflicts, one a second up to now; each `every`-th was
    decided in `ap`."""
    desk = Desk()
    for n in range(count):
        region = "eu" if n % every else "ap"
        desk.ledger.note(conflict(START_US - n * 1_000_000, region=region))
    desk.run(partial(asyncio.sleep, 0))
    desk.api.queries.clear()
    return desk.api


@pytest.mark.parametrize(
    ("wanted", "found", "pages"),
    [
        (Wanted(limit=50), range(51), 1),
        (Wanted(limit=PAGE_ROWS), range(PAGE_ROWS + 1), 2),
        (Wanted(limit=3, region="ap"), range(0, 200, 50), 2),
        (Wanted(limit=None), range(1_000), 1),
        (Wanted(limit=2_000), range(1_000), 1_000 // PAGE_ROWS),
    ],
)
def test_no_more_is_read_than_is_to_be_shown(wanted: Wanted, found: range, pages: int) -> None:
    """The newest, page by page, until there are enough that are wanted; and one more tells that
    there are more. Never strongly consistent: replication needs the table."""
    api = ledger_of(1_000, every=50)
    dated = asyncio.run(newest(api, "control", "orders", wanted)).conflicts
    assert [(START_US - c["at_us"]) // 1_000_000 for _, c in dated] == list(found)
    assert len(api.queries) == pages
    assert not any(request.get("ConsistentRead") for request in api.queries)
    assert len({request.get("Limit") for request in api.queries}) == 1


def test_since_goes_by_the_decision_though_what_won_is_hours_older() -> None:
    """As after a link was cut: what was written meanwhile is decided when it is back."""
    desk = Desk()
    hour_us = 3_600_000_000
    for hours in (1, 20, 100):
        won = Side(Version(START_US - hours * hour_us, "us", 4, Kind.SETTLED), None)
        desk.ledger.note(conflict(START_US - 1, str(hours), winner=won))
    desk.ledger.note(conflict(START_US - hour_us, "decided long ago"))
    desk.run(partial(asyncio.sleep, 0))
    read = asyncio.run(newest(desk.api, "control", "orders", Wanted(), START_US - 60_000_000))
    won_us = [conflict["winner"]["time_us"] for _, conflict in read.conflicts]
    assert [(START_US - each) // hour_us for each in won_us] == [1, 20]


def test_rows_of_before_are_read_as_well() -> None:
    """Until they are 30 days old: they were named by the time of the decision."""
    api = ledger_of(2)
    row = api.conflicts[0]
    pk, sk = row["pk"]["S"], row["sk"]["S"]
    old = sk.rpartition("#")[0]
    api.rows = {(pk, old): row | {"sk": {"S": old}}}
    ((_, found),) = asyncio.run(newest(api, "control", "orders", Wanted())).conflicts
    assert (found["source"], found["key"]) == ("us", old.split("#")[2])


ODD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no attributes": lambda row: {"pk": row["pk"], "sk": row["sk"]},
    "no time": lambda row: row | {"at_us": {"S": "1"}},
    "no moment": lambda row: row | {"at_us": {"N": "1E30"}},
    "another sort key": lambda row: row | {"sk": {"S": "9#us"}},
    "a key that is none": lambda row: row | {"item_key": {"B": b"\0"}},
    "an image that is none": lambda row: row | {"winner_image": {"S": "{}"}},
}


@pytest.mark.parametrize("odd", ODD)
def test_a_malformed_row_hides_no_other(odd: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is told by its name, and counted as missing."""
    api = ledger_of(3)
    at = sorted(api.rows)[1]
    api.rows[at] = ODD[odd](api.rows[at])
    read = asyncio.run(newest(api, "control", "orders", Wanted(limit=2)))
    assert (len(read.conflicts), read.malformed) == (2, 1)
    (event,) = caplog.records
    assert event.getMessage() == "conflict.malformed"
    assert vars(event)["row"] == api.rows[at]["sk"]["S"]


def test_what_is_listed_says_whether_there_are_more(capsys: pytest.CaptureFixture[str]) -> None:
    """How many there are is not counted for it."""
    read = asyncio.run(newest(ledger_of(3), "control", "orders", Wanted(limit=2)))
    three = tuple(found for _, found in read.conflicts)
    for conflicts, more, missing, limit in (
        (three[:2], True, (), 2),
        (three, False, (), 3),
        (three, False, (), 1),
        (three[:1], False, (), 1),
        ((), False, ("eu",), 3),
        (three[:1], False, ("eu",), 3),
        (three[:2], True, ("eu",), 2),
    ):
        found = Found(conflicts=conflicts, more=more, missing=missing)
        show(found, limit, Console(width=200))
    lines = [line for line in capsys.readouterr().out.splitlines() if "conflict" in line]
    assert lines == [
        "the newest 2 conflicts; there are more",
        "3 conflicts",
        "3 conflicts, the newest 1 shown",
        "1 conflict",
        "at least 0 conflicts",
        "at least 1 conflict",
        "at least 3 conflicts, the newest 2 shown",
    ]


def test_a_region_that_does_not_answer_is_named(regions: dict[str, Any]) -> None:
    """What the others hold is shown."""
    dead = MemoryControl()
    dead.error = Transient("no answer")

    def connect(region: str) -> Api:
        return dead if region == "eu-west-1" else regions["apis"][region]

    found = gather(regions["settings"], Wanted(), connect=connect, clock=VirtualClock())
    assert found.missing == ("eu-west-1: its ledger is missing here: no answer",)
    assert (found.total, found.answered) == (None, True)


def test_a_malformed_row_is_missing_from_the_list(regions: dict[str, Any]) -> None:
    """In the same place, by how many there are in which ledger."""
    ledgers = {"us-east-1": ledger_of(2), "eu-west-1": ledger_of(1)}
    for row in ledgers["us-east-1"].conflicts[:1]:
        del row["winner"]
    found = gather(regions["settings"], Wanted(), connect=ledgers.__getitem__, clock=VirtualClock())
    assert len(found.conflicts) == 2
    rows = "1 malformed rows of conflict#orders"
    assert found.missing == (f"us-east-1: {rows} are missing here; the log names them",)


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (Wanted(table="order"), '--table: "order" is none; did you mean "orders"?'),
        (Wanted(region="eu-west-2"), '--region: "eu-west-2" is none; did you mean "eu-west-1"?'),
    ],
)
def test_an_unknown_name_is_refused(regions: dict[str, Any], wanted: Wanted, line: str) -> None:
    """With the nearest that is known."""
    with pytest.raises(ConfigurationError) as refused:
        gather(
            regions["settings"],
            wanted,
            connect=regions["apis"].__getitem__,
            clock=VirtualClock(),
        )
    assert str(refused.value) == line


def test_a_region_that_cannot_be_opened_leaves_nothing_half_begun(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """One line, before any ledger is read: no coroutine is made that nobody awaits."""

    def connect(name: str) -> Any:
        if name == "eu-west-1":
            raise ConfigurationError("region eu-west-1: no profile called other")
        return MemoryControl()

    document = {
        "regions": {"us-east-1": {}, "eu-west-1": {}},
        "tables": {"orders": {"regions": ["us-east-1", "eu-west-1"]}},
    }
    with pytest.raises(ConfigurationError, match="no profile called other"):
        gather(
            settings_of(document, {}, stated_by="test"),
            Wanted(),
            connect=connect,
            clock=VirtualClock(),
        )
    gc.collect()
    assert not [str(warning.message) for warning in recwarn]
