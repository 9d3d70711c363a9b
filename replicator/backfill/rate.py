"""A bound on capacity units per second: a token bucket.

It holds one second's worth. Whoever takes more than is there waits until the debt is paid, in the
order of arrival, so an item that is larger than the bucket passes all the same, and what is known
only afterwards (the size of a page that was read) can be paid for late.
"""

from __future__ import annotations

from collections.abc import Callable

from replicator.ports import Sleep

BURST_S = 1.0
"""How much of the rate may be saved up while nothing is taken."""


class Bucket:
    """Units per second; None: no bound."""

    def __init__(
        self, rate: float | None, *, monotonic_s: Callable[[], float], sleep: Sleep
    ) -> None:
        self._rate = rate
        self._monotonic_s, self._sleep = monotonic_s, sleep
        self._paid_until_s = monotonic_s()

    async def take(self, units: float) -> None:
        """Take units, after a wait as long as the rate demands."""
        if self._rate is None:
            return
        now_s = self._monotonic_s()
        start_s = max(self._paid_until_s, now_s - BURST_S)
        self._paid_until_s = start_s + units / self._rate
        if self._paid_until_s > now_s:
            await self._sleep(self._paid_until_s - now_s)
