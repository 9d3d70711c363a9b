"""The page of a running demo in a real browser: real regions, real lag, real conflicts."""

from __future__ import annotations

import importlib.util

import pytest
from playwright.sync_api import Browser

from replicator.demo.world import REGIONS
from support.demo import running_demo
from support.pages import WITHIN_S, viewed

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ministack") is None, reason="the extra `demo` is not installed"
    ),
    pytest.mark.xdist_group("browser"),
]

LINKS = 8
"""Six of the table that all three regions write, two of the one that is copied."""
DECIDED = """() => document.querySelectorAll("#conflicts li .who").length > 0
  && [...document.querySelectorAll("#tiles .tile")].some((tile) =>
    /^Conflicts decided[1-9]/.test(tile.textContent))"""
MEASURED = """() => /p99 [0-9.]+ m?s/.test(document.getElementById("lag-legend").textContent)
  && /this link [0-9.]+\\/s/.test(document.getElementById("rate-legend").textContent)"""


def test_the_page_of_a_running_demo_lives(browser: Browser) -> None:
    """Charts draw, and the feed fills from conflicts that applications really had."""
    with running_demo(seconds=40) as url, viewed(browser, url) as view:
        view.wait_for("#age", "live")
        view.page.wait_for_function(DECIDED, timeout=2 * WITHIN_S * 1_000)
        view.page.wait_for_function(MEASURED, timeout=2 * WITHIN_S * 1_000)
        assert view.page.locator("button.cell").count() == LINKS
        assert view.drawn("#lag-chart") > 1_000
        assert view.drawn("#rate-chart") > 500
        first = view.text("#conflicts li:first-child .who")
        assert sum(region in first for region in REGIONS) == 2
        assert " over " in first
