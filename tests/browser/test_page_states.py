"""What a status says is wrong, the page says as well: no state is passed over for the links'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from support.pages import REGIONS, PageServer, View, link, pipeline, status, viewed

pytestmark = pytest.mark.xdist_group("browser")

US, EU, AP = REGIONS
WELL = "The one link is up to date"
LOOKS = 60
CALL = "BatchGetItem on replicator-control in eu-west-1"
CLOSED = (
    f"{CALL}: ConnectionClosedError: Connection was closed before we received a valid response "
    'from endpoint URL: "http://127.0.0.1:39607/".'
)


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A page whose status a test sets."""
    with PageServer() as serving:
        yield serving


@pytest.fixture
def view(browser: Browser, server: PageServer) -> Iterator[View]:
    """The page, open, with its first figures; it may not complain."""
    with viewed(browser, server.url) as opened:
        opened.wait_for("#age", "live")
        yield opened


def of_us(state: str, *, target: dict[str, Any] | None = None, **figures: Any) -> dict[str, Any]:
    """A status of that state with one link out of us-east-1, which looks well."""
    return status(pipeline(US, target or link(EU), **figures), state=state)


def tone(view: View) -> str | None:
    """That of the sentence."""
    return view.page.locator("#verdict").get_attribute("data-tone")


def test_a_pipeline_that_stands_still_is_no_link_that_is_up_to_date(
    view: View, server: PageServer
) -> None:
    """Whoever stands still does not look: nothing waits as far as it knows, and that is little."""
    reason = "positions have not been looked after for 120 s"
    server.status = of_us("failed", stalled=reason)
    view.wait_for("#sentence", f"orders from {US} stands still: {reason}.")
    assert tone(view) == "bad"
    assert "Restart the process" in view.text("#attention")
    cell = view.cell(US, EU)
    assert cell.get_attribute("data-tone") == "bad"
    assert "stalled" in cell.inner_text()
    assert "up to date" not in cell.inner_text()
    assert view.text("#tiles .tile:first-child .figure") == "unknown"
    assert reason in view.text("#panel-line")


@pytest.mark.parametrize(
    ("figures", "said", "advice"),
    [
        (
            {"rival": "host/7/ab"},
            f"orders from {US} is read by two processes",
            "stop one of the two",
        ),
        (
            {"heartbeat_error": f"PutItem on t in {US}: AccessDeniedException"},
            f"orders from {US} gets no heartbeats",
            "Check that this process may write there",
        ),
        (
            {"stuck": 3},
            f"3 changes of orders from {US} failed and will be tried again",
            "once the cause is gone",
        ),
        (
            {"error": f"PutItem on orders in {US}: AccessDeniedException: no"},
            f"orders from {US}: PutItem on orders in {US}: AccessDeniedException: no",
            "tried again by itself",
        ),
    ],
)
def test_what_troubles_a_pipeline_is_told_with_what_to_do(
    view: View, server: PageServer, figures: dict[str, Any], said: str, advice: str
) -> None:
    """The sentence says that the links are well, and at once what is not."""
    server.status = of_us("degraded", **figures)
    view.wait_for("#sentence", f"{WELL}, but {said}.")
    assert tone(view) == "warn"
    assert advice in view.text("#attention")


def test_what_troubles_the_telemetry_is_told(view: View, server: PageServer) -> None:
    """No state counts it: conflicts that are not kept, metrics that nobody receives."""
    ledger = {EU: {"noted": 9, "written": 2, "unwritten": 7, "error": CLOSED}}
    otlp = {"endpoint": "http://collector", "pushed": 0, "failed": 3, "error": "refused"}
    server.status = {**of_us("ok"), "ledger": ledger, "telemetry": {"otlp": otlp}}
    view.wait_for("#sentence", f"{WELL}, but conflicts cannot be recorded in {EU}; 1 more")
    assert tone(view) == "warn"
    attention = view.text("#attention")
    assert "7 conflicts are missing in the ledger" in attention
    assert "Check the collector" in attention
    assert view.page.locator("#attention li").count() == 3


def test_changes_that_are_stuck_in_a_target_are_told(view: View, server: PageServer) -> None:
    """How many, beside the error that keeps them."""
    server.status = of_us("degraded", target=link(EU, stuck=2, state="retrying"))
    view.wait_for("#attention", "2 changes failed there and will be tried again")


@pytest.mark.parametrize(("state", "expected"), [("failed", "bad"), ("degraded", "warn")])
def test_a_state_that_nothing_explains_is_not_well(
    view: View, server: PageServer, state: str, expected: str
) -> None:
    """Whatever a newer process calls so, the page does not overrule it."""
    server.status = of_us(state)
    view.wait_for("#sentence", f"but the process calls itself {state}; its log has the reason.")
    assert tone(view) == expected
    server.status = status(pipeline(US, link(EU), state="of a newer version"))
    view.wait_for("#sentence", "is unknown for")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (CLOSED, "connection closed"),
        (f"{CALL}: ConnectionResetError", "connection reset"),
        (f"{CALL}: no connection: ConnectionRefusedError", "connection refused"),
        (f"{CALL}: closed before it answered", "connection closed"),
    ],
)
def test_a_region_that_does_not_answer_is_called_so(
    view: View, server: PageServer, error: str, why: str
) -> None:
    """Who, and why, without addresses: the sentences of the SDK are for its log."""
    server.status = of_us("degraded", target=link(EU, state="retrying", error=error))
    short = f"{EU} does not answer: {why} (BatchGetItem on replicator-control)"
    view.wait_for("#panel-line", short)
    assert f"{short}." in view.text("#attention")


