"""Paused links: nothing is read or held, nothing is lost, and nothing but a person resumes them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from replicator.dashboard.access import Access
from replicator.dashboard.switch import LocalSwitch, Order, Refused
from replicator.errors import ConditionFailed, ConfigurationError, Transient
from replicator.parts import PipelineLimits
from replicator.pausing import ControlPauses, Link, chosen_links, switch_links
from replicator.records import After
from replicator.settings import RegionSettings, Settings, TableSettings
from support.clock import VirtualClock
from support.pipelines import PipelineBench
from support.scripted_api import ScriptedApi

BEARER = "t0ken-of-sixteen-characters"
NOW_US = 1_700_000_000_000_000
LOOK_S = PipelineLimits().pause_look_s


def test_a_pipeline_whose_links_are_all_paused_reads_nothing() -> None:
    """What is written meanwhile stays in the stream, nothing is held, and the state says so."""
    bench = PipelineBench()

    async def script() -> None:
        bench.write("before", "x")
        await bench.until(lambda: "before" in bench.contents("eu"))
        bench.pauses.paused = {"eu": NOW_US}
        await bench.until(lambda: bench.snapshot()["state"] == "paused")
        bench.write("meanwhile", "x")
        reads = bench.stream.calls.total()
        await bench.clock.sleep(600.0)
        assert bench.stream.calls.total() == reads
        assert "meanwhile" not in bench.contents("eu")
        status = bench.snapshot()
        assert (status["state"], status["unsettled"], status["error"]) == ("paused", 0, None)
        assert bench.link["state"] == "paused"
        assert bench.link["paused_since_us"] == NOW_US
        assert bench.link["backlog_age_s"] is None
        bench.pauses.paused = {}
        await bench.until(lambda: "meanwhile" in bench.contents("eu"))
        await bench.until(lambda: bench.snapshot()["state"] == "running")
        assert bench.link["state"] == "ok"

    bench.run(script)


def test_what_was_under_way_is_checkpointed_before_the_pause() -> None:
    """A pause drains, like a stop: the position lies behind all that had been read."""
    bench = PipelineBench(call_s=0.2)

    async def script() -> None:
        last = [bench.write(str(number), "x") for number in range(20)][-1]
        await bench.until(lambda: bench.stats.records.read >= 20)
        bench.pauses.paused = {"eu": NOW_US}
        await bench.until(lambda: bench.snapshot()["state"] == "paused")
        assert isinstance(bench.position, After)
        assert bench.position.sequence >= last

    bench.run(script)


def test_a_pipeline_that_begins_paused_does_not_read() -> None:
    """A pause outlives the process that obeyed it."""
    bench = PipelineBench()
    bench.pauses.paused = {"eu": NOW_US}

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: bench.snapshot()["state"] == "paused")
        await bench.clock.sleep(60.0)

    bench.run(script)
    assert not bench.contents("eu")
    assert not bench.stream.calls


def test_one_paused_link_leaves_the_others_alone() -> None:
    """Its changes wait; when it is resumed they arrive, and only then are they settled."""
    bench = PipelineBench(targets=("eu", "ap"))
    bench.pauses.paused = {"ap": NOW_US}

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: "1" in bench.contents("eu"))
        await bench.clock.sleep(60.0)
        assert bench.contents("ap") == {}
        assert bench.position is None
        states = {link["target"]: link["state"] for link in bench.snapshot()["links"]}
        assert states == {"eu": "ok", "ap": "paused"}
        assert bench.snapshot()["state"] == "running"
        bench.pauses.paused = {}
        await bench.until(lambda: "1" in bench.contents("ap"))
        await bench.until(lambda: bench.position is not None)

    bench.run(script)


def test_one_paused_link_holds_nothing_up_and_catches_up() -> None:
    """At the bound on unsettled records it is detached: the others go on, and nothing is held."""
    bench = PipelineBench(targets=("eu", "ap"), limits=PipelineLimits(unsettled_records_max=5))
    bench.pauses.paused = {"ap": NOW_US}

    async def script() -> None:
        for number in range(50):
            bench.write(str(number), "x")
            await bench.clock.sleep(1.0)
        await bench.until(lambda: len(bench.contents("eu")) == 50)
        await bench.clock.sleep(300.0)
        assert bench.contents("ap") == {}
        assert bench.snapshot()["unsettled"] <= 5
        bench.pauses.paused = {}
        await bench.until(lambda: len(bench.contents("ap")) == 50)

    bench.run(script)
    assert bench.contents("ap") == bench.contents("us")


def test_a_stop_does_not_wait_for_a_paused_link() -> None:
    """It ends as soon as all else is done, long before the time that draining may take."""
    bench = PipelineBench(targets=("eu", "ap"), limits=PipelineLimits(drain_s=10_000.0))
    bench.pauses.paused = {"ap": NOW_US}

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: "1" in bench.contents("eu"))

    bench.run(script, limit_s=1_000.0)
    assert bench.contents("ap") == {}


def test_rows_that_cannot_be_read_change_nothing() -> None:
    """An outage of the control table neither pauses a link nor resumes one."""
    bench = PipelineBench()

    async def script() -> None:
        await bench.until(lambda: bench.snapshot()["state"] == "running")
        bench.pauses.paused = {"eu": NOW_US}
        bench.pauses.error = Transient("control: refused")
        bench.write("1", "x")
        await bench.until(lambda: "1" in bench.contents("eu"))
        await bench.clock.sleep(5 * LOOK_S)
        assert bench.snapshot()["state"] == "running"
        bench.pauses.error = None
        await bench.until(lambda: bench.snapshot()["state"] == "paused")
        bench.pauses.error, bench.pauses.paused = Transient("control: refused"), {}
        await bench.clock.sleep(5 * LOOK_S)
        assert bench.snapshot()["state"] == "paused"

    bench.run(script)


def test_nothing_is_read_before_the_rows_were() -> None:
    """A link that may be paused is not replicated because nobody could be asked."""
    bench = PipelineBench()
    bench.pauses.error = Transient("control: refused")

    async def script() -> None:
        bench.write("1", "x")
        await bench.clock.sleep(60.0)
        assert not bench.contents("eu")
        assert not bench.stream.calls
        assert bench.snapshot()["state"] == "retrying"
        bench.pauses.error = None
        await bench.until(lambda: "1" in bench.contents("eu"))

    bench.run(script)


def test_a_link_whose_row_is_malformed_stays_paused() -> None:
    """And ends nothing: the others go on, and it goes on itself once the row is taken out."""
    bench = PipelineBench(targets=("eu", "ap"))
    kept = [{"sk": {"S": "ap"}, "since_us": {"S": "yesterday"}}, {"sk": {"S": "gone"}}]

    async def load(table: str, source: str) -> dict[str, int]:
        api = ScriptedApi({"Items": list(kept)})
        return await ControlPauses(api=api, control_table="control").load(table, source)

    bench.pauses.load = load  # type: ignore[method-assign]

    async def script() -> None:
        bench.write("1", "x")
        await bench.until(lambda: "1" in bench.contents("eu"))
        await bench.clock.sleep(60.0)
        assert bench.contents("ap") == {}
        states = {link["target"]: link["state"] for link in bench.snapshot()["links"]}
        assert states == {"eu": "ok", "ap": "paused"}
        kept.clear()
        await bench.until(lambda: "1" in bench.contents("ap"))

    bench.run(script)


# --- which links, and their rows ----------------------------------------------------------------


def settings() -> Settings:
    """Two tables over three regions."""
    regions = ("us-east-1", "eu-west-1", "eu-west-2")
    return Settings(
        regions={name: RegionSettings(aws_region=name) for name in regions},
        tables={
            "orders": TableSettings(regions=regions[:2]),
            "ledger": TableSettings(source=regions[0], targets=regions[1:]),
        },
    )


@pytest.mark.parametrize(
    ("source", "target", "count"),
    [(None, None, 2), ("us-east-1", None, 2), ("us-east-1", "eu-west-2", 1)],
)
def test_what_is_left_out_means_each(source: str | None, target: str | None, count: int) -> None:
    """A table alone means all of its links."""
    links = chosen_links(settings(), "ledger", source, target)
    assert len(links) == count
    assert {link.source for link in links} == {"us-east-1"}


@pytest.mark.parametrize(
    ("table", "source", "target", "complaint"),
    [
        ("order", None, None, '--table: "order" is not configured; did you mean "orders"?'),
        ("ledger", "eu-west-1", None, '--source: "eu-west-1" is not read for table ledger'),
        ("orders", None, "eu-west-2", '--target: "eu-west-2" is no target here'),
        ("orders", "us-east-1", "us-east-1", '--target: "us-east-1" is no target here'),
    ],
)
def test_a_link_that_there_is_not_is_told(
    table: str, source: str | None, target: str | None, complaint: str
) -> None:
    """In a line that names the way out."""
    with pytest.raises(ConfigurationError, match=complaint.replace("?", r"\?")):
        chosen_links(settings(), table, source, target)


def switched(api: ScriptedApi, *, paused: bool) -> list[Link]:
    """Switch the only link of a table out of a region."""
    configured = settings()
    links = chosen_links(configured, "orders", "us-east-1", None)
    work = switch_links(configured, {"us-east-1": api}, links, paused=paused, now_us=NOW_US)
    done = asyncio.run(work)
    assert not done.failed
    return list(done.changed)


@pytest.mark.parametrize("paused", [True, False])
def test_what_is_so_already_is_no_change(paused: bool) -> None:
    """Twice paused is paused once, since the first time; resumed twice does no harm."""
    assert switched(ScriptedApi(ConditionFailed(None)), paused=paused) == []
    assert len(switched(ScriptedApi({}), paused=paused)) == 1


@pytest.mark.parametrize("paused", [True, False])
def test_a_region_that_is_down_leaves_the_links_of_the_others(paused: bool) -> None:
    """Each link is switched for itself, in whatever order, and each failure is told."""
    configured, down = settings(), Transient("PutItem: no answer")
    links = chosen_links(configured, "orders", None, None)
    apis = {"us-east-1": ScriptedApi(down), "eu-west-1": ScriptedApi({})}
    work = switch_links(configured, apis, links, paused=paused, now_us=NOW_US)
    done = asyncio.run(work)
    assert [link.source for link in done.changed] == ["eu-west-1"]
    assert {link.source: error for link, error in done.failed.items()} == {"us-east-1": down}


def test_the_page_is_told_which_region_failed() -> None:
    """Once for all its links, after those of the others were switched."""
    down, well = Transient("PutItem: no answer"), ScriptedApi({})
    switch = LocalSwitch(
        settings=settings(),
        apis={"us-east-1": ScriptedApi(down), "eu-west-1": well},
        access=Access(token=BEARER),
        clock=VirtualClock(),
    )
    order = Order(table="orders", paused=True)
    with pytest.raises(Refused, match=r"^us-east-1: PutItem: no answer$") as refused:
        asyncio.run(switch(order, f"Bearer {BEARER}"))
    assert (refused.value.status, len(well.calls)) == (502, 1)


def test_all_pages_of_rows_are_read() -> None:
    """Since when each target is paused."""
    row = {"sk": {"S": "eu"}, "since_us": {"N": str(NOW_US)}}
    api = ScriptedApi({"Items": [row], "LastEvaluatedKey": {"pk": {"S": "x"}}}, {"Items": []})
    pauses = ControlPauses(api=api, control_table="control")
    assert asyncio.run(pauses.load("orders", "us")) == {"eu": NOW_US}
    assert api.requests[0]["ExpressionAttributeValues"] == {":pk": {"S": "pause#orders#us"}}


@pytest.mark.parametrize(
    "odd", [{}, {"since_us": {"S": "1"}}, {"since_us": {"N": "-1"}}, {"since_us": {"N": "1E99"}}]
)
def test_a_malformed_row_is_a_pause_since_ever(
    odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """That it is malformed is told once, and again when it was well in between."""
    bad = {"sk": {"S": "eu"}, **odd}
    good = {"sk": {"S": "eu"}, "since_us": {"N": "1.7E15"}}
    other = {"sk": {"S": "ap"}, "since_us": {"N": "7"}}
    answers = [{"Items": [row, other]} for row in (bad, bad, good, bad)]
    pauses = ControlPauses(api=ScriptedApi(*answers), control_table="control")
    found = [asyncio.run(pauses.load("orders", "us")) for _ in answers]
    assert [each["eu"] for each in found] == [0, 0, NOW_US, 0]
    assert {each["ap"] for each in found} == {7}
    assert [record.getMessage() for record in caplog.records] == ["pause.malformed"] * 2
    fields = vars(caplog.records[0])
    assert (fields["table"], fields["region"], fields["row"]) == ("orders", "us", "eu")


def test_a_row_that_names_no_link_is_left_out() -> None:
    """Nobody can say what it was to pause."""
    api = ScriptedApi({"Items": [{"since_us": {"N": "7"}}]})
    pauses = ControlPauses(api=api, control_table="control")
    assert asyncio.run(pauses.load("orders", "us")) == {}
