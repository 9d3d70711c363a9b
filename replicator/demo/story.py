"""The demo from beginning to end: four phases of writing, then the verdict.

`--seconds` is the time in which the applications write; starting, settling and judging come on
top. While one region is cut off everybody goes on writing, to the same keys on both sides.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator.dashboard.serving import listen
from replicator.demo.children import isolated_environment
from replicator.demo.closing import closing_rows, closing_title
from replicator.demo.narrator import Narrator
from replicator.demo.screen import Screen
from replicator.demo.stage import REPLICATOR, Stage, open_stage
from replicator.demo.verdict import SETTLE_WITHIN_S, judge
from replicator.demo.world import CUT_OFF, LOOPBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the writing time, and how much of the writing goes to the hot keys meanwhile."""

    name: str
    share: float
    hot_share: float
    says: str
    cut: bool = False


PHASES = (
    Phase(
        name="warm-up",
        share=0.15,
        hot_share=0.05,
        says="every region writes, mostly to keys of its own choice",
    ),
    Phase(
        name="conflict",
        share=0.25,
        hot_share=0.7,
        says="every region writes to the same few keys: puts, partial updates, deletes, re-creates",
    ),
    Phase(
        name="cut",
        share=0.35,
        hot_share=0.7,
        says=f"✂ {CUT_OFF} is cut off; everyone keeps writing to the same keys",
        cut=True,
    ),
    Phase(
        name="heal",
        share=0.25,
        hot_share=0.5,
        says=f"{CUT_OFF} is back; both sides catch up, and everyone keeps writing",
    ),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNAL_STATUS_BASE = 128
"""A process that ends by a signal has the status 128 + its number: 130 for Ctrl-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be chosen. `port`: of the status page, None for no page, 0 for any that is free.

    `replicator` is the command under test.
    """

    seconds: float
    seed: int
    port: int | None = None
    replicator: Sequence[str] = REPLICATOR
    settle_within_s: float = SETTLE_WITHIN_S


def play(options: Options, screen: Screen) -> int:
    """Play the demo; the result is the exit status.

    Raises: ReplicatorError when something of it cannot be started or ends before its time.
    """
    with (
        isolated_environment(),
        tempfile.TemporaryDirectory(prefix="replicator-demo-") as directory,
        ExitStack() as stack,
    ):
        page = None
        if options.port is not None:
            page = stack.enter_context(listen(LOOPBACK, options.port))
        with screen:
            return asyncio.run(_until_signal(_play(Path(directory), options, screen, page)))


async def _until_signal(story: Coroutine[Any, Any, int]) -> int:
    """Let the story run; the first signal has it clean up, more of them do not disturb it."""
    received: list[signal.Signals] = []
    task = asyncio.create_task(story)

    def stop(number: signal.Signals) -> None:
        if not received:
            task.cancel()
        received.append(number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return SIGNAL_STATUS_BASE + received[0]


async def _play(
    directory: Path, options: Options, screen: Screen, page: socket.socket | None
) -> int:
    screen.event("starting the engine with three regions, and a replicator in each of them")
    async with open_stage(directory, seed=options.seed, replicator=options.replicator) as stage:
        narrator = Narrator(stage, screen, options.seconds)
        async with stage.watchers(), narrator.at_work(page):
            await stage.wait_until_running()
            await _write(stage, narrator, options.seconds)
            narrator.enter("settle", "the applications are quiet; waiting for equal tables")
            verdict = await judge(stage, within_s=options.settle_within_s)
    screen.close(closing_title(verdict), closing_rows(verdict, stage), good=verdict.good)
    return 0 if verdict.good else 1


async def _write(stage: Stage, narrator: Narrator, seconds: float) -> None:
    """All phases in which the applications write."""
    async with stage.applications():
        for phase in PHASES:
            narrator.enter(phase.name, phase.says)
            for application in stage.orders.values():
                application.hot_share = phase.hot_share
            with stage.cut_off(CUT_OFF) if phase.cut else nullcontext():
                await asyncio.sleep(seconds * phase.share)
