"""The machine's clocks, behind the port that everything else knows."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()
