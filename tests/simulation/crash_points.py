"""A crash at every point, one by one: `PYTHONPATH=.:tests python -m simulation.crash_points`.

A case is a point (points.py), a moment (before the call, after it, its answer lost, overtaken by a
second process) and a visit: the first, second or third time that the point is reached. A schedule
is run once without the fault, to see what it reaches; each case then runs in a schedule that
reaches its point often enough, which up to that moment goes as it went before. What must hold is
what always must (check.py).

Schedules are drawn as for the simulation, most of them without crashes and lost answers of their
own, so that the one fault stands alone. Pairs of cases are sampled: the second fault counts only
where the first has left something to hit.

    --seeds N      the seeds to look through; every share of them hits each case that it can
    --again TEXT   one run again, as its failure prints it
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from conflict.merge import Contended
from replicator.records import Mode
from simulation.check import Simulation
from simulation.points import Moment, moments, points
from simulation.run import pool_of
from simulation.schedule import Faults, Schedule, draw
from simulation.worker import Violation

VISITS = (1, 2, 3)
LONG = (5, 7)
"""Of each sixteen seeds, those whose schedules are long; one of the two is for one-way tables."""

SHARE_SEEDS = 250
SEEDS_DEFAULT = 20_000


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One fault: which point, when, and at which visit."""

    mode: Mode
    point: str
    moment: Moment
    visit: int

    @property
    def text(self) -> str:
        return f"{self.mode}|{self.point}|{self.moment}|{self.visit}"

    @classmethod
    def parse(cls, text: str) -> Case:
        mode, point, moment, visit = text.split("|")
        return cls(Mode(mode), point, Moment(moment), int(visit))


class Count:
    """A probe that lets everything pass, and counts."""

    def __init__(self) -> None:
        self.visits: Counter[str] = Counter()

    def at(self, point: str) -> Moment | None:
        self.visits[point] += 1
        return None


class Strike(Count):
    """A probe that strikes once at each of its cases, in their order."""

    def __init__(self, *cases: Case) -> None:
        super().__init__()
        self.left = list(cases)

    def at(self, point: str) -> Moment | None:
        super().at(point)
        if not self.left or point != self.left[0].point:
            return None
        if self.visits[point] < self.left[0].visit:
            return None
        self.visits.clear()
        return self.left.pop(0).moment


