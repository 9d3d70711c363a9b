"""What the demo's page tells, beside the figures that people look at."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import urlopen

import pytest
from rich.console import Console

from replicator.clock import SystemClock
from replicator.compose import pipeline_stats
from replicator.dashboard.serving import listen
from replicator.demo.narrator import Narrator
from replicator.demo.screen import PlainLines
from replicator.demo.stage import Stage
from replicator.settings import Settings
from support.engines import free_port

REGIONS = ("us-east-1", "eu-west-1")


def reported(region: str) -> dict[str, Any]:
    """What the replicator of a region says."""
    regions: dict[str, Any] = {name: {} for name in REGIONS}
    tables: dict[str, Any] = {"orders": {"regions": REGIONS}}
    stats = pipeline_stats(Settings(regions=regions, tables=tables), "orders", region)
    stats.records.read = 7
    clock = SystemClock()
    document = stats.snapshot(clock.now_us())
    return {"state": "ok", "now_us": clock.now_us(), "exposure": {}, "pipelines": [document]}


def test_the_page_tells_prometheus_of_all_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of `run` does; latencies are measured in the replicators and told by them only."""
    stage = SimpleNamespace(
        clock=SystemClock(),
        status_ports={region: free_port() for region in REGIONS},
        statuses={region: reported(region) for region in REGIONS},
    )

    async def show(_: Narrator) -> None:
        """Draw nothing."""

    monkeypatch.setattr(Narrator, "_show", show)
    screen = PlainLines(Console(file=io.StringIO()))

    def scraped(port: int) -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    async def main() -> str:
        page = listen("127.0.0.1", free_port())
        narrator = Narrator(cast("Stage", stage), screen, 1.0)
        async with narrator.at_work(page):
            return await asyncio.to_thread(scraped, page.getsockname()[1])

    text = asyncio.run(main())
    for region in REGIONS:
        assert f'replicator_records_read_total{{table="orders",source="{region}"}} 7' in text
