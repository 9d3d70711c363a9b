"""The page in a real browser: what it shows is what is reported, whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser

from support.pages import (
    PHONE,
    REGIONS,
    WIDE,
    PageServer,
    View,
    link,
    pipeline,
    status,
    viewed,
)

pytestmark = pytest.mark.xdist_group("browser")

US, EU, AP = REGIONS
TONES = ("ok", "warn", "bad", "unknown", "paused")


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


def of_us(target_link: dict[str, Any], **figures: Any) -> dict[str, Any]:
    """A status of one link out of us-east-1."""
    return status(pipeline(US, target_link, **figures))


# --- what is well, and what is not --------------------------------------------------------------


def test_a_glance_tells_that_all_is_well(view: View) -> None:
    """One sentence, and the title of the tab says so as well."""
    assert view.text("#sentence") == "All 6 links are up to date."
    assert view.text("#stakes") == "If any region vanished now, nothing would be lost."
    assert view.page.title() == "✓ ok · Replicator"
    assert view.page.locator("button.cell[data-tone=ok]").count() == 6


def test_a_glance_tells_which_link_is_behind_and_what_is_at_stake(
    view: View, server: PageServer
) -> None:
    """The sentence names the link and its age; the next line the region and its loss."""
    late = link(AP, backlog_age_s=42.0, pending=310, state="lagging")
    exposure = {US: {"seconds": 42.0, "records": 310}, AP: {"seconds": 0.5, "records": 1}}
    server.status = status(pipeline(US, link(EU), late), pipeline(AP, link(US)), exposure=exposure)
    view.wait_for("#sentence", f"{US} → {AP} is 42 s behind.")
    lost = "up to the last 42 s (at least 310 changes) would be lost."
    assert view.text("#stakes") == f"If {US} vanished now, {lost}"
    cell = view.cell(US, AP)
    assert cell.get_attribute("data-tone") == "bad"
    assert "✗" in cell.inner_text()
    assert "42 s behind" in cell.inner_text()
    assert view.cell(US, EU).get_attribute("data-tone") == "ok"
    assert view.text("#panel-title") == f"orders: {US} → {AP}"


def test_trouble_that_is_one_regions_is_called_so(view: View, server: PageServer) -> None:
    """Four links that all touch one region are one trouble, not four."""
    server.status = status(
        *(
            pipeline(
                source,
                *(
                    link(target, state="retrying", backlog_age_s=12.0, error="refused")
                    if AP in (source, target)
                    else link(target)
                    for target in REGIONS
                    if target != source
                ),
            )
            for source in REGIONS
        )
    )
    view.wait_for("#sentence", f"{AP}: 4 of its links are not well, the worst 12 s behind.")
    assert view.page.locator("button.cell[data-tone=warn]").count() == 4
    assert view.page.locator("#attention li").count() == 4


@pytest.mark.parametrize(
    ("figures", "pipeline_figures", "tone", "lead"),
    [
        ({"backlog_age_s": 3.0}, {}, "ok", "3.0 s behind"),
        ({"backlog_age_s": 10.0}, {}, "warn", "10 s behind"),
        ({"backlog_age_s": 31.0, "state": "retrying"}, {}, "bad", "31 s behind"),
        ({"backlog_age_s": 20.0, "state": "lagging"}, {}, "bad", "20 s behind"),
        ({"state": "retrying"}, {}, "warn", "retrying for 0 s"),
        ({"backlog_age_s": None}, {}, "unknown", "unknown for 0 s"),
        ({"state": "unknown"}, {}, "unknown", "unknown for 0 s"),
        ({}, {"state": "starting"}, "unknown", "unknown for 0 s"),
        ({}, {"state": "retrying"}, "unknown", "unknown for 0 s"),
        ({"state": "paused"}, {"state": "paused"}, "paused", "paused"),
    ],
)
def test_each_state_has_a_colour_a_sign_and_a_word(
    browser: Browser,
    server: PageServer,
    figures: dict[str, Any],
    pipeline_figures: dict[str, Any],
    tone: str,
    lead: str,
) -> None:
    """Nothing is told by colour alone, and unknown is never shown as zero."""
    server.status = of_us(link(EU, **figures), **pipeline_figures)
    with viewed(browser, server.url) as view:
        cell = view.cell(US, EU)
        view.page.wait_for_function("() => document.querySelectorAll('.cell').length === 1")
        said = cell.inner_text()
        assert lead.removesuffix("0 s") in said
        assert cell.locator(".sign").inner_text() == dict(zip(TONES, "✓▲✗?‖", strict=True))[tone]
        assert view.text("#verdict .sign") == cell.locator(".sign").inner_text()
        if tone == "unknown":
            assert view.text("#tiles .tile:first-child .figure") == "unknown"


def test_what_is_not_reported_is_unknown(browser: Browser, server: PageServer) -> None:
    """An older process reports less: the page shows that, and neither zero nor nothing."""
    bare = {"table": "orders", "source": US, "state": "running", "links": [{"target": EU}]}
    server.status = {"version": "0", "pid": 1, "started_us": 0, "state": "ok", "pipelines": [bare]}
    with viewed(browser, server.url) as view:
        view.wait_for("#sentence", f"{US} → {EU} is unknown")
        assert view.text("#stakes").endswith("not reported: unknown.")
        assert "unknown pending" in view.text("#panel-line")
        assert "unknown" in view.text("#exposure")


def test_gaps_and_quarantine_are_told(view: View, server: PageServer) -> None:
    """Links that are up to date do not hide that records may be lost."""
    gap = {"since_us": 1_700_000_000_000_000, "reason": "trimmed: records may be lost"}
    server.status = of_us(link(EU, quarantined=2), gap=gap)
    view.wait_for("#sentence", f"Records may be lost: gap in orders from {US}.")
    assert "trimmed: records may be lost" in view.text("#attention")
    assert "2 changes in quarantine" in view.text("#attention")
    assert view.text("#tiles .tile:last-child .figure") == "2 · 1"


# --- figures ------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_api(view: View, server: PageServer) -> None:
    """What the page shows and what /api/status says agree, in every place."""
    counts = {"applied": 12_345, "stale": 7, "duplicate": 3, "removed": 1_002, "retries": 5}
    latency = {"p50": 212.0, "p99": 1_840.0}
    server.status = of_us(
        link(EU, pending=678, backlog_age_s=4.3, latency_ms=latency, **counts),
        unsettled=91,
        records={"read": 99_001, "local": 88_002, "conflicts": 58, "quarantined": 0},
    )
    view.wait_for("#panel-line", "12,345 applied")
    with urlopen(f"{server.url}/api/status") as answer:  # noqa: S310 - this machine
        told = json.load(answer)["pipelines"][0]
    there = told["links"][0]
    assert view.text("#panel-line").startswith(
        f"{there['backlog_age_s']:.1f} s behind · {there['pending']} pending · "
        f"{there['applied']:,} applied · {there['retries']} retries"
    )
    assert "p50 212 ms · p99 1.8 s" in view.cell(US, EU).inner_text()
    view.page.locator("summary").click()
    view.wait_for("#counts", "99,001")
    shown = view.text("#counts")
    for value in (*(there[name] for name in counts), told["unsettled"], *told["records"].values()):
        assert f"{value:,}" in shown
    assert f"{told['records']['conflicts']}" in view.text("#tiles")


def test_charts_are_drawn_and_go_on(view: View, server: PageServer) -> None:
    """Both charts hold lines; a link with a higher lag draws them elsewhere."""
    view.page.locator("#lag-chart canvas").wait_for()
    view.page.wait_for_function(
        "() => document.querySelectorAll('#lag-legend b')[1]?.textContent === '840 ms'"
    )
    before = view.drawn("#lag-chart")
    assert before > 1_000
    applied = 1_000
    for _ in range(6):
        applied += 50
        server.status = of_us(
            link(EU, applied=applied, latency_ms={"p50": 900.0, "p99": 5_000.0}, backlog_age_s=7.0)
        )
        time.sleep(0.5)
    view.wait_for("#lag-legend", "p99 5.0 s")
    view.wait_for("#rate-legend", "this link")
    assert view.drawn("#rate-chart") > 500
    assert view.drawn("#lag-chart") != before


def test_a_page_that_is_opened_late_shows_what_was(browser: Browser, server: PageServer) -> None:
    """The process remembers: a chart does not begin with the page."""
    time.sleep(4)
    with viewed(browser, server.url) as view:
        view.wait_for("#age", "live")
        view.page.wait_for_function(
            "() => (document.querySelector('.spark path').getAttribute('d') || '')"
            ".split('L').length >= 4",
            timeout=3_000,
        )
        for name in ("2 h", "24 h", "10 min"):
            option = view.page.get_by_role("button", name=name)
            option.click()
            assert option.get_attribute("aria-pressed") == "true"
        assert view.drawn("#lag-chart") > 500


def test_the_conflict_feed_fills(browser: Browser) -> None:
    """New ones appear at the top when the counters say that there are some."""
    found: list[dict[str, Any]] = []

    async def newest(limit: int) -> dict[str, Any]:
        return {"total": len(found), "conflicts": found[:limit]}

    def decided(number: int) -> dict[str, Any]:
        return {
            "at_us": 1_700_000_000_000_000 + number,
            "table": "orders",
            "region": EU,
            "key": f"digest-{number}",
            "winner": {"version": "w", "origin": EU, "time_us": 2_500_000},
            "loser": {"version": "l", "origin": US, "time_us": 1_000_000},
        }

    with PageServer(conflicts=newest) as server, viewed(browser, server.url) as view:
        view.wait_for("#conflicts", "None so far.")
        for count in (1, 2):
            found.insert(0, decided(count))
            server.status = of_us(link(EU), records={"conflicts": count})
            view.wait_for("#conflicts", f"digest-{count}")
        assert view.page.locator("#conflicts li").count() == 2
        assert view.text("#conflicts li:first-child .who") == f"{EU} over {US}, 1.5 s later"
        assert view.text("#conflicts-total") == "the last 2, times in UTC"


def test_the_conflict_feed_names_who_does_not_answer(browser: Browser) -> None:
    """Of several processes: nothing is said to be none where somebody was not heard."""
    silent = ["http://eu:8080"]

    async def newest(limit: int) -> dict[str, Any]:
        del limit
        return {"total": None if silent else 0, "conflicts": [], "missing": list(silent)}

    with PageServer(conflicts=newest) as server, viewed(browser, server.url) as view:
        view.wait_for(
            "#conflicts", "1 process did not answer, so theirs are not here: http://eu:8080"
        )
        silent.clear()
        view.wait_for("#conflicts", "None so far.")


# --- when figures stop --------------------------------------------------------------------------


def test_when_figures_stop_the_page_says_for_how_long_and_recovers(browser: Browser) -> None:
    """Old figures never pass for new ones; the same page goes on when the process is back."""
    server = PageServer()
    with server:
        view = View(browser, server.url)
        view.wait_for("#age", "live")
    view.wait_for("#sentence", "No data for 4 s.")
    assert view.page.locator("#verdict").get_attribute("data-tone") == "unknown"
    assert view.page.title() == "? unknown · Replicator"
    assert "outdated" in (view.page.locator("body").get_attribute("class") or "")
    view.wait_for("#age", "no data for")
    with PageServer(port=server.port):
        view.wait_for("#sentence", "All 6 links are up to date.")
        view.wait_for("#age", "live")
        assert view.page.locator("body").get_attribute("class") == ""
    assert not [error for error in view.errors if "ERR_CONNECTION" not in error]
    view.close()


def test_before_the_first_figures_nothing_is_claimed(browser: Browser, server: PageServer) -> None:
    """A page that never got any says so."""
    view = View(browser, "about:blank")
    view.page.route("**/events", lambda route: route.abort())
    view.page.goto(server.url)
    view.wait_for("#sentence", "No data for")
    view.wait_for("#stakes", "The replicator does not answer.")
    view.close()


# --- for everybody ------------------------------------------------------------------------------


def test_the_keyboard_is_enough(view: View, server: PageServer) -> None:
    """Every link is reached with Tab and opened with Enter, and focus survives the updates."""
    for _ in range(30):
        view.page.keyboard.press("Tab")
        focused = view.page.evaluate("document.activeElement.textContent")
        if f"{EU} → {US}" in focused:
            break
    assert f"{EU} → {US}" in focused
    outline = view.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    view.page.keyboard.press("Enter")
    view.wait_for("#panel-title", f"orders: {EU} → {US}")
    assert view.cell(EU, US).get_attribute("aria-pressed") == "true"
    server.status = status(pipeline(EU, link(US, backlog_age_s=5.0)))
    view.wait_for(".cell .lead", "5.0 s behind")
    assert f"{EU} → {US}" in view.page.evaluate("document.activeElement.textContent")
    assert view.text("#panel-title") == f"orders: {EU} → {US}"


def test_everything_has_a_name(view: View) -> None:
    """What can be pressed or read by ear is called something."""
    nameless = view.page.evaluate(
        """[...document.querySelectorAll("button, input, [role=img], section, dialog, progress")]
        .filter((node) => !(node.textContent.trim() || node.getAttribute("aria-label")
          || node.labels?.length || node.getAttribute("aria-labelledby")))
        .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert view.page.locator("[aria-live=polite]").inner_text() == view.text("#sentence")
    assert view.page.locator("th[scope=col]").count() > 0
    assert view.page.locator("th[scope=row]").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tone", TONES)
