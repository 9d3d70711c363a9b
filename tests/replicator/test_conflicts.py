"""`replicator conflicts`: the ledgers of all regions, on a real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from replicator.configuration import settings_of
from replicator.conflicts import Wanted, export, gather
from replicator.control import ControlTable, create_control_table_request
from replicator.dynamodb import Boto3Api
from replicator.errors import ConfigurationError, Transient
from replicator.ledger import Conflict, Ledger, Secret
from replicator.ports import Api
from support.clock import START_US, VirtualClock
from support.engines import Engine
from support.ledgers import MemoryControl, conflict
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

    everything = found()
    assert (len(everything), everything[:2]) == (61, [5, 0])
    assert found(since_s=1.5) == [5, 0, -1_000_000]
    assert found(region="us-east-1") == [5]
    assert found(table="other") == []
    path = tmp_path / "out.jsonl"
    answer = gather(settings, Wanted(table="orders"), connect=apis.__getitem__, clock=clock)
    assert export(answer.conflicts, path) == 61
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["at_us"] for line in lines] == [START_US + n for n in everything]
    assert path.stat().st_mode & 0o077 == 0


def test_a_region_that_does_not_answer_is_named(regions: dict[str, Any]) -> None:
    """What the others hold is shown."""
    dead = MemoryControl()
    dead.error = Transient("no answer")

    def connect(region: str) -> Api:
        return dead if region == "eu-west-1" else regions["apis"][region]

    found = gather(regions["settings"], Wanted(), connect=connect, clock=VirtualClock())
    assert found.missing == ("eu-west-1: its ledger is missing here: no answer",)


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
