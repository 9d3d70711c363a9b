"""Heartbeats: what is known of a link on which nobody writes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest

from conflict.operations import Item, Key
from replicator.control import ControlTable
from replicator.errors import Fatal, Transient
from replicator.heartbeats import (
    BEAT,
    BEATS_MAX,
    Beats,
    ControlRow,
    Heart,
    Place,
    TableItem,
    reserved_key,
    sent_us_of,
)
from replicator.reader import ReaderLimits
from support.ledgers import MemoryControl
from support.memory import MARKER
from support.pipelines import PipelineBench
from support.scripted_api import ScriptedApi
from support.scripted_stream import Call

INTERVAL_S = 5.3
"""No whole seconds, as record times are."""


class Beating:
    """A pipeline with heartbeats, through control tables or through its table."""

    def __init__(self, *, targets: tuple[str, ...] = ("eu",), through_table: bool = False) -> None:
        limits = ReaderLimits(poll_idle_s=0.25)
        self.bench = PipelineBench(targets=targets, reader_limits=limits)
        self.controls = {region: MemoryControl() for region in ("us", *targets)}
        place: Place = self._row("us")
        if through_table:
            place = TableItem(api=_TableApi(self.bench), name="orders", source="us", marker=MARKER)
        self.heart = Heart(
            stats=self.bench.stats,
            place=place,
            arrivals={target: self._row(target) for target in targets},
            interval_s=INTERVAL_S,
            clock=self.bench.clock,
            sleep=self.bench.clock.sleep,
        )

    def _row(self, region: str) -> ControlRow:
        control = ControlTable(api=self.controls[region], name="control")
        return ControlRow(control=control, table="orders", source="us")

    def run(self, script: Callable[[], Awaitable[None]]) -> None:
        """Replicate and beat while `script` runs."""

        async def beating() -> None:
            task = asyncio.create_task(self.heart.run(self.bench.stop))
            try:
                await script()
            finally:
                self.bench.stop.set()
                await task

        self.bench.run(beating)

    def link(self, target: str = "eu") -> dict[str, Any]:
        """The figures of a link."""
        links = {link["target"]: link for link in self.bench.snapshot()["links"]}
        found: dict[str, Any] = links[target]
        return found

    async def until_beaten(self) -> None:
        """Wait for a first heartbeat to arrive everywhere."""
        links = self.bench.stats.links.values()
        await self.bench.until(lambda: all(link.heartbeat_us is not None for link in links))


class _TableApi:
    """An Api that writes into the home table of a bench, as an application does."""

    def __init__(self, bench: PipelineBench) -> None:
        self._bench = bench

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the table, or put an item into it."""
        if operation == "DescribeTable":
            schema = [{"AttributeName": "id", "KeyType": "HASH"}]
            kinds = [{"AttributeName": "id", "AttributeType": "S"}]
            return {"Table": {"KeySchema": schema, "AttributeDefinitions": kinds}}
        if operation == "PutItem":
            item = dict(request["Item"])
            marker, name = item.pop(MARKER), item["id"]["S"]
            home = self._bench.regions["us"]
            home.now_us = self._bench.clock.now_us() // 1_000_000 * 1_000_000
            home.write(Key({"id": {"S": name}}, name), Item(item, marker))
        return {}


@pytest.mark.parametrize("odd", [{}, {"sent_us": {"S": "x"}}, {"sent_us": {"N": "-1"}}])
def test_a_malformed_heartbeat_is_none(odd: dict[str, Any]) -> None:
    """Whoever asks learns that nobody knows."""
    api = ScriptedApi({"Items": [{"sk": {"S": "us"}, **odd}]})
    row = ControlRow(control=ControlTable(api=api, name="control"), table="orders", source="us")
    assert asyncio.run(row.newest_us()) is None


# --- through the control tables -------------------------------------------------------------------


def test_a_quiet_link_has_a_heartbeat_of_late() -> None:
    """Sent and arrived, in the figures and in the target's control table; no table is touched."""
    beating = Beating()
    seen: list[tuple[float, float]] = []

    async def script() -> None:
        await beating.until_beaten()
        for _ in range(60):
            await beating.bench.clock.sleep(1.0)
            document = beating.bench.snapshot()
            seen.append((document["heartbeat_age_s"], beating.link()["heartbeat_age_s"]))

    beating.run(script)
    assert max(max(ages) for ages in seen) < INTERVAL_S + 2.0
    assert 0 < beating.link()["heartbeat_latency_ms"] < 2_000
    for region in ("us", "eu"):
        assert [pk for pk, _ in beating.controls[region].rows] == ["heartbeat#orders"]
    assert beating.bench.contents("us") == beating.bench.contents("eu") == {}
    assert beating.bench.snapshot()["records"]["read"] == 0
    row = beating.heart.arrivals["eu"]
    assert asyncio.run(row.newest_us()) == beating.bench.stats.links["eu"].heartbeat_us


