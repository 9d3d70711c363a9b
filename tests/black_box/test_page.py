"""The page of real processes in a real browser: a region that is cut off, figures, pausing."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest
from playwright.sync_api import Browser

from support.black_box import REGIONS, Replicator, World, command, environment, until
from support.black_box_link import endpoint
from support.black_box_tables import Table
from support.engines import HOST, free_port
from support.pages import View, viewed
from support.tables import unique_name

pytestmark = pytest.mark.xdist_group("browser")

US, EU, _ = REGIONS
TOKEN = "token-" * 4


def put(world: World, table: Table, region: str, *keys: str) -> None:
    """Write items in a region."""
    for key in keys:
        item = {"id": {"S": key}, "by": {"S": region}}
        world.connection.client(region).put_item(TableName=table.name, Item=item)


def links(replicator: Replicator) -> dict[str, dict[str, Any]]:
    """What the process says of its links, by source."""
    status = until(replicator.status, within_s=10, what="there is a status")
    return {each["source"]: each["links"][0] for each in status["pipelines"]}


def test_a_cut_region_is_unknown_then_red_and_recovers(browser: Browser, world: World) -> None:
    """And the page says so without a word of complaint from the browser."""
    table = world.add(Table(unique_name(), regions=(US, EU)))
    with endpoint(world.connection.endpoint_url) as far:
        replicator = world.replicator(None, {EU: far.url})
        replicator.start()
        replicator.ready()
        with viewed(browser, replicator.url) as view:
            view.wait_for("#sentence", "All 2 links are up to date.")
            far.cut()
            out = view.cell(EU, US, table.name)
            put(world, table, US, "written meanwhile")
            view.page.wait_for_function(_SHOWS, arg=["unknown", f"{EU} → {US}"], timeout=40_000)
            assert "unknown" in out.inner_text()
            view.page.wait_for_function(_SHOWS, arg=["bad", f"{EU} → {US}"], timeout=60_000)
            assert view.page.locator("#verdict").get_attribute("data-tone") == "bad"
            assert EU in view.text("#sentence")
            assert links(replicator)[EU]["backlog_age_s"] is None
            far.heal()
            view.wait_for("#sentence", "All 2 links are up to date.")
            assert out.get_attribute("data-tone") == "ok"
            assert view.drawn("#lag-chart") > 1_000
            assert view.drawn("#rate-chart") > 500
    world.settle()
    world.assert_equal()


_SHOWS = """([tone, route]) => [...document.querySelectorAll(`.cell[data-tone=${tone}]`)]
  .some((cell) => cell.textContent.includes(route))"""


def test_the_figures_on_the_page_are_those_of_the_process(browser: Browser, world: World) -> None:
    """Counters at rest: the page, /api/status and what was written agree."""
    table = world.add(Table(unique_name(), source=US, targets=(EU,)))
    (replicator,) = world.start(None)
    put(world, table, US, *(str(number) for number in range(37)))
    world.settle()
    with viewed(browser, replicator.url) as view:
        view.wait_for("#panel-line", "37 applied")
        told = links(replicator)[US]
        assert (told["applied"], told["pending"], told["backlog_age_s"]) == (37, 0, 0)
        view.wait_for(".cell .lead", "up to date")
        assert view.text("#panel-line").startswith("up to date · 0 pending · 37 applied")


def paused(world: World, *arguments: str) -> str:
    """`replicator pause` or `resume`; what it printed."""
    config = next(process.config for process in world.processes)
    done = subprocess.run(
        command(*arguments, "--config", str(config)),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.count("\n") <= 1
    return done.stdout


def test_a_pause_outlives_the_process_and_loses_nothing(world: World) -> None:
    """What is written while a link is paused stays away through a kill, and comes on resuming."""
    table = world.add(Table(unique_name(), source=US, targets=(EU,)))
    (replicator,) = world.start(None)
    assert "paused\n" in paused(world, "pause", "--table", table.name)
    until(lambda: links(replicator)[US]["state"] == "paused", within_s=30, what="it is paused")
    replicator.kill()
    put(world, table, US, "meanwhile")
    replicator.start()
    until(lambda: replicator.pipeline(table)["state"] == "paused", within_s=30, what="still paused")
    assert world.connection.scan(table, EU) == []
    assert "paused already" in paused(world, "pause", "--table", table.name, "--target", EU)
    assert "resumed" in paused(world, "resume", "--table", table.name, "--source", US)
    until(lambda: world.connection.scan(table, EU), within_s=30, what="what was written is there")
    world.settle()
    world.assert_equal()


def test_the_page_pauses_a_real_link(browser: Browser, world: World) -> None:
    """From the page of `replicator dashboard`, by way of the process that reads the link."""
    table = world.add(Table(unique_name(), source=US, targets=(EU,)))
    replicator = world.replicator(None)
    with replicator.config.open("a", encoding="utf-8") as config:
        config.write(f'[http]\ntoken = "{TOKEN}"\n')
    replicator.start()
    replicator.ready()
    port = free_port()
    gathering = subprocess.Popen(
        command("dashboard", "--url", replicator.url, "--port", str(port)),
        cwd=world.directory,  # where no configuration is found
        env=environment(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert gathering.stdout is not None
        assert gathering.stdout.readline().decode().strip() == f"http://{HOST}:{port}"
        view = View(browser, f"http://{HOST}:{port}")
        view.wait_for("#sentence", "The one link is up to date.")
        view.page.get_by_role("button", name="Pause").click()
        view.page.locator("#token").fill(TOKEN)
        view.page.keyboard.press("Enter")
        view.wait_for("#sentence", "1 link is paused.")
        assert links(replicator)[US]["state"] == "paused"
        view.page.get_by_role("button", name="Resume").click()
        view.wait_for("#sentence", "The one link is up to date.")
        put(world, table, US, "again")
        until(lambda: world.connection.scan(table, EU), within_s=30, what="it is replicated again")
        replicator.kill()
        view.wait_for("#sentence", "is unknown for")
        assert "has not answered for" in view.text("#attention")
        assert view.errors == []
        view.close()
    finally:
        gathering.send_signal(signal.SIGTERM)
        assert gathering.wait(20) == 0
        gathering.stdout.close()  # type: ignore[union-attr]
