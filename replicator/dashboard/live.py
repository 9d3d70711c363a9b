"""The beat of the page: once a second one snapshot, for the history and for all who look.

The snapshot is taken once however many look. Nothing here waits for a client, and what goes wrong
in taking a snapshot comes out of `run`: a page that shows old figures for new ones is worse than
none.

This module must not know where a snapshot comes from.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from replicator.clock import SystemClock
from replicator.dashboard.feed import Feed, event
from replicator.dashboard.history import History
from replicator.ports import Clock

Snapshot: TypeAlias = Callable[[], dict[str, Any]]
"""Gives the status as the page, `replicator status` and the demo read it."""

BEAT_S = 1.0


class Live:
    """What is true now, what was, and who looks."""

    def __init__(self, snapshot: Snapshot, *, clock: Clock | None = None) -> None:
        self.snapshot = snapshot
        self.history = History()
        self.feed = Feed()
        self._clock = clock or SystemClock()
        self._newest: bytes | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until `stop` is set; then every stream ends."""
        try:
            while not stop.is_set():
                self.beat()
                try:
                    await asyncio.wait_for(stop.wait(), BEAT_S)
                except TimeoutError:
                    continue
        finally:
            self.feed.close()

    def beat(self) -> None:
        """Take one snapshot and pass it on."""
        status = self.snapshot()
        self.history.record(status, self._clock.now_us() / 1e6)
        self._newest = event("status", json.dumps(status, separators=(",", ":")).encode())
        self.feed.publish(self._newest)

    def newest(self) -> bytes | None:
        """The last message, for a newcomer."""
        return self._newest