def test_before_the_first_heartbeat_nothing_is_known() -> None:
    """Null, not 0."""
    document = Beating().bench.snapshot()
    assert document["heartbeat_age_s"] is document["links"][0]["heartbeat_age_s"] is None
    assert document["links"][0]["heartbeat_latency_ms"] is None


def test_a_source_whose_stream_does_not_answer_shows_as_unknown() -> None:
    """Its control table takes heartbeats all the while: that alone does not make one arrive."""
    beating = Beating()

    async def script() -> None:
        await beating.until_beaten()
        beating.bench.stream.fail(Call.RECORDS, *[Transient("down")] * 1_000, shard="a")
        await beating.bench.clock.sleep(100.0)

    beating.run(script)
    document, link = beating.bench.snapshot(), beating.link()
    assert link["state"] == "unknown"
    assert document["heartbeat_error"] is None
    assert 90.0 < document["heartbeat_age_s"] <= link["heartbeat_age_s"]


@pytest.mark.parametrize("error", [Transient("no answer"), Fatal("access denied")])
def test_a_source_that_takes_no_writes_is_told(error: Exception) -> None:
    """Although its stream reads well and nobody writes; until it takes one again."""
    beating = Beating()

    async def script() -> None:
        await beating.until_beaten()
        beating.controls["us"].error = error
        await beating.bench.clock.sleep(60.0)
        document = beating.bench.snapshot()
        assert document["heartbeat_error"] == str(error)
        assert document["heartbeat_age_s"] > 50.0
        beating.controls["us"].error = None
        await beating.bench.until(lambda: beating.link()["heartbeat_age_s"] < 2.0)

    beating.run(script)
    assert beating.bench.snapshot()["heartbeat_error"] is None


def test_a_target_that_is_dead_is_told_although_nobody_writes() -> None:
    """Its link is retrying; the other's heartbeats arrive as ever."""
    beating = Beating(targets=("eu", "ap"))

    async def script() -> None:
        await beating.until_beaten()
        beating.controls["eu"].error = Transient("no answer")
        await beating.bench.clock.sleep(60.0)
        dead, alive = beating.link("eu"), beating.link("ap")
        assert (dead["state"], dead["error"]) == ("retrying", "no answer")
        assert dead["heartbeat_age_s"] > 50.0
        assert (alive["state"], alive["error"]) == ("ok", None)
        assert alive["heartbeat_age_s"] < INTERVAL_S + 2.0
        beating.controls["eu"].error = None
        await beating.bench.until(lambda: beating.link("eu")["state"] == "ok")

    beating.run(script)


def test_a_heartbeat_does_not_overtake_what_was_written_before_it() -> None:
    """While a change is on its way to a target no later heartbeat arrives there."""
    beating = Beating(targets=("eu", "ap"))
    beating.bench.ports["eu"].fail_always("put", Transient("down"))

    async def script() -> None:
        await beating.until_beaten()
        beating.bench.write("1", "x")
        await beating.bench.clock.sleep(60.0)
        assert beating.link("eu")["heartbeat_age_s"] > 50.0
        assert beating.link("ap")["heartbeat_age_s"] < INTERVAL_S + 2.0
        beating.bench.ports["eu"].fail_always("put", None)
        await beating.bench.until(lambda: beating.link("eu")["heartbeat_age_s"] < 2.0)

    beating.run(script)


@pytest.mark.parametrize("through_table", [False, True])
@pytest.mark.parametrize("lag_s", [4.0, 6.0, 20.0])
def test_a_link_that_lags_all_the_time_has_an_age(lag_s: float, *, through_table: bool) -> None:
    """That of its lag and an interval at most, also where it lags by more than an interval."""
    beating = Beating(through_table=through_table)
    ages: list[float] = []

    async def script() -> None:
        await beating.until_beaten()
        beating.bench.ports["eu"].call_s = lag_s / 2  # a new item takes two calls
        beating.bench.stats.links["eu"].heartbeat_us = None
        for number in range(60):
            beating.bench.write(str(number), "x")
            await beating.bench.clock.sleep(lag_s / 4)
            ages.append(beating.link()["heartbeat_age_s"] or math.inf)

    beating.run(script)
    assert lag_s - 1.0 < max(ages[20:]) < 2 * lag_s + INTERVAL_S + 3.0
    assert beating.link()["heartbeat_latency_ms"] > 0


