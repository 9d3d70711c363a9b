"""Several processes on one page: what is silent is unknown, with its age, and never as it was."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

from replicator.clock import SystemClock
from replicator.dashboard.access import Access
from replicator.dashboard.gather import STALE_AFTER_S, Gatherer, Gathering, merged_conflicts
from replicator.dashboard.history import History
from replicator.dashboard.switch import Order, Refused
from replicator.errors import ConfigurationError
from replicator.inquiry import ask, checked_url, inquire
from replicator.telemetry import PipelineStats
from support.clock import VirtualClock
from support.pages import PageServer, link, pipeline, status

HERE, THERE = "http://here", "http://there"
TOKEN = "Bearer " + "token-" * 4


def gathering(clock: VirtualClock) -> Gathering:
    """Two processes, not asked yet."""
    return Gathering(names=[HERE, THERE], clock=clock)


def test_what_answers_is_passed_on_as_it_is() -> None:
    """Every pipeline of every process, and the worst state of all."""
    clock = VirtualClock()
    both = gathering(clock)
    both.note(HERE, status(pipeline("us", link("eu"))))
    both.note(THERE, status(pipeline("eu", link("us")), state="failed"))
    document = both.document()
    assert document["pipelines"] == [pipeline("us", link("eu")), pipeline("eu", link("us"))]
    assert document["state"] == "failed"
    assert [each["state"] for each in document["processes"]] == ["ok", "failed"]


def test_a_process_that_falls_silent_is_unknown_with_its_age() -> None:
    """Its links keep their place and lose every figure that is of now."""
    clock = VirtualClock()
    both = gathering(clock)
    both.note(HERE, status(pipeline("us", link("eu"))))
    both.note(THERE, status(pipeline("eu", link("us", applied=77, pending=3))))

    async def later() -> None:
        await clock.sleep(12.0)

    clock.run(later())
    both.note(HERE, status(pipeline("us", link("eu"))))
    both.note(THERE, None, "refused")
    document = both.document()
    assert document["state"] == "degraded"
    here, there = document["processes"]
    assert (here["age_s"], here["error"]) == (0, None)
    assert (there["state"], there["age_s"], there["error"]) == ("unreachable", 12.0, "refused")
    veiled = document["pipelines"][1]
    assert (veiled["state"], veiled["unsettled"]) == ("unknown", None)
    (its_link,) = veiled["links"]
    assert (its_link["state"], its_link["backlog_age_s"], its_link["pending"]) == (
        "unknown",
        None,
        None,
    )
    assert its_link["latency_ms"] == {"p50": None, "p99": None}
    assert its_link["applied"] is None
    both.note(THERE, status(pipeline("eu", link("us"))))
    assert both.document()["pipelines"][1] == pipeline("eu", link("us"))


def test_a_process_that_never_answered_has_no_age() -> None:
    """It is on the page from the beginning, as one of which nothing is known."""
    document = gathering(VirtualClock()).document()
    assert [each["age_s"] for each in document["processes"]] == [None, None]
    assert (document["state"], document["pipelines"]) == ("degraded", [])


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ({"us": 1.0}, {"us": 2.0}, {"us": 2.0}),
        ({"us": 1.0}, {"us": None}, {"us": None}),
        ({"us": 1.0}, {"eu": 2.0}, {"us": 1.0, "eu": 2.0}),
    ],
)
def test_exposure_is_the_worst_that_any_reports(
    here: dict[str, Any], there: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Unknown is worse than any figure."""
    both = gathering(VirtualClock())
    for name, found in ((HERE, here), (THERE, there)):
        exposure = {region: {"seconds": value, "records": 1} for region, value in found.items()}
        both.note(name, status(exposure=exposure))
    merged = both.document()["exposure"]
    assert {region: found["seconds"] for region, found in merged.items()} == expected


