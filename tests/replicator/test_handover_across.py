"""The note of until when all is across: never too late, and how far behind the truth it may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from replicator.errors import Transient
from replicator.handover.across import LOOK_EVERY_S, NOTE_EVERY_S, STILL_S, Across, Noter
from replicator.parts import PipelineLimits
from replicator.reader import ReaderLimits
from replicator.records import Mode
from support.figures import GAP
from support.ledgers import MemoryControl
from support.pipelines import PipelineBench
from support.scripted_api import ScriptedApi

READER = ReaderLimits(poll_min_s=0.1, poll_idle_s=0.25)
"""As the settings have them, unless told otherwise."""

ON_THE_WAY_S = READER.poll_idle_s + LOOK_EVERY_S + 0.05
"""Until a write is read, is in the target (some calls of a millisecond) and is known to be."""

LOOKS, LOOK_S = 4_500, 0.01

Pace = Callable[[Random], Iterator[float]]


def _busy(rng: Random) -> Iterator[float]:
    while True:
        yield rng.uniform(0.005, 0.06)


def _seldom(rng: Random) -> Iterator[float]:
    while True:
        yield rng.uniform(0.5, 5.0)


def _in_bursts(rng: Random) -> Iterator[float]:
    while True:
        yield rng.uniform(0.3, 4.0)
        yield from (rng.uniform(0.001, 0.04) for _ in range(rng.randrange(1, 120)))


class Noting:
    """A one-way pipeline with its notes, a writer, and what the journal says of both."""

    def __init__(self) -> None:
        self.bench = PipelineBench(mode=Mode.ONE_WAY, reader_limits=READER)
        self.control = MemoryControl()
        self.written: dict[str, int] = {}
        self.notes: list[int] = []
        self._noter = Noter(
            apis={"eu": self.control},
            control_table="control",
            pipelines=[self.bench.stats],
            clock=self.bench.clock,
            sleep=self.bench.clock.sleep,
        )

    def run(self, script: Callable[[], object], paces: Iterator[float] | None = None) -> None:
        """Replicate, note and write, and look at it all for three quarters of a minute."""

        async def main() -> None:
            tasks = [asyncio.create_task(self._noter.run(self.bench.stop))]
            if paces is not None:
                tasks.append(asyncio.create_task(self._write(paces)))
            try:
                for _ in range(LOOKS):
                    await self.bench.clock.sleep(LOOK_S)
                    script()
            finally:
                self.bench.stop.set()
                await asyncio.gather(*tasks)

        self.bench.run(main)

    async def _write(self, paces: Iterator[float]) -> None:
        for number, pause_s in enumerate(paces):
            await self.bench.clock.sleep(pause_s)
            if self.bench.stop.is_set():
                return
            self.written[str(number)] = self.bench.clock.now_us()
            self.bench.write(str(number), "x")

    @property
    def noted_us(self) -> int | None:
        """What the target's row says."""
        row = self.control.rows.get(("across#orders", "us"))
        noted_us = None if row is None else int(row["until_us"]["N"])
        if noted_us is not None and noted_us not in self.notes[-1:]:
            self.notes.append(noted_us)
        return noted_us

    @property
    def true_us(self) -> int:
        """When the oldest write was made that is not across; now if there is none."""
        there = self.bench.contents("eu")
        lost = (at for name, at in self.written.items() if name not in there)
        return min(lost, default=self.bench.clock.now_us())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("pace", [_busy, _seldom, _in_bursts])
def test_the_note_is_one_interval_behind_the_truth_at_most(pace: Pace, seed: int) -> None:
    """Whenever source and process are lost: never less is told than the journal says is lost, and
    more by an interval at most, besides the way of a write. It takes about one write an interval.
    """
    noting = Noting()
    behind_s: list[float] = []

    def look() -> None:
        noted_us = noting.noted_us
        if noted_us is not None:
            behind_s.append((noting.true_us - noted_us) / 1e6)

    noting.run(look, pace(Random(seed)))
    assert len(behind_s) > 0.9 * LOOKS
    assert min(behind_s) >= 0.0
    assert max(behind_s) <= NOTE_EVERY_S + ON_THE_WAY_S
    assert len(noting.notes) <= 1.3 * LOOKS * LOOK_S / NOTE_EVERY_S


