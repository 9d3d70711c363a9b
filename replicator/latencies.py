"""The latencies of one link: percentiles of late, and a histogram of all.

A latency is taken down for each change that lands, so that is kept to a fraction of a microsecond:
three appends and a bucket. Everything else is worked out when somebody looks.

This module must not know what is measured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WINDOW = 4_096
"""Deliveries over which percentiles are taken, at most."""

RECENT_US = 60_000_000
"""Percentiles are of deliveries from so long ago at most: what was before says nothing of now,
however few have followed."""

BOUNDS_S: tuple[float, ...] = (
    *(0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0),
)
"""Of the histogram's buckets: from a fast link to the whole retention of a stream."""

_BOUNDS_MS = tuple(bound * 1000 for bound in BOUNDS_S)


@dataclass(slots=True)
class Latencies:
    """What deliveries took, in milliseconds.

    `window_ms`: the newest, and `noted_us` when each of them was noted.
    `buckets`: how many were at most each of BOUNDS_S and above the one before; the rest come last.
    `untold_ms`: the newest that nobody has taken out yet (emf.py does).
    """

    window_ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    noted_us: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    untold_ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_ms: float = 0.0
    least_ms: float = float("inf")
    greatest_ms: float = 0.0

    def note(self, latency_ms: float, now_us: int) -> None:
        """A change has landed by now, so long after it was written."""
        self.window_ms.append(latency_ms)
        self.noted_us.append(now_us)
        self.untold_ms.append(latency_ms)
        self.buckets[bisect_left(_BOUNDS_MS, latency_ms)] += 1
        self.sum_ms += latency_ms
        self.greatest_ms = max(self.greatest_ms, latency_ms)
        self.least_ms = min(self.least_ms, latency_ms)

    def percentiles(self, fractions: Sequence[float], now_us: int) -> list[float | None]:
        """The values at some fractions of the recent ones in order of size; None without any."""
        since_us = now_us - RECENT_US
        noted = zip(self.window_ms, self.noted_us, strict=True)
        return percentiles((ms for ms, noted_us in noted if noted_us >= since_us), fractions)


def percentiles(values: Iterable[float], fractions: Sequence[float]) -> list[float | None]:
    """The values at some fractions of the sorted values, None where there are none."""
    ordered = sorted(values)
    if not ordered:
        return [None] * len(fractions)
    last = len(ordered) - 1
    return [round(ordered[min(last, int(fraction * len(ordered)))], 1) for fraction in fractions]
