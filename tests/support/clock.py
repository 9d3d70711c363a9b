"""Virtual time for asyncio: nothing waits, and the clock moves only when every task does.

The event loop asks its selector to block until the next timer is due. Here the selector does not
block: it moves the clock to that moment and returns. So time advances exactly when nothing can run,
an hour of backoff passes in a millisecond, and the same test takes the same steps each time.

A wait that nothing can ever end (no timer is left) raises `Deadlock`; a test that runs on past its
limit of virtual time raises `OutOfTime`. Not for code that waits for real sockets or threads.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_US = 1_700_000_000_000_000
LIMIT_S = 7 * 86_400.0
CLEANUP_S = 3_600.0
"""What the tasks of a test that is out of time are given to be cancelled in."""


class Deadlock(AssertionError):
    """Every task waits, and no timer will wake one."""


class OutOfTime(AssertionError):
    """The test has used up its virtual time."""


class VirtualClock:
    """Wall clock, monotonic clock and sleep of one test, all virtual."""

    def __init__(self, *, start_us: int = START_US) -> None:
        self._start_us = start_us
        self._elapsed_s = 0.0
        self._limit_s = LIMIT_S

    def now_us(self) -> int:
        """Virtual microseconds UTC."""
        return self._start_us + round(self._elapsed_s * 1e6)

    def monotonic_s(self) -> float:
        """Virtual seconds since the clock was made."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time; lets the other tasks run even for 0."""
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool], *, step_s: float = 0.01) -> None:
        """Wait until the condition holds, looked at every `step_s` of virtual time."""
        while not condition():  # noqa: ASYNC110 - looking costs nothing here
            await asyncio.sleep(step_s)

    def advance(self, seconds: float) -> None:
        """Move the clock, raising OutOfTime past the limit of `run`."""
        self._elapsed_s += seconds
        if self._elapsed_s > self._limit_s:
            self._limit_s += CLEANUP_S
            raise OutOfTime(f"still running at {self._elapsed_s} virtual seconds")

    def run(self, main: Coroutine[Any, Any, T], *, limit_s: float = LIMIT_S) -> T:
        """Run a coroutine to its end on an event loop that lives in this clock's time."""
        self._limit_s = self._elapsed_s + limit_s
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_VirtualSelector(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock.monotonic_s()


class _VirtualSelector(selectors.DefaultSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("every task waits, and no timer will wake one")
        self._clock.advance(timeout)
        return []
