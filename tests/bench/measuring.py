"""CPU and wall time of a piece of work, and two pieces side by side.

CPU time is that of the whole process, all threads, user and system. The garbage of one piece is
collected before the next begins, so that neither pays for the other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What `count` things cost together, in seconds."""

    count: int
    cpu_s: float
    wall_s: float

    @property
    def cpu_us_each(self) -> float:
        """CPU per thing, in microseconds."""
        return self.cpu_s * 1e6 / self.count

    @property
    def per_s(self) -> float:
        """Things per second of wall time."""
        return self.count / self.wall_s


def cost(work: Callable[[], int]) -> Cost:
    """Run `work`, which returns how many things it did."""
    gc.collect()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    count = work()
    return Cost(count, time.process_time() - cpu_s, time.perf_counter() - wall_s)


class Turns:
    """Runs two pieces of work one after the other, each first every other time."""

    def __init__(self, one: Callable[[], int], other: Callable[[], int]) -> None:
        self._one, self._other, self._turn = one, other, 0

    def take(self) -> tuple[Cost, Cost]:
        """The cost of the one and of the other."""
        self._turn += 1
        if self._turn % 2:
            first = cost(self._one)
            return first, cost(self._other)
        second = cost(self._other)
        return cost(self._one), second
