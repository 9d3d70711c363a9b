"""Takes the picture of README.md: the page of a running demo while one region is cut off.

    make picture

Takes two minutes and a Chromium: the demo is played until its cut has made links red.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import ViewportSize

from replicator.demo.world import CUT_OFF
from support.demo import running_demo
from support.pages import View, opened_browser

PICTURE = Path(__file__).parents[1] / "infra" / "dashboard.png"
SIZE: ViewportSize = {"width": 1280, "height": 1060}
SECONDS = 130.0
"""Of writing; the cut takes 35 % of it, and a link is red after 30 s without."""
RED_WITHIN_MS = 180_000
RED = """(region) => document.getElementById("verdict").dataset.tone === "bad"
  && document.getElementById("sentence").textContent.includes(region)"""


def take(path: Path) -> None:
    """Write the picture there. Raises: BrowserUnavailable; a TimeoutError if nothing turns red."""
    with running_demo(seconds=SECONDS) as url, opened_browser() as browser:
        view = View(browser, url, viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        view.page.wait_for_function(RED, arg=CUT_OFF, timeout=RED_WITHIN_MS)
        view.page.screenshot(path=path)
        view.close()


if __name__ == "__main__":
    take(PICTURE)