def test_the_sentence_can_be_read_in_every_colour(
    browser: Browser, server: PageServer, scheme: str, tone: str
) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), in dark and in light."""
    with viewed(browser, server.url, color_scheme=scheme) as view:
        view.page.locator("#verdict").evaluate(
            "(node, tone) => { node.dataset.tone = tone; }", tone
        )
        ratio = view.page.evaluate(
            """() => {
              const node = document.getElementById("verdict");
              const light = (colour) => {
                const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
                  .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
                return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
              };
              const style = getComputedStyle(node);
              const both = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a);
              return (both[0] + 0.05) / (both[1] + 0.05);
            }"""
        )
        assert ratio >= 4.5


def test_dark_and_light_follow_the_system_and_the_button(
    browser: Browser, server: PageServer
) -> None:
    """The button goes from the system's colours to light to dark."""

    def ground(view: View) -> str:
        found: str = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return found

    with viewed(browser, server.url, color_scheme="dark") as view:
        dark = ground(view)
        view.page.locator("#theme").click()
        light = ground(view)
        assert light != dark
        view.page.emulate_media(color_scheme="light")
        view.page.locator("#theme").click()
        assert ground(view) == dark


def test_nothing_moves_for_those_who_do_not_want_it(browser: Browser, server: PageServer) -> None:
    """prefers-reduced-motion is kept."""
    with viewed(browser, server.url, reduced_motion="reduce") as view:
        view.wait_for("#age", "live")
        assert view.page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("size", [PHONE, {"width": 768, "height": 1024}, WIDE])
def test_nothing_is_wider_than_the_window(
    browser: Browser, server: PageServer, size: dict[str, int]
) -> None:
    """From a phone to a desk, with long names and errors, and with all counts open."""
    name = "a-table-whose-name-has-as-many-letters-as-dynamodb-allows-" + "x" * 190
    error = "PutItem: " + "unbroken" * 60
    trouble = link(AP, state="retrying", error=error, backlog_age_s=40.0)
    server.status = status(
        pipeline(US, link(EU), trouble), pipeline(EU, link(US)), pipeline(US, trouble, table=name)
    )
    with viewed(browser, server.url, viewport=size) as view:
        view.wait_for("#sentence", "not well")
        assert view.overflow() == 0
        view.page.locator("summary").click()
        view.wait_for("#counts", "Records of each source")
        assert view.overflow() == 0
        assert view.cell(US, EU).is_visible()
