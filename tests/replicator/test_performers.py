"""Who performs tasks: so many at once per region, none held up by another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from replicator.performers import Performers, StepAside

PER_REGION = 4


@dataclass(frozen=True, slots=True)
class Named:
    """A task by its name."""

    region: str
    name: int = 0


class Stage:
    """Tasks that wait until they are let go, unless the region is `quick`."""

    def __init__(self) -> None:
        self.begun: list[Named] = []
        self.aside: dict[Named, StepAside] = {}
        self.held: dict[Named, asyncio.Event] = {}
        self.next: dict[Named, Sequence[Named]] = {}

    def at_once(self, task: Named) -> Sequence[Named] | None:
        """What a task of the region "here" makes ready; all others have to be performed."""
        return self.next.get(task, ()) if task.region == "here" else None

    async def perform(self, task: Named, step_aside: StepAside) -> Sequence[Named]:
        """Note the task, and wait."""
        self.begun.append(task)
        self.aside[task] = step_aside
        if task.region != "quick":
            self.held[task] = asyncio.Event()
            await self.held[task].wait()
        return self.next.get(task, ())


async def settled() -> None:
    """Let whatever can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


def staged(script: Callable[[Stage, Performers[Named]], Awaitable[None]]) -> Stage:
    """Run a script with performers, and cancel them at its end."""
    stage = Stage()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            performers = Performers(
                perform=stage.perform,
                at_once=stage.at_once,
                group=group,
                per_region=PER_REGION,
            )
            await script(stage, performers)
            performers.cancel()

    asyncio.run(main())
    return stage


@pytest.mark.parametrize("at_once", [True, False])
def test_a_task_waits_for_no_other_while_there_is_room(at_once: bool) -> None:
    """Up to the limit, one that takes long holds up none of its region, however they came."""

    async def script(stage: Stage, performers: Performers[Named]) -> None:
        tasks = [Named("eu", name) for name in range(PER_REGION + 2)]
        for part in [tasks] if at_once else [[task] for task in tasks]:
            performers.take_on(part)
            await settled()
        assert stage.begun == tasks[:PER_REGION]
        stage.held[tasks[2]].set()
        await settled()
        assert stage.begun == tasks[: PER_REGION + 1]

    staged(script)


def test_a_region_waits_for_no_other() -> None:
    """A region whose tasks all hang takes no performer from another."""

    async def script(stage: Stage, performers: Performers[Named]) -> None:
        performers.take_on(Named("eu", name) for name in range(2 * PER_REGION))
        performers.take_on([Named("us")])
        await settled()
        assert Named("us") in stage.begun

    staged(script)


def test_whoever_steps_aside_makes_room() -> None:
    """Tasks in trouble stay with their performers, and others take their places, once each."""

    async def script(stage: Stage, performers: Performers[Named]) -> None:
        tasks = [Named("eu", name) for name in range(3 * PER_REGION)]
        performers.take_on(tasks)
        await settled()
        for task in tasks[:PER_REGION]:
            stage.aside[task]()
            stage.aside[task]()
        await settled()
        assert stage.begun == tasks[: 2 * PER_REGION]
        for task in tasks[:PER_REGION]:
            stage.held[task].set()
        await settled()
        assert stage.begun == tasks[: 2 * PER_REGION]

    staged(script)


def test_what_a_task_makes_ready_is_performed() -> None:
    """Also in other regions; and when nothing is left, it is quiet."""

    async def script(stage: Stage, performers: Performers[Named]) -> None:
        stage.next = {Named("quick", 1): [Named("quick", 2), Named("eu", 3)]}
        performers.take_on([Named("quick", 1)])
        await settled()
        assert not performers_quiet(performers)
        stage.held[Named("eu", 3)].set()
        await performers.wait_until_quiet()
        assert len(performers) == 0

    assert len(staged(script).begun) == 3


def performers_quiet(performers: Performers[Named]) -> bool:
    """Whether nobody is at work."""
    return len(performers) == 0


def test_quick_tasks_need_few_performers() -> None:
    """Where tasks wait for nothing, the first performs nearly all of them."""

    async def script(stage: Stage, performers: Performers[Named]) -> None:
        performers.take_on(Named("quick", name) for name in range(1000))
        assert len(performers) <= 2
        await performers.wait_until_quiet()
        assert stage.begun == [Named("quick", name) for name in range(1000)]

    staged(script)


def test_what_waits_for_nothing_needs_no_performer() -> None:
    """A task that ends at once is ended when it is taken on, and what it makes ready goes on."""

    async def script(stage: Stage, performers: Performers[Named]) -> None:
        stage.next = {Named("here", 1): [Named("here", 2), Named("eu", 3)]}
        performers.take_on([Named("here", 1), Named("here", 4)])
        assert len(performers) == 1
        await settled()
        assert stage.begun == [Named("eu", 3)]

    staged(script)