@dataclass(slots=True)
class Tally:
    """What a run of cases came to."""

    run: int = 0
    pairs: int = 0
    hit: set[Case] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what others came to."""
        self.run += other.run
        self.pairs += other.pairs
        self.hit |= other.hit
        self.failures += other.failures


def all_cases(mode: Mode) -> list[Case]:
    """Every case of a kind of table."""
    return [
        Case(mode, point, moment, visit)
        for point in points(mode)
        for moment in moments(point)
        for visit in VISITS
    ]


def schedules(seeds: Iterable[int]) -> Iterator[Schedule]:
    """The schedules that cases are looked for in: each seed as it is drawn, or bent a little.

    Quiet ones have no fault of their own but throttles and splits, so that the one stands alone;
    busy ones write more, to fewer keys, so that points are reached again; long ones do so for the
    rarest points. One-way tables may hold items from before replication.
    """
    for seed in seeds:
        drawn = draw(seed)
        quiet, busy, long = seed // 8 % 4 in (1, 2), seed // 8 % 4 in (2, 3), seed % 16 in LONG
        faults, habits = drawn.faults, drawn.habits
        if quiet:
            faults = Faults(throttle=faults.throttle, split=faults.split)
        if quiet or busy or long:
            habits = replace(habits, writes=(30 if long else 3) * habits.writes)
        if (busy or long) and drawn.source:
            habits = replace(habits, stocked=True)
        keys = drawn.keys[:1] if busy or long else drawn.keys
        yield replace(drawn, faults=faults, habits=habits, keys=keys)


def visits(schedule: Schedule) -> Counter[str]:
    """How often each point is reached where nothing strikes."""
    count = Count()
    with suppress(Contended):
        Simulation(schedule, probe=count).run()
    return count.visits


def reachable(schedule: Schedule) -> list[Case]:
    """The cases that a schedule has a place for."""
    reached = visits(schedule)
    return [case for case in all_cases(schedule.mode) if reached[case.point] >= case.visit]


def strike(schedule: Schedule, *cases: Case) -> Tally:
    """Run a schedule with faults, one after the other."""
    probe, tally = Strike(*cases), Tally(run=1)
    try:
        Simulation(schedule, probe=probe).run()
    except (Violation, Contended) as failure:
        again = f"{schedule.seed}:{';'.join(case.text for case in cases)}"
        tally.failures.append(
            f"{again}: {type(failure).__name__}: {failure}\n"
            f"    PYTHONPATH=.:tests python -m simulation.crash_points --again {again!r}"
        )
    tally.hit.update(cases[: len(cases) - len(probe.left)])
    return tally


def sweep(seeds: Iterable[int]) -> Tally:
    """Hit every case that the schedules of some seeds have a place for, each once."""
    tally = Tally()
    for schedule in schedules(seeds):
        for case in reachable(schedule):
            if case not in tally.hit:
                tally.add(strike(schedule, case))
    return tally


def pairs(seeds: Iterable[int]) -> Tally:
    """One pair of faults in each schedule, drawn from the cases that it has a place for.

    The second is counted from the first on, and may find its point no longer reached.
    """
    tally = Tally()
    for schedule in schedules(seeds):
        rng, cases = random.Random(schedule.seed), reachable(schedule)
        tally.add(strike(schedule, rng.choice(cases), replace(rng.choice(cases), visit=1)))
    return tally


def sweep_all(seeds: int, processes: int) -> Iterator[Tally]:
    """Sweep and pair through many seeds, on several processes; yields what each share came to."""
    shares = [
        (work, range(first, min(first + SHARE_SEEDS, seeds)))
        for first in range(0, seeds, SHARE_SEEDS)
        for work in (sweep, pairs)
    ]
    if processes == 1:
        yield from itertools.starmap(_do, shares)
        return
    with pool_of(processes) as pool:
        yield from pool.imap_unordered(_share, shares)


def _share(share: tuple[Callable[[range], Tally], range]) -> Tally:
    return _do(*share)


def _do(work: Callable[[range], Tally], seeds: range) -> Tally:
    tally = work(seeds)
    if work is pairs:
        tally.pairs, tally.run = tally.run, 0
        tally.hit.clear()
    return tally


def closing(tally: Tally) -> str:
    """What all of it came to, one line for each kind of table."""
    lines = []
    for mode in Mode:
        cases = all_cases(mode)
        hit = sum(case in tally.hit for case in cases)
        lines.append(f"{mode}: {len(points(mode))} points, {hit} of {len(cases)} cases hit")
    lines.append(
        f"{tally.run} single crashes, {tally.pairs} pairs, {len(tally.failures)} did not hold"
    )
    return "\n".join(lines)


def missing(tally: Tally) -> list[Case]:
    """The cases that no schedule had a place for."""
    return [case for mode in Mode for case in all_cases(mode) if case not in tally.hit]


def again(text: str) -> int:
    """Run what a failure named once more; returns the exit status."""
    seed, _, named = text.partition(":")
    (schedule,) = schedules([int(seed)])
    tally = strike(schedule, *map(Case.parse, named.split(";")))
    print("\n".join(tally.failures) or "it held")
    return 1 if tally.failures else 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Crash the simulated replicator at every point.")
    parser.add_argument("--seeds", type=int, default=SEEDS_DEFAULT)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again")
    options = parser.parse_args()
    if options.again:
        return again(options.again)
    tally = Tally()
    for part in sweep_all(options.seeds, options.processes):
        for failure in part.failures:
            print(failure, flush=True)
        tally.add(part)
    print(closing(tally))
    for case in missing(tally):
        print(f"no place found for {case.text}")
    return 1 if tally.failures or missing(tally) else 0


if __name__ == "__main__":
    sys.exit(main())
