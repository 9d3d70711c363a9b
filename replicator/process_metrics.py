"""What a process tells CloudWatch, by lines in the embedded metric format on its standard output.

Logs go to standard error, so the two stay apart; a log driver that sends both to CloudWatch Logs
is all that it takes. A set of lines tells the whole status document: gauges as they are, counters
by their rise since the last set that was taken.

Whoever takes the output may be slow, stuck or gone, and a write to a full pipe hangs. So it is made
by a thread that nothing waits for at the end: replication goes on, and while one set is not taken
no other is made. What it would have counted is in the next.

This module must not know what a metric means: metrics.py does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from replicator.emf import drained, emf
from replicator.ports import Sleep
from replicator.telemetry import PipelineStats
from replicator.writer import first_of

log = logging.getLogger(__name__)

WRITE_WITHIN_S = 5.0
"""What a set of lines is waited for, at the end of the process too."""


@dataclass(slots=True, kw_only=True)
class ProcessMetrics:
    """The metrics of one process. `document` gives its status; `write` raises OSError."""

    document: Callable[[], Mapping[str, Any]]
    pipelines: Sequence[PipelineStats]
    interval_s: float
    write: Callable[[bytes], Awaitable[None]]
    sleep: Sleep
    _told: Mapping[str, Any] | None = None
    _under_way: tuple[Mapping[str, Any], asyncio.Future[None]] | None = None
    _error: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until `stop` is set, and once more then."""
        while not stop.is_set():
            await first_of(self.sleep(self.interval_s), stop.wait())
            await self._tell()

    async def _tell(self) -> None:
        if self._under_way is not None and not await self._is_over(*self._under_way):
            return
        document = self.document()
        lines = emf(document, since=self._told, latencies_ms=drained(self.pipelines))
        data = "".join(f"{line}\n" for line in lines).encode()
        self._under_way = document, asyncio.ensure_future(self.write(data))
        await self._is_over(*self._under_way)

    async def _is_over(self, document: Mapping[str, Any], writing: asyncio.Future[None]) -> bool:
        """Whether the writing has come to an end, be it a good or a bad one."""
        await asyncio.wait({writing}, timeout=WRITE_WITHIN_S)
        if not writing.done():
            self._failed("standard output takes nothing; what reads it is stuck")
            return False
        self._under_way = None
        try:
            writing.result()
        except OSError as error:
            self._failed(f"standard output: {error.strerror}")
            return True
        self._told = document
        if self._error is not None:
            log.info("emf.recovered")
        self._error = None
        return True

    def _failed(self, line: str) -> None:
        if self._error is None:
            log.error("emf.failing", extra={"error": line})
        self._error = line


async def write_by_thread(descriptor: int, data: bytes) -> None:
    """Write all to a file descriptor, by a thread that may hang. Raises: OSError.

    Past the buffer of `sys.stdout`, whose lock a thread that hangs would hold for ever, and the
    interpreter aborts when it cannot have it at its end.
    """
    running = asyncio.get_running_loop()
    done: asyncio.Future[None] = running.create_future()

    def settle(error: OSError | None) -> None:
        if done.done():  # given up meanwhile
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def write() -> None:
        error = _written(descriptor, data)
        with suppress(RuntimeError):  # the loop is closed, and nobody asks
            running.call_soon_threadsafe(settle, error)

    Thread(target=write, name="emf", daemon=True).start()
    await done


def _written(descriptor: int, data: bytes) -> OSError | None:
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        return error
    return None
