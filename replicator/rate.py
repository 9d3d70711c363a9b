"""A bound on capacity units per second: a token bucket, for one process or for many.

It holds one second's worth. Whoever takes more than is there waits until the debt is paid, in the
order of arrival, so an item that is larger than the bucket passes all the same, and what is known
only afterwards (the size of a page that was read) can be paid for late.

Several processes share one bucket by grants: `hand_out` draws them from it one by one, and whoever
is out of units fetches the next (`Allowance`). Nobody owns a share, so none has to be given back: a
process that dies fetches no more, and the others have what it would have fetched. What dies with
it is the rest of one grant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from replicator.clock import SystemClock
from replicator.ports import Sleep

BURST_S = 1.0
"""How much of the rate may be saved up while nothing is taken."""

GRANT_S = 0.05
"""How much of the rate is fetched at once: small beside a second, and twenty calls a second."""


class Budget(Protocol):
    """What units are taken from."""

    async def take(self, units: float) -> None:
        """Take units, after a wait as long as the rate demands."""
        ...


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


def bucket_of(rate: float | None) -> Bucket:
    """A bucket in this process's time."""
    return Bucket(rate, monotonic_s=SystemClock().monotonic_s, sleep=asyncio.sleep)


class Allowance:
    """A Budget of units that are handed out elsewhere: those fetched last, and not yet taken."""

    def __init__(self, fetch: Callable[[], Awaitable[float]]) -> None:
        self._fetch, self._left, self._turn = fetch, 0.0, asyncio.Lock()

    async def take(self, units: float) -> None:
        """Take units, in the order of arrival; fetch as many grants as that takes."""
        async with self._turn:
            while self._left < units:
                self._left += await self._fetch()
            self._left -= units


async def hand_out(rate: float, give: Callable[[float], Awaitable[None]], bucket: Budget) -> None:
    """Give grants out of a bucket of that rate, for ever; `give` waits until one is wanted."""
    grant = rate * GRANT_S
    while True:
        await bucket.take(grant)
        await give(grant)