def test_heartbeats_that_are_long_on_their_way_are_bounded() -> None:
    """Two days of them: few are remembered, and told apart to a hundredth of that time; once they
    have arrived, to an interval again."""
    beats, sent_s = Beats(), range(0, 2 * 86_400, 5)
    for each in sent_s:
        beats.add(each)
        assert len(beats.sent_us) <= BEATS_MAX
    assert beats.sent_us[0] == 0
    for until_s in sent_s[1:]:
        found = beats.newest(until_s)
        assert found is not None
        assert 0 <= until_s - found <= sent_s[-1] / 100
    for each in range(sent_s.stop, sent_s.stop + 100, 5):
        beats.add(each)
        assert beats.newest(each) == each


def test_a_heartbeat_that_has_arrived_stays_the_newest() -> None:
    """Until one that set out later has; by a clock that was set back none sets out."""
    beats = Beats()
    assert beats.newest(10) is None
    for sent_us in (10, 20, 15, 30):
        beats.add(sent_us)
    assert beats.newest(9) is beats.newest(None) is None
    assert beats.newest(29) == beats.newest(20) == 20
    assert (beats.first_after(20), beats.first_after(30)) == (30, None)
    assert beats.newest(30) == 30


def test_an_error_of_unknown_kind_comes_out() -> None:
    """It is a bug; whoever keeps the heart going reports it."""
    beating = Beating()
    beating.controls["us"].error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        beating.bench.clock.run(beating.heart.run(asyncio.Event()))


# --- through the table --------------------------------------------------------------------------


def test_a_heartbeat_through_the_table_is_told_in_microseconds() -> None:
    """Its record's time is that of the second, its latency is not blurred by it."""
    beating = Beating(through_table=True)
    latencies: list[float] = []

    async def script() -> None:
        for _ in range(10):
            beating.bench.stats.links["eu"].heartbeat_us = None
            await beating.until_beaten()
            latencies.append(beating.link()["heartbeat_latency_ms"])

    beating.run(script)
    assert min(latencies) > 0
    assert max(latencies) < 400.0
    assert not any(control.rows for control in beating.controls.values())
    (name,) = beating.bench.regions["eu"].items
    assert name.startswith(BEAT)
    assert beating.bench.snapshot()["heartbeat_age_s"] < INTERVAL_S


def test_its_latency_stands_with_those_of_the_other_changes() -> None:
    """So that percentiles are known when nobody writes."""
    beating = Beating(through_table=True)

    async def script() -> None:
        await beating.until_beaten()

    beating.run(script)
    assert 0 < beating.link()["latency_ms"]["p50"] < 400.0


@pytest.mark.parametrize(
    "schema",
    [
        {"id": ("HASH", "S")},
        {"id": ("HASH", "N")},
        {"id": ("HASH", "B"), "at": ("RANGE", "N")},
    ],
)
def test_each_region_has_a_key_of_its_own(schema: Mapping[str, tuple[str, str]]) -> None:
    """Of the types that the table asks for; a number is one that DynamoDB takes."""
    one, other = reserved_key(schema, "us-east-1"), reserved_key(schema, "us-east-2")
    assert one != other
    assert {name: next(iter(value)) for name, value in one.items()} == {
        name: kind for name, (_, kind) in schema.items()
    }
    for value in one.values():
        if "N" in value:
            number = Decimal(str(value["N"]))
            assert len(number.as_tuple().digits) <= 38
            assert -Decimal("9.9999999999999999999999999999999999999E+125") <= number < -(10**125)


@pytest.mark.parametrize(
    ("image", "sent_us"),
    [
        (None, None),
        ({}, None),
        ({BEAT: {"N": "17"}}, 17),
        ({BEAT: {"S": "17"}}, None),
        ({BEAT: {"N": "1.5"}}, None),
    ],
)
def test_only_a_whole_number_is_a_heartbeat(image: Any, sent_us: int | None) -> None:
    """The attribute is data, and an application may write anything."""
    assert sent_us_of(image) == sent_us
