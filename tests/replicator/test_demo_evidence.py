"""The demo's evidence: the journal, the canaries, the merged status, the closing table."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from replicator.demo.canary import Canaries, Flight, Sample, percentile
from replicator.demo.closing import catch_up_s, undisturbed
from replicator.demo.compare import canonical
from replicator.demo.journal import Journal, Kind, Write
from replicator.demo.stage import Outage
from replicator.demo.statuses import fetch, idle, links, running, total
from replicator.demo.world import LEDGER, ORDERS, REGIONS, TABLES
from replicator.demo.writers import Ledger, Orders, Writer, content, order_key
from support.clock import VirtualClock

US, EU, AP = REGIONS


class MemoryTable:
    """An Api that understands what the demo's applications send; items by their whole key."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "BatchGetItem":
            return {
                "Responses": {name: list(self.items.values()) for name in request["RequestItems"]}
            }
        key = request.get("Key") or {
            n: request["Item"][n] for n in ("id", "account", "entry") if n in request["Item"]
        }
        old = self.items.get(repr(key))
        if operation == "PutItem":
            self.items[repr(key)] = request["Item"]
        elif operation == "DeleteItem":
            self.items.pop(repr(key), None)
        else:
            names, values = (
                request["ExpressionAttributeNames"],
                request["ExpressionAttributeValues"],
            )
            changed = {names[f"#{i}"]: values[f":{i}"] for i in range(len(names))}
            self.items[repr(key)] = {**(old or key), **changed}
        return {} if old is None else {"Attributes": old}


def write(
    identity: str, region: str, overwrote: str | None = None, kind: Kind = Kind.PUT, key: str = "k"
) -> Write:
    """A write to the orders table."""
    return Write(
        id=identity, region=region, table="orders", key=key, kind=kind, overwrote=overwrote
    )


def journal(*writes: Write) -> Journal:
    """A journal of these writes."""
    made = Journal()
    for one in writes:
        made.record(one)
    return made


def test_a_chain_of_writes_holds_no_conflict() -> None:
    """Regions that each wrote over the other's last write have seen each other."""
    assert journal(write("1", US), write("2", EU, "1"), write("3", US, "2")).conflicts == 0


def test_two_regions_that_overwrite_the_same_write_conflict() -> None:
    """A fork is a conflict; what each side does afterwards on its own branch is none."""
    forked = journal(write("1", US), write("2", US, "1"), write("3", EU, "1"), write("4", EU, "3"))
    assert forked.conflicts == 1
    forked.record(write("5", AP, "1", Kind.DELETE))
    assert forked.conflicts == 2


def test_a_put_after_a_delete_is_a_re_create() -> None:
    """Kinds are counted as the application meant them."""
    kinds = journal(
        write("1", US), write("2", US, "1", Kind.DELETE), write("3", EU), write("4", EU, key="new")
    ).kinds()
    assert kinds == {Kind.PUT: 2, Kind.UPDATE: 0, Kind.DELETE: 1, Kind.RECREATE: 1}