def test_an_error_of_another_kind_is_told_without_its_address(
    view: View, server: PageServer
) -> None:
    """What it says stands as it is."""
    error = 'x in y: SSLError: SSL validation failed for "https://a.example/b" here'
    server.status = of_us("degraded", target=link(EU, state="retrying", error=error))
    view.wait_for("#panel-line", "x in y: SSLError: SSL validation failed here")


# --- what the page itself may get wrong ----------------------------------------------------------


def test_figures_that_cannot_be_shown_are_not_live(browser: Browser, server: PageServer) -> None:
    """An error while drawing leaves old figures; the page says so until it has drawn again."""
    view = View(browser, server.url)
    view.wait_for("#age", "live")
    server.status = status(processes=7)
    view.wait_for("#sentence", "The newest figures cannot be shown (TypeError")
    assert tone(view) == "unknown"
    assert view.text("#age") == "not shown"
    assert "outdated" in (view.page.locator("body").get_attribute("class") or "")
    assert any("TypeError" in error for error in view.errors)
    server.status = status()
    view.wait_for("#sentence", "All 6 links are up to date.")
    assert view.text("#age") == "live"
    view.close()


RECORD = """async ([from_s, to_s]) => {
  const { Record, spark } = await import("/charts.js");
  const record = new Record();
  const at = (time_s, applied) => record.add([{ key: "k", behind_s: 1,
    link: { applied, latency_ms: { p50: 5, p99: 9 } } }], time_s * 1e6);
  at(from_s - 1, 10); at(from_s, 12); at(to_s, 500); at(to_s + 1, 503);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  spark(path, record.series.get("k"));
  return { ...record.series.get("k"), silent: record.silent_s("k"), path: path.getAttribute("d") };
}"""


def test_a_time_of_which_nothing_came_is_a_hole(view: View) -> None:
    """After sleep or a restart no line crosses it, and no rate is made of what lies between."""
    found = view.page.evaluate(RECORD, [1_000, 1_060])
    assert found["times"] == [999, 1_000, 1_001, 1_059, 1_060, 1_061]
    assert found["behind"] == [1, 1, None, None, 1, 1]
    assert found["p99"] == [9, 9, None, None, 9, 9]
    assert found["rate"] == [None, 2, None, None, None, 3]
    assert found["silent"] == 0
    assert found["path"] == "M57 13.1L58 13.1M118 13.1L119 13.1"


def test_a_second_that_comes_late_is_no_hole(view: View) -> None:
    """A busy process skips one now and then."""
    found = view.page.evaluate(RECORD, [1_000, 1_003])
    assert found["times"] == [999, 1_000, 1_003, 1_004]
    assert None not in found["behind"]


# --- figures that agree --------------------------------------------------------------------------


def test_throughput_in_the_panel_is_that_of_the_link(view: View, server: PageServer) -> None:
    """A link that is cut carries nothing, whatever its table does elsewhere."""
    moving, shown = re.compile(r"all links of orders (?!0\.0/s)[\d.,]+/s"), ["", ""]
    for look in range(LOOKS):
        cut = link(AP, state="retrying", backlog_age_s=40.0)
        going = link(EU, applied=1_000 + 500 * look)
        server.status = status(pipeline(US, going, cut), state="degraded")
        view.page.wait_for_timeout(500)
        shown = view.page.locator("#rate-legend .key").all_inner_texts()
        if shown and moving.fullmatch(shown[-1]):
            break
    assert view.text("#panel-title") == f"orders: {US} → {AP}"
    own, whole = shown
    assert own == "this link 0.0/s"
    assert moving.fullmatch(whole)


def test_times_are_in_utc_wherever_the_page_is_read(browser: Browser) -> None:
    """As in the commands and the log, which it is compared with."""
    decided = {"at_us": 1_700_000_000_000_000, "table": "orders", "key": "k"}

    async def newest(limit: int) -> dict[str, Any]:
        return {"total": limit, "conflicts": [decided]}

    with PageServer(conflicts=newest) as server:
        gap = {"since_us": 1_700_000_000_000_000, "reason": "trimmed"}
        server.status = of_us("failed", gap=gap)
        with viewed(browser, server.url, timezone_id="Asia/Tokyo") as view:
            view.wait_for("#conflicts .when", "22:13:20Z")
            view.wait_for("#attention", "gap since 2023-11-14 22:13:20Z: trimmed")
            assert view.text("#lag-title") == "Lag over time, UTC"


def test_what_would_be_lost_is_at_least_what_was_read(view: View, server: PageServer) -> None:
    """Nobody knows what a region that is cut off holds beyond that."""
    exposure = {US: {"seconds": 42.0, "records": 55}, EU: {"seconds": 0.5, "records": 0}}
    server.status = {**status(), "exposure": exposure}
    view.wait_for("#stakes", "up to the last 42 s (at least 55 changes) would be lost.")
    assert view.text("#exposure").count("at least 55 changes") == 1
    assert f"{US}, ≥ 55 changes" in view.text("#tiles")
    assert "0 changes" not in view.text("#exposure")


def test_up_to_date_says_how_much_that_is(view: View) -> None:
    """A cell that is well may read "2.5 s behind"."""
    assert "✓ up to date (within 10 s)" in view.text("#legend")
