"""The page in a real browser: a server whose status a test sets, and a headless Chromium.

The server runs on a thread of its own and serves the shipping application; only the snapshot is the
test's. The browser is the machine's chromium, driven by Playwright; where there is none, tests that
ask for it are skipped and the run says so loudly at its end (tests/conftest.py).
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    sync_playwright,
)

from replicator.dashboard.access import Access
from replicator.dashboard.app import Conflicts, create_app
from replicator.dashboard.serving import listen, serve_on
from replicator.dashboard.switch import Switch, no_switch

WITHIN_S = 30
WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class BrowserUnavailable(Exception):
    """This machine has no Chromium; the message names the remedy."""


def chromium() -> str:
    """The path of a Chromium. Raises: BrowserUnavailable."""
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    raise BrowserUnavailable("Chromium is missing: apt-get install chromium")


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own. Raises: BrowserUnavailable."""
    path = chromium()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class View:
    """One page in a context of its own, and all that the browser complained of meanwhile."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self._context = browser.new_context(**{"viewport": WIDE, **context})
        self._context.add_init_script(_WATCH_POLICY)
        self.page: Page = self._context.new_page()
        self.errors: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        self.page.goto(url)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def text(self, selector: str) -> str:
        """What an element says."""
        return self.page.locator(selector).inner_text()

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until an element says this."""
        found = self.page.locator(selector).filter(has_text=text)
        found.first.wait_for(timeout=WITHIN_S * 1_000)

    def cell(self, source: str, target: str, table: str = "orders") -> Locator:
        """The cell of a link."""
        tables = self.page.locator(".table").filter(
            has=self.page.get_by_role("heading", name=table, exact=True)
        )
        return tables.locator("button.cell").filter(has_text=f"{source} → {target}")

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        wide: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wide

    def drawn(self, selector: str) -> int:
        """How many pixels of a chart's canvas are not empty."""
        pixels: int = self.page.locator(f"{selector} canvas").evaluate(_COUNT_PIXELS)
        return pixels

    def violations(self) -> list[str]:
        """What the content security policy forbade."""
        found: list[str] = self.page.evaluate("window.forbidden")
        return found

    def close(self) -> None:
        """End it."""
        self._context.close()


@contextmanager
def viewed(browser: Browser, url: str, **context: Any) -> Iterator[View]:
    """A page that must not complain of anything until its end."""
    view = View(browser, url, **context)
    try:
        yield view
        assert view.errors == []
        assert view.violations() == []
    finally:
        view.close()


_WATCH_POLICY = """
window.forbidden = [];
addEventListener("securitypolicyviolation", (event) =>
  window.forbidden.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
_COUNT_PIXELS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 3; at < data.length; at += 4) if (data[at] > 0) count += 1;
  return count;
}"""


def link(target: str, **figures: Any) -> dict[str, Any]:
    """One link of a status, well unless figures say otherwise."""
    return {
        "target": target,
        "state": "ok",
        "error": None,
        "paused_since_us": None,
        **dict.fromkeys(("stuck", "stale", "duplicate", "removed", "quarantined", "retries"), 0),
        "applied": 1_000,
        "pending": 0,
        "backlog_age_s": 0.0,
        "latency_ms": {"p50": 212.0, "p99": 840.0},
        **figures,
    }


def pipeline(source: str, *links: Mapping[str, Any], **figures: Any) -> dict[str, Any]:
    """One pipeline of a status, well unless figures say otherwise."""
    records = ("read", "local", "echo", "coalesced", "ignored", "conflicts", "quarantined")
    return {
        "table": "orders",
        "source": source,
        "mode": "multi-writer",
        "state": "running",
        "error": None,
        "stream_arn": None,
        "shards": {"open": 4, "finished": 2},
        "unsettled": 0,
        "stuck": 0,
        "gap": None,
        "records": {**dict.fromkeys(records, 0), "clamped": 0},
        "links": list(links),
        **figures,
    }


def status(*pipelines: Mapping[str, Any], **figures: Any) -> dict[str, Any]:
    """A status of pipelines; of three regions that are well if none is given."""
    found = pipelines or tuple(
        pipeline(source, *(link(target) for target in REGIONS if target != source))
        for source in REGIONS
    )
    return {
        "version": "0.1.0",
        "pid": 7,
        "started_us": 1_700_000_000_000_000,
        "state": "ok",
        "exposure": {region: {"seconds": 0.0, "records": 0} for region in REGIONS},
        "pipelines": list(found),
        **figures,
    }


class PageServer:
    """The shipping page over a status that a test may change at any time."""

    def __init__(
        self,
        *,
        access: Access | None = None,
        conflicts: Conflicts | None = None,
        switch: Switch = no_switch,
        port: int = 0,
    ) -> None:
        self.status = status()
        self._app = create_app(self._snapshot, access=access, conflicts=conflicts, switch=switch)
        self._listener = listen("127.0.0.1", port)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, as a process ends; a second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._loop.close()

    def _serve(self) -> None:
        self._loop.run_until_complete(serve_on(self._app, self._listener, self._stop))

    def _snapshot(self) -> dict[str, Any]:
        return {**self.status, "now_us": time.time_ns() // 1000}
