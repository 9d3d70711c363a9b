"""Who holds a one-way table: moved by compare-and-set, and a former source is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from conflict.operations import Item, Key, Older, Put
from conflict.version import Kind, Version
from replicator.aws.api import Boto3Api
from replicator.control import create_control_table_request
from replicator.errors import ConfigurationError, Fatal
from replicator.handover.active import FENCE_S, Fence, FencedTable, Handover, Handovers
from replicator.handover.plan import Kind as Way
from replicator.handover.plan import Request, members_after, tables_of
from replicator.handover.section import Members
from replicator.settings import RegionSettings, Settings, TableSettings
from support.engines import Engine
from support.tables import client, unique_name

A, B, C = "us-east-1", "eu-west-1", "ap-southeast-2"


@dataclass
class Ticking:
    """A monotonic clock that is moved by hand."""

    now_s: float = 0.0

    def now_us(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s


def handed(source: str, former: str, at_us: int = 1) -> Handover:
    """A hand-over of the one table."""
    return Handover(table="t", source=source, former=former, at_us=at_us, planned=True)


@pytest.fixture
def rows(engine: Callable[[str], Engine]) -> Handovers:
    """The rows of a control table of its own, on a real engine."""
    url, name = engine("ministack").endpoint_url, unique_name("control")
    client(url, A).create_table(**create_control_table_request(name))
    return Handovers(
        api=Boto3Api.open(region=A, endpoint_url=url), control_table=name, sleep=asyncio.sleep
    )


def test_a_table_is_handed_over_by_whoever_holds_it(rows: Handovers) -> None:
    """From A to B; again, which changes nothing; not from A to C; from B to C."""

    async def moves() -> None:
        assert await rows.load("t") is None
        assert await rows.store(handed(B, A))
        assert await rows.store(handed(B, A, at_us=2))
        assert not await rows.store(handed(C, A))
        assert await rows.load("t") == handed(B, A, at_us=2)
        assert await rows.store(handed(C, B))
        assert (await rows.load("t")) == handed(C, B)

    asyncio.run(moves())


def test_a_former_source_is_turned_away_within_a_look(rows: Handovers) -> None:
    """Its writes pass while its last look is fresh, and no longer; the new source's pass."""

    class Open:
        written = 0

        async def put(self, operation: Put) -> None:
            self.written += 1

    async def writes() -> None:
        clock, table = Ticking(), Open()
        version = Version(1, A, 1, Kind.REPLICATED)
        put = Put(B, Key({"id": {"S": "1"}}, "S1"), Item({}, None), Older(version))
        former, present = (
            FencedTable(table, Fence(table="t", source=name, rows=rows, clock=clock))  # type: ignore[arg-type]
            for name in (A, B)
        )
        await former.put(put)
        await rows.store(handed(B, A))
        await former.put(put)
        assert table.written == 2
        clock.now_s += FENCE_S
        with pytest.raises(Fatal, match="no more, it was handed over to eu-west-1"):
            await former.put(put)
        await present.put(put)
        assert table.written == 3

    asyncio.run(writes())


def settings() -> Settings:
    """Three regions, and tables of each mode."""
    regions = {name: RegionSettings(aws_region=name) for name in (A, B, C)}
    tables = {
        "every": TableSettings(regions=(A, B)),
        "ledger": TableSettings(source=A, targets=(B, C)),
        "apart": TableSettings(regions=(B, C)),
    }
    return Settings(regions=regions, tables=tables)


def request(kind: Way, table: str | None = None, source: str = A, target: str = B) -> Request:
    """What an operator asks for."""
    return Request(kind=kind, table=table, source=source, target=target)


def test_all_means_the_tables_that_have_both_regions() -> None:
    """And of one-way tables those whose source gives away."""
    assert tables_of(settings(), request(Way.PLANNED)) == ["every", "ledger"]
    assert tables_of(settings(), request(Way.PLANNED, source=B, target=C)) == ["apart"]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (request(Way.PLANNED, "ledgr"), 'no table; did you mean "ledger"'),
        (request(Way.PLANNED, "ledger", B, C), "us-east-1 is its source, not eu-west-1"),
        (request(Way.PLANNED, "every", A, C), "ap-southeast-2 does not have it"),
        (request(Way.PLANNED, "every", A, "eu-west-9"), '"eu-west-9" is no region'),
        (request(Way.PLANNED, "every", A, A), "the same region"),
    ],
)
def test_what_does_not_fit_is_one_line(wanted: Request, text: str) -> None:
    """It names the option or table, and the remedy."""
    with pytest.raises(ConfigurationError, match=text) as caught:
        tables_of(settings(), wanted)
    assert "\n" not in str(caught.value)


def test_who_has_a_table_afterwards() -> None:
    """The table in plan.py: sides change where nothing is under way, else versions decide."""
    entries = settings().tables
    every, ledger = entries["every"], entries["ledger"]
    handed_over = Members(source=B, targets=(A, C))
    assert members_after(every, request(Way.PLANNED), mergeable=True) is None
    assert members_after(every, request(Way.UNPLANNED), mergeable=True) is None
    assert members_after(ledger, request(Way.PLANNED), mergeable=True) == handed_over
    merged = members_after(ledger, request(Way.UNPLANNED), mergeable=True)
    assert merged == Members(regions=(B, A, C))
    assert members_after(ledger, request(Way.UNPLANNED), mergeable=False) == handed_over