def writer(table: MemoryTable, seed: int, *, ledger: bool = False) -> Writer:
    """A writer of us-east-1 with a journal of its own."""
    return Writer(
        region=US,
        table=LEDGER if ledger else ORDERS,
        api=table,
        journal=Journal(),
        clock=VirtualClock(),
        random=Random(seed),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_ledger_knows_what_must_stand(seed: int) -> None:
    """After any writes its own account of the table is the table."""
    table = MemoryTable()
    application = Ledger(writer=writer(table, seed, ledger=True))

    async def steps() -> None:
        for _ in range(120):
            await application.step()

    asyncio.run(steps())
    assert {canonical(item) for item in table.items.values()} == {
        canonical(item) for item in application.written.values()
    }
    assert {kind for kind, count in application.writer.journal.kinds().items() if count} >= {
        Kind.PUT,
        Kind.UPDATE,
        Kind.DELETE,
    }


def test_a_write_tells_what_stands_after_it() -> None:
    """An update leaves the attributes alone that it does not set, and is known by its own id."""
    table = MemoryTable()
    one = writer(table, 1)

    async def steps() -> None:
        put = await one.write(Kind.PUT, order_key("a"))
        assert put == table.items[repr(order_key("a"))]
        updated = await one.write(Kind.UPDATE, order_key("a"))
        assert updated == table.items[repr(order_key("a"))]
        assert put is not None
        assert updated is not None
        assert updated["total"] == put["total"]
        assert updated["write"] != put["write"]
        assert await one.write(Kind.DELETE, order_key("a")) is None
        assert not table.items

    asyncio.run(steps())


def test_orders_meet_on_hot_keys() -> None:
    """With all of the writing on hot keys, few items take all of it."""
    table = MemoryTable()
    application = Orders(writer=writer(table, 3), hot_share=1.0)

    async def steps() -> None:
        for _ in range(100):
            await application.step()

    asyncio.run(steps())
    assert application.writer.journal.total == 100
    assert len(table.items) <= 8


def test_items_hold_every_type() -> None:
    """What the demo writes covers all ten types of DynamoDB."""
    types = {next(iter(value)) for value in content(Random(1)).values()}
    assert types == {"S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"}
    assert len(content(Random(1))["total"]["N"]) == 38


def test_an_overtaken_canary_counts_from_its_own_time() -> None:
    """When a newer canary is found, all older ones have arrived with it."""
    flight = Flight(table=ORDERS, source=US, target=EU)
    for time_us in (1_000, 2_000, 3_000):
        flight.released(time_us)
    assert flight.seen(None, 1_500) == []
    samples = flight.seen({"written_us": {"N": "2000"}}, 5_000)
    assert [sample.lag_ms for sample in samples] == [4.0, 3.0]
    assert flight.seen({"written_us": {"N": "2000"}}, 6_000) == []


def test_a_canary_is_watched_in_every_other_region() -> None:
    """Written in one region and read in another, it gives one sample for that link and table."""
    clock, here, there = VirtualClock(), MemoryTable(), MemoryTable()
    canaries = Canaries(TABLES, clock=clock)

    async def fly() -> None:
        await canaries.write(here, ORDERS, US)
        await canaries.watch(there, EU)
        assert canaries.samples == []
        there.items = dict(here.items)
        await canaries.watch(there, EU)

    asyncio.run(fly())
    (sample,) = canaries.samples
    assert (sample.table, sample.source, sample.target) == ("orders", US, EU)
    assert canaries.newest_lag_ms(ORDERS, (US, EU)) == sample.lag_ms
    assert canaries.newest_lag_ms(LEDGER, (US, EU)) is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([7], 0.99, 7), ([3, 1, 2], 0.5, 2), (list(range(1, 101)), 0.99, 99)],
)
def test_percentiles_are_measured_values(
    values: list[float], share: float, expected: float | None
) -> None:
    """A percentile is the smallest value that covers the share, never an interpolation."""
    assert percentile(values, share) == expected


def sample(written_us: int, seen_us: int, source: str = US, target: str = AP) -> Sample:
    """A canary of the orders table."""
    return Sample(
        table="orders", source=source, target=target, written_us=written_us, seen_us=seen_us
    )


def test_lag_leaves_out_what_an_outage_delayed() -> None:
    """A canary that was under way during the outage of its link is no measure of the product."""
    outages = [Outage(region=AP, from_us=100, until_us=200)]
    assert undisturbed(sample(50, 90), outages)
    assert undisturbed(sample(201, 230), outages)
    assert not undisturbed(sample(90, 210), outages)
    assert not undisturbed(sample(150, 230), outages)
    assert undisturbed(sample(150, 180, target=EU), outages)


def test_catching_up_is_the_arrival_of_the_last_canary_from_before() -> None:
    """It counts from the healing, over all links of the region that was cut off."""
    outage = Outage(region=AP, from_us=0, until_us=1_000_000)
    samples = [sample(500_000, 1_200_000), sample(900_000, 1_700_000, AP, EU)]
    assert catch_up_s(samples, outage) == 0.7
    assert catch_up_s([sample(2_000_000, 2_100_000)], outage) is None


def status(source: str, *, pending: int = 0, backlog_age_s: float | None = 0.0) -> dict[str, Any]:
    """The status of a replicator with one link."""
    link = {"target": EU, "state": "ok", "applied": 3, "pending": pending}
    return {
        "state": "ok",
        "pipelines": [
            {
                "table": "orders",
                "source": source,
                "state": "running",
                "unsettled": 0,
                "links": [{**link, "backlog_age_s": backlog_age_s}],
            }
        ],
    }


def test_links_and_counters_are_those_of_all() -> None:
    """The demo counts over three processes as over one."""
    both = {US: status(US), AP: status(AP)}
    assert total(both, "applied") == 6
    assert set(links(both)) == {("orders", US, EU), ("orders", AP, EU)}


def test_idle_is_said_by_all_or_not_at_all() -> None:
    """Work that waits, an unknown age and a silent replicator are all not idle."""
    assert idle({US: status(US)})
    assert not idle({US: status(US, pending=1)})
    assert not idle({US: status(US, backlog_age_s=None)})
    assert not idle({US: status(US), AP: None})
    assert not idle({})
    assert not running({US: {"state": "ok", "pipelines": []}})


def test_nobody_at_the_port_is_no_status() -> None:
    """A replicator that does not listen yet is not an error of the demo."""
    assert fetch(1) is None