def test_a_backlog_that_is_caught_up_is_noted_no_more_often() -> None:
    """What is known then rises by hours within a second."""
    noting = Noting()
    for age_s in range(7_200, 0, -5):
        noting.bench.append_aged(f"old {age_s}", age_s)
    noting.bench.ports["eu"].call_s = 0.1
    noting.run(lambda: noting.noted_us)
    assert noting.bench.clock.now_us() - noting.notes[-1] < 2_000_000
    assert all(later > earlier for earlier, later in pairwise(noting.notes))
    assert len(noting.notes) <= 1 + LOOKS * LOOK_S / STILL_S


@pytest.mark.parametrize("error", [Transient("down"), ValueError("a bug")])
def test_a_target_that_takes_no_note_is_asked_again(error: Exception) -> None:
    """The next note says what the missed ones would have said, and a gap says nothing at all."""
    noting = Noting()
    noting.control.error = error
    noting.run(lambda: None, _busy(Random(1)))
    assert noting.noted_us is None
    healed, at_us = Noting(), []

    def look() -> None:
        seconds = healed.bench.clock.monotonic_s()
        healed.control.error = error if 10 < seconds < 20 else None
        healed.bench.stats.gap = GAP if seconds > 30 else None
        at_us.append(healed.noted_us)

    healed.run(look, _busy(Random(1)))
    second = int(1 / LOOK_S)
    assert at_us[11 * second] == at_us[19 * second] != at_us[22 * second]
    assert at_us[32 * second] == at_us[-1]


def test_nothing_is_called_across_while_a_link_is_caught_up_on_one_shard_of_two() -> None:
    """What was read of the other shard is of now, and says nothing of this one."""
    limits = PipelineLimits(unsettled_records_max=40, detach_after_s=2.0, drain_s=2.0)
    bench = PipelineBench(
        shape={"a": {}, "b": {}},
        targets=("eu", "ap"),
        mode=Mode.ONE_WAY,
        limits=limits,
        reader_limits=ReaderLimits(page_records_max=40),
    )
    written: dict[str, int] = {}
    looks = 0

    def write(shard: str, name: str) -> None:
        bench.append_aged(name, 0, shard)
        written[name] = bench.clock.now_us()

    async def script() -> None:
        nonlocal looks
        for call in ("put", "delete"):
            bench.ports["eu"].fail_always(call, Transient("down"))
        for number in range(300):
            write("a", f"a{number}")
            await bench.clock.sleep(0.5)
        write("b", "b")
        await bench.until(lambda: len(bench.contents("ap")) == len(written))
        bench.ports["eu"].call_s = 0.02
        for call in ("put", "delete"):
            bench.ports["eu"].fail_always(call, None)
        while lost := written.keys() - bench.contents("eu").keys():
            bench.stats.note_complete()
            across_us = bench.stats.links["eu"].complete_us
            assert across_us is None or across_us <= min(written[name] for name in lost)
            await bench.clock.sleep(0.1)
            looks += 1

    bench.run(script)
    assert looks > 10


@pytest.mark.parametrize(
    ("odd", "until_us"),
    [
        ({}, None),
        ({"until_us": {"S": "x"}}, None),
        ({"until_us": {"N": "1E40"}}, None),
        ({"until_us": {"N": "1E15"}}, 10**15),
    ],
)
def test_a_malformed_note_is_unknown(
    odd: dict[str, Any], until_us: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An unplanned failover is no moment to end for it: what is not known is told as unknown."""
    api = ScriptedApi({"Items": [{"sk": {"S": "ap"}}, {"sk": {"S": "us"}, **odd}]})
    rows = Across(api=api, control_table="control")
    assert asyncio.run(rows.until_us("orders", "us")) == until_us
    told = [record.getMessage() for record in caplog.records]
    assert told == (["exposure.malformed"] if until_us is None else [])
