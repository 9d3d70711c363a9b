"""How long a person who waits for a command is kept waiting for a region: not for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

from replicator.errors import Fatal, ReplicatorError, Throttled
from replicator.ports import Clock

GIVE_UP_AFTER_S = 60.0
"""How long a region may fail without a single answer before the command ends."""


@dataclass(slots=True)
class Patience:
    """Ends what a person waits for when a region has not answered for a while.

    What cannot pass ends it at once; throttling never does.
    """

    clock: Clock
    failing_since_s: dict[str, float] = field(default_factory=dict)

    def failed(self, region: str, error: Exception) -> None:
        if isinstance(error, Throttled):
            return
        now_s = self.clock.monotonic_s()
        if now_s - self.failing_since_s.setdefault(region, now_s) > GIVE_UP_AFTER_S:
            raise Fatal(str(error))

    def recovered(self, region: str) -> None:
        self.failing_since_s.pop(region, None)

    def stuck(self, region: str, error: Exception, *, first: bool) -> None:
        del region, first
        if isinstance(error, ReplicatorError):
            raise error

    def freed(self, region: str) -> None:
        del region
