"""What is told about the running demo: the picture for the screen, the status for the page."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from replicator.dashboard.app import create_app
from replicator.dashboard.gather import Gatherer, Gathering
from replicator.dashboard.serving import serve_on
from replicator.demo import statuses
from replicator.demo.screen import LinkView, Screen, View
from replicator.demo.stage import STATUS_INTERVAL_S, Stage, every, together
from replicator.demo.world import LOOPBACK, TABLES, DemoTable, Pair

if TYPE_CHECKING:
    from replicator.exporting import Metrics


class Narrator:
    """Tells the screen and the page how the stage stands."""

    def __init__(self, stage: Stage, screen: Screen, seconds: float) -> None:
        self._stage = stage
        self._screen = screen
        self._seconds = seconds
        self._phase = "start"
        self._began_s: float | None = None
        ports = stage.status_ports.items()
        self._names = {region: f"http://{LOOPBACK}:{port}" for region, port in ports}
        self._gathering = Gathering(names=[*self._names.values()], clock=stage.clock)

    def enter(self, phase: str, says: str) -> None:
        """A phase begins; the time of the first is the beginning of the writing."""
        if self._began_s is None:
            self._began_s = self._stage.clock.monotonic_s()
        self._phase = phase
        self._screen.event(f"{phase}: {says}")

    @asynccontextmanager
    async def at_work(self, page: socket.socket | None) -> AsyncIterator[None]:
        """Keep the screen up to date, and serve the status page where there is a socket for it."""
        done = asyncio.Event()
        async with together() as group:
            group.create_task(every(STATUS_INTERVAL_S, self._show, until=done))
            if page is not None:
                address = f"http://{LOOPBACK}:{page.getsockname()[1]}/"
                self._screen.event(f"status page: {address}")
                gatherer = Gatherer(gathering=self._gathering, authorization=None)
                app = create_app(
                    self.status, conflicts=gatherer.conflicts, metrics=self._metrics().prometheus
                )
                group.create_task(serve_on(app, page, done))
            try:
                yield
            finally:
                done.set()

    def _metrics(self) -> Metrics:
        """What the page tells Prometheus; latencies are measured in the replicators only."""
        from replicator.exporting import Metrics  # noqa: PLC0415 - heavy, and of the page alone

        return Metrics(document=self.status, pipelines=(), instance=f"{os.getpid()}")

    def status(self) -> dict[str, Any]:
        """The status of all replicators together."""
        for region, name in self._names.items():
            self._gathering.note(name, self._stage.statuses.get(region))
        return self._gathering.document()

    async def _show(self) -> None:
        self._screen.show(self._view())

    def _view(self) -> View:
        stage = self._stage
        now_s = stage.clock.monotonic_s()
        return View(
            phase=self._phase,
            elapsed_s=0.0 if self._began_s is None else now_s - self._began_s,
            total_s=self._seconds,
            writes={
                (table.name, region): stage.journal.of(table.name, region)
                for table in TABLES
                for region in table.writers
            },
            conflicts=stage.journal.conflicts,
            replicated=statuses.total(stage.statuses, "applied"),
            links={
                (table.name, pair): self._link(table, pair)
                for table in TABLES
                for pair in table.links
            },
            cut=stage.cut,
        )

    def _link(self, table: DemoTable, pair: Pair) -> LinkView:
        source, target = pair
        reported = statuses.links(self._stage.statuses).get((table.name, source, target))
        return LinkView(
            pending=None if reported is None else reported["pending"],
            state="not answering" if reported is None else reported["state"],
            connected=self._stage.network.connected(pair),
            lag_ms=self._stage.canaries.newest_lag_ms(table, pair),
        )