def test_the_exposure_that_a_silent_process_reported_is_unknown() -> None:
    """What would be lost now is not what would have been lost then."""
    both = gathering(VirtualClock())
    both.note(HERE, status(exposure={"us": {"seconds": 0.0, "records": 0}}))
    both.note(HERE, None)
    assert both.document()["exposure"] == {"us": {"seconds": None, "records": None}}


def test_what_was_said_long_ago_is_unknown_though_nothing_failed() -> None:
    """A process whose answer does not come is silent, whatever it waits for."""
    clock = VirtualClock()
    both = gathering(clock)
    for name in (HERE, THERE):
        both.note(name, status(pipeline("us", link("eu")), exposure={"us": {"seconds": 0.0}}))
    clock.advance(STALE_AFTER_S)
    assert (both.document()["state"], both.silent()) == ("ok", [])
    clock.advance(1.0)
    both.note(HERE, status(pipeline("us", link("eu"))))
    document = both.document()
    assert (document["state"], both.silent()) == ("degraded", [THERE])
    assert [each["state"] for each in document["processes"]] == ["ok", "unreachable"]
    assert document["processes"][1]["error"] == "has said nothing for more than 5 s"
    assert [each["state"] for each in document["pipelines"]] == ["running", "unknown"]
    assert document["exposure"]["us"]["seconds"] is None


def test_a_silent_process_leaves_no_figure_of_now() -> None:
    """Every age, exposure and count of the moment that a real process reports."""
    clock = VirtualClock()
    stats = PipelineStats(
        table="orders", source="us", mode="multi-writer", targets=("eu",), checkpoint_us=1
    )
    stats.heartbeat_us = stats.links["eu"].heartbeat_us = stats.links["eu"].complete_us = 1
    both = gathering(clock)
    both.note(HERE, status(stats.snapshot(clock.now_us())))
    history = History()
    for second in range(3):
        history.record(both.document(), second)
    both.note(HERE, None)
    document = both.document()
    history.record(document, 3)
    (veiled,) = document["pipelines"]
    for part in (veiled, *veiled["links"]):
        assert part["exposure"] == {"seconds": None, "records": None}
        assert {part[name] for name in part if name.endswith("age_s")} == {None}
    assert (veiled["in_flight"], veiled["links"][0]["applied"]) == (None, None)
    (rates,) = [each["applied_per_s"] for each in history.document("10m", None)["links"]]
    assert rates == [None, 0.0, 0.0, None]


def test_conflicts_are_merged_newest_first() -> None:
    """As many as were asked for, of all; the total is the sum."""
    here = {"total": 5, "conflicts": [{"at_us": 9}, {"at_us": 4}]}
    there = {"total": 2, "conflicts": [{"at_us": 7}]}
    assert merged_conflicts({HERE: here, THERE: there}, 2) == {
        "total": 7,
        "conflicts": [{"at_us": 9}, {"at_us": 7}],
        "missing": [],
    }


NOT_KEPT: dict[str, Any] = {"total": None, "conflicts": [], "recorded": False}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (None, {"total": None, "missing": [THERE]}),
        (TimeoutError(), {"total": None, "missing": [THERE]}),
        ({"total": 1, "conflicts": [{"at_us": "x"}]}, {"total": None, "missing": [THERE]}),
        ({"total": 1, "conflicts": 1}, {"total": None, "missing": [THERE]}),
        ({"total": None, "conflicts": [], "missing": ["c"]}, {"total": None, "missing": ["c"]}),
        (NOT_KEPT, {"total": None, "missing": []}),
    ],
)
def test_conflicts_that_are_not_known_are_not_none(there: Any, expected: dict[str, Any]) -> None:
    """Who gives no answer is named, and then nobody knows how many there were."""
    known = [{"at_us": 9}]
    merged = merged_conflicts({HERE: {"total": 1, "conflicts": known}, THERE: there}, 5)
    assert merged == {"conflicts": known, **expected}


