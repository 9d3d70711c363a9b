"""Who performs tasks: for each region so many at once, each going from one task to the next.

A task is small, so none gets a coroutine of its own: whoever has ended one takes the next that is
ready for its region. A region's performers wait for no other region, so that a slow target delays
only itself. A performer whose task runs into trouble steps aside: it stays with the task as long as
that takes, and another takes its place among those that are ready to work.

This module must not know what a task is for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar


class Placed(Protocol):
    """A task that happens in a region."""

    @property
    def region(self) -> str: ...


T = TypeVar("T", bound=Placed)

StepAside = Callable[[], None]

COMING_MAX = 2
"""Performers on their way at once. Each that begins engages others where there is work: soon all
are there, and few in vain where tasks wait for nothing and the first performs them all."""

TURN = 64
"""Tasks after which a performer lets others have the loop."""


class Performers(Generic[T]):
    """The performers of one session, made as they are needed in the group that is passed in."""

    def __init__(
        self,
        *,
        perform: Callable[[T, StepAside], Awaitable[Sequence[T]]],
        at_once: Callable[[T], Sequence[T] | None],
        group: asyncio.TaskGroup,
        per_region: int,
    ) -> None:
        """`perform` is given a task and a way to step aside, and returns what is ready now.

        `at_once` does the same where nothing has to be waited for, and else returns None.
        """
        self._perform, self._at_once = perform, at_once
        self._group, self._per_region = group, per_region
        self._ready: dict[str, deque[T]] = {}
        self._counted: dict[str, int] = {}
        """Performers per region, without those that have stepped aside."""
        self._coming: dict[str, int] = {}
        """Of these, those that have been engaged and have not begun."""
        self._all: dict[asyncio.Task[None], str] = {}
        self._at: dict[asyncio.Task[None], T] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()

    def __len__(self) -> int:
        """How many are at work."""
        return len(self._all)

    def take_on(self, tasks: Iterable[T]) -> None:
        """Have tasks performed, those of a region in their order."""
        coming = deque(tasks)
        while coming:
            task = coming.popleft()
            made = self._at_once(task)
            if made is not None:
                coming.extend(made)
                continue
            region = task.region
            ready = self._ready.get(region)
            if ready is None:
                ready = self._ready[region] = deque()
                self._counted[region] = self._coming[region] = 0
            ready.append(task)
            self._engage(region)

    async def wait_until_quiet(self) -> None:
        """Return when no task is left."""
        await self._quiet.wait()

    def cancel(self) -> None:
        """Drop everything under way."""
        for performer in tuple(self._all):
            performer.cancel()

    def drop(self, region: str) -> list[T]:
        """Drop what is under way in one region, and what is ready for it; returns all of that.

        Who is cancelled here takes no further part, so the region begins without anybody.
        """
        ready = self._ready.get(region, deque())
        dropped = [task for task in self._at.values() if task.region == region]
        dropped += ready
        for performer, engaged_for in self._all.items():
            if engaged_for == region:
                performer.cancel()
        ready.clear()
        self._counted[region] = self._coming[region] = 0
        return dropped

    def _engage(self, region: str) -> None:
        """Have one more come to what is ready, since whoever is at work may be at it for long."""
        if self._counted[region] >= self._per_region or self._coming[region] >= COMING_MAX:
            return
        self._counted[region] += 1
        self._coming[region] += 1
        performer = self._group.create_task(self._work(region))
        self._all[performer] = region
        self._quiet.clear()
        performer.add_done_callback(self._left)

    def _left(self, performer: asyncio.Task[None]) -> None:
        del self._all[performer]
        self._at.pop(performer, None)
        if not self._all:
            self._quiet.set()

    async def _work(self, region: str) -> None:
        ready, aside, performed = self._ready[region], False, 0

        def step_aside() -> None:
            nonlocal aside
            if not aside:
                aside = True
                self._counted[region] -= 1
                if ready:
                    self._engage(region)

        self._coming[region] -= 1
        for _ in range(min(COMING_MAX, len(ready) - 1)):
            self._engage(region)
        performer = asyncio.current_task()
        assert performer is not None
        while ready and not aside:
            task = self._at[performer] = ready.popleft()
            self.take_on(await self._perform(task, step_aside))
            performed += 1
            if performed % TURN == 0:
                await asyncio.sleep(0)  # tasks that wait for nothing must not hold up the loop
        step_aside()
