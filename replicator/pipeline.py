"""One table and source region, for as long as the process lives.

A session runs from the stored positions until it is stopped or something that cannot be tried
again in place goes wrong; then everything under way is dropped and the next session starts, after
a pause, from what is stored. Dropping is safe at any point: every step may be run again.

This module must not know DynamoDB, HTTP or configuration files.
"""

from __future__ import annotations

import asyncio
import logging

from replicator.errors import ReplicatorError, first_of_all, spoken
from replicator.parts import PipelineParts
from replicator.pausing import Valve
from replicator.session import Session
from replicator.telemetry import PipelineState
from replicator.writer import first_of

log = logging.getLogger(__name__)


class Pipeline:
    """The replication of one table out of one region."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self._valve = Valve(parts)
        self.stats = parts.stats

    @property
    def parts(self) -> PipelineParts:
        """What it is made of, for who reads otherwise than by polling (lambda_handler.py)."""
        return self._parts

    async def run(self, stop: asyncio.Event) -> None:
        """Replicate until `stop` is set; then drain and checkpoint."""
        failures = 0
        while not stop.is_set():
            session = Session(self._parts)
            try:
                await self._run(session, stop)
            except* Exception as group:  # noqa: BLE001 - reported, and begun again
                failures = 0 if session.made_progress else failures + 1
                self._failed(group.exceptions[0])
            if not (stop.is_set() or self._valve.shut):
                await self._wait(stop, failures)
        self.stats.state = PipelineState.STOPPED

    async def _run(self, session: Session, stop: asyncio.Event) -> None:
        """Run a session until it is stopped, fails, or every link is paused."""
        await self._valve.look()
        await self._valve.wait_open(stop)
        if stop.is_set():
            return
        halt = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._valve.watch(stop, halt))
            await session.run(halt)
            watching.cancel()

    def _failed(self, error: BaseException) -> None:
        error = first_of_all(error)
        self.stats.state = PipelineState.RETRYING
        self.stats.session_error = spoken(error)
        self.stats.readable = False
        known = isinstance(error, ReplicatorError)
        log.error(
            "pipeline.restarting",
            extra={
                "table": self.stats.table,
                "region": self.stats.source,
                "error": self.stats.session_error,
                "known": known,
            },
        )

    async def _wait(self, stop: asyncio.Event, failures: int) -> None:
        limits = self._parts.limits
        grown_s = limits.restart_base_s * 2.0 ** min(failures, 10)
        pause_s = min(limits.restart_max_s, grown_s) * self._parts.rng.uniform(0.5, 1.0)
        await first_of(self._parts.sleep(pause_s), stop.wait())