def test_that_nobody_records_conflicts_is_passed_on() -> None:
    """It is not the same as that there were none."""
    merged = merged_conflicts({HERE: NOT_KEPT, THERE: NOT_KEPT}, 5)
    assert merged == {**NOT_KEPT, "missing": []}
    silent = merged_conflicts({HERE: None, THERE: None}, 5)
    assert silent == {"total": None, "conflicts": [], "missing": [HERE, THERE]}


@pytest.mark.parametrize(
    "url", ["", "here", "ftp://here", "http://", "http://here:no", "http://here:0", "http://[::1"]
)
def test_what_is_no_url_is_told(url: str) -> None:
    """In one line, before anything is asked."""
    with pytest.raises(ConfigurationError, match="is no URL; write it like http"):
        checked_url(url)


# --- over real sockets --------------------------------------------------------------------------


class Board:
    """The switch of a process: notes its orders if the token is right."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    async def __call__(self, order: Order, authorization: str | None) -> int:
        if authorization != TOKEN:
            raise Refused(401, "no")
        self.orders.append(order)
        return 1


def test_processes_are_asked_and_orders_passed_on_to_who_reads_the_link() -> None:
    """With the token that came with them, and to nobody else."""
    boards = [Board(), Board()]
    with ExitStack() as stack:
        servers = [stack.enter_context(PageServer(switch=board)) for board in boards]
        for server, source in zip(servers, ("us", "eu"), strict=True):
            server.status = status(pipeline(source, link("ap")))
        gone = "http://127.0.0.1:1"
        both = Gathering(names=[*(server.url for server in servers), gone], clock=SystemClock())
        gatherer = Gatherer(gathering=both, authorization=None)

        async def scenario() -> tuple[int, dict[str, Any]]:
            stop = asyncio.Event()
            running = asyncio.create_task(gatherer.run(stop))
            for _ in range(2_000):
                if len(both.document()["pipelines"]) == 2:
                    break
                await asyncio.sleep(0.01)
            order = Order(table="orders", source="eu", target="ap", paused=True)
            switched = await gatherer.switch(order, TOKEN)
            with pytest.raises(Refused, match="status 401"):
                await gatherer.switch(order, "Bearer wrong")
            with pytest.raises(Refused, match="no process"):
                await gatherer.switch(Order(table="ledger", paused=True), TOKEN)
            found = await gatherer.conflicts(5)
            stop.set()
            await running
            return switched, dict(found)

        switched, conflicts = asyncio.run(scenario())
        assert both.document()["processes"][2]["state"] == "unreachable"
    assert switched == 1
    assert [len(board.orders) for board in boards] == [0, 1]
    assert conflicts == {"total": None, "conflicts": [], "recorded": False, "missing": [gone]}


def test_one_that_hangs_delays_nobody() -> None:
    """Each is asked by threads of its own, which nothing else in the process can take."""
    free = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as hanging, PageServer() as server:
        names = [f"http://127.0.0.1:{hanging.getsockname()[1]}", server.url]
        both = Gathering(names=names, clock=SystemClock())
        gatherer = Gatherer(gathering=both, authorization=None)

        async def scenario() -> bool:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(1))
            taken = loop.run_in_executor(None, free.wait)
            running = asyncio.create_task(gatherer.run(stop))
            for _ in range(2_000):
                if both.document()["pipelines"]:
                    break
                await asyncio.sleep(0.005)
            free.set()
            answered = bool(both.document()["pipelines"])
            stop.set()
            await asyncio.gather(running, taken)
            return answered

        with closing(gatherer):
            assert asyncio.run(scenario())


def test_a_process_that_wants_a_token_is_told_so() -> None:
    """The line names the setting; with the token it answers."""
    token = TOKEN.removeprefix("Bearer ")
    with PageServer(access=Access(host="10.1.2.3", token=token)) as server:
        report = inquire(server.url)
        assert report.error == f"{server.url}: no status: 401 Unauthorized; set http.token"
        assert inquire(server.url, authorization=TOKEN).status is not None
        assert ask(server.url, "/api/history", authorization=TOKEN)["window"] == "10m"
