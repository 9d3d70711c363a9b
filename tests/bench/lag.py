"""Lag at half load, by the writer's own clock in microseconds, before a real engine.

Writer and replicator share this process and its clock. Full load is what both of them do together
when nothing holds the writer back; at half of it each write has its time. A write counts from when
its call was answered to when the put in the target was. Waiting for the next poll and one round
trip are nobody's fault: what is measured is what comes on top.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from bench import plain
from bench.answers import TABLE
from bench.engine import WARM_UP, Place, running
from bench.figures import Bench, Figure, Round, at_most
from bench.replication import AWAY, HOME, LOOK_EVERY_S, opened, replicate, settings_for
from replicator import loop
from replicator.compose import POLL_MIN_S
from replicator.ports import Api
from replicator.records import Mode

FULL_LOAD_ITEMS = 3000
ITEMS = 2000
FIRST = 10**9
"""The number of an item that no other has."""
WRITERS = 16
"""Writes under way at once at most. One after the other they would wait for the engine alone."""


@dataclass(slots=True)
class Watched:
    """Notes when the put of each key was answered."""

    api: Api
    answered_s: dict[str, float] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Pass on, and note."""
        begun_s = time.monotonic()
        answer = await self.api.call(operation, request)
        if operation == "PutItem" and "id" in request["Item"]:
            now_s = time.monotonic()
            self.answered_s[request["Item"]["id"]["S"]] = now_s
            self.took_s.append(now_s - begun_s)
        return answer


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one run. `taken_s`: from the first write to the last put in the target."""

    taken_s: float
    lags_ms: list[float]
    round_trip_ms: float


@contextmanager
def _lag() -> Iterator[Round]:
    with running() as at:
        for _ in range(WARM_UP):
            full = _run(at, FULL_LOAD_ITEMS, rate=None)
        rate = FULL_LOAD_ITEMS / full.taken_s / 2

        def measure() -> Mapping[str, float]:
            seen = _run(at, ITEMS, rate)
            cuts = quantiles(seen.lags_ms, n=100)
            poll_ms = POLL_MIN_S * 1000
            return {
                "lag-p50": cuts[49] - (poll_ms / 2 + seen.round_trip_ms),
                "lag-p99": cuts[98] - (poll_ms + seen.round_trip_ms),
                "p50 ms": cuts[49],
                "p99 ms": cuts[98],
                "round trip ms": seen.round_trip_ms,
                "items/s": rate,
            }

        yield measure


def _run(at: Place, items: int, rate: float | None) -> Seen:
    """Write and replicate in untouched regions; `rate` in items a second, None: what goes."""
    settings = settings_for(
        Mode.ONE_WAY,
        at.url,
        aws_regions=(at.region_with(TABLE), at.region_with(TABLE)),
        poll_idle_s=POLL_MIN_S,
    )
    with opened(settings) as apis:
        home, away = Watched(apis[HOME]), Watched(apis[AWAY])
        begun_s = 0.0

        async def write_some(numbers: Iterator[int]) -> None:
            for number in numbers:
                if rate is not None:
                    await asyncio.sleep(max(0.0, begun_s + number / rate - time.monotonic()))
                await home.call("PutItem", {"TableName": TABLE, "Item": plain.wire_item(number)})

        async def write() -> None:
            nonlocal begun_s
            await _put_first(home, away)
            begun_s = time.monotonic()
            numbers = iter(range(items))
            await asyncio.gather(*(write_some(numbers) for _ in range(WRITERS)))

        loop.run(replicate(settings, {HOME: home, AWAY: away}, 1 + items, meanwhile=write))
    return Seen(
        max(away.answered_s.values()) - begun_s,
        [1000 * (away.answered_s[key] - at_s) for key, at_s in home.answered_s.items()],
        1000 * median(away.took_s),
    )


async def _put_first(home: Watched, away: Watched) -> None:
    """Bring one item across that does not count.

    DynamoDB Local calls an iterator trimmed that was made before a stream's first record, so that
    this record waits for a poll more than any other.
    """
    await home.call("PutItem", {"TableName": TABLE, "Item": plain.wire_item(FIRST)})
    while not away.answered_s:  # noqa: ASYNC110 - an endpoint tells no event
        await asyncio.sleep(LOOK_EVERY_S)
    for noted in (home.answered_s, away.answered_s, away.took_s):
        noted.clear()


BENCHES = (
    Bench(
        figures=[
            Figure(
                name="lag-p50",
                title="lag at half load, p50 - (poll / 2 + round trip)",
                goal=at_most(30),
                unit="ms",
            ),
            Figure(
                name="lag-p99",
                title="lag at half load, p99 - (poll + round trip)",
                goal=at_most(60),
                unit="ms",
            ),
        ],
        prepare=_lag,
    ),
)
