"""For as long as you like: `make soak`, `make soak SEEDS=50000`.

Every case of a crash at a point (crash_points.py), then random schedules of up to five regions, on
all cores with a bar, and a closing table that names the seeds. Exit status 1 if anything did not
hold, or a case found no place. What failed is printed at once, with the command that repeats it.
Ctrl-C ends it early, with the table of what was run until then and exit status 130.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from replicator.records import Mode
from simulation import crash_points, run
from simulation.crash_points import SHARE_SEEDS, Tally, all_cases, missing, sweep_all
from simulation.points import points

T = TypeVar("T")

FIRST = 20_000_000
"""Seeds from here on belong to no list of this repository."""

SEEDS_DEFAULT = 1_000_000


@dataclass(slots=True)
class Soak:
    """What all of it came to."""

    crashes: Tally = field(default_factory=Tally)
    schedules: run.Total = field(default_factory=run.Total)

    @property
    def failures(self) -> int:
        return len(self.crashes.failures) + len(self.schedules.failures)


def barred(what: str, parts: Iterable[T], count: int, errors: Console) -> Iterator[T]:
    """The parts as they come, with a bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=errors) as progress:
        yield from progress.track(parts, total=count, description=what)


def crash(tally: Tally, seeds: int, processes: int, errors: Console) -> None:
    """Every crash point."""
    shares = 2 * -(-seeds // SHARE_SEEDS)
    for part in barred("crash points", sweep_all(seeds, processes), shares, errors):
        for failure in part.failures:
            print(failure, flush=True)
        tally.add(part)


def simulate(total: run.Total, span: run.Span, processes: int, errors: Console) -> None:
    """Random schedules."""
    shares = -(-(span.end - span.first) // run.CHUNK_SEEDS)
    for part in barred("schedules", run.parts(span, processes), shares, errors):
        for failure in part.failures:
            print(failure, flush=True)
        total.add(part)


def closing(soak: Soak, *, seeds: int, span: run.Span, elapsed_s: float) -> Table:
    """The closing table."""
    table = Table("what", "seeds", "run", "did not hold", title=f"soak: {elapsed_s:,.0f} s")
    crashes, total = soak.crashes, soak.schedules
    for mode in Mode:
        cases = all_cases(mode)
        hit = sum(case in crashes.hit for case in cases)
        what = f"{mode}: {len(points(mode))} points, {hit} of {len(cases)} cases hit"
        table.add_row(what, f"0 to {seeds - 1:,}", "", "")
    made = f"{crashes.run:,} and {crashes.pairs:,}"
    table.add_row("single crashes and pairs", "", made, f"{len(crashes.failures)}")
    what = f"random schedules of 2 to 5 regions, {total.writes:,} writes"
    last = span.first + total.seeds - 1
    seen = f"{span.first:,} to {last:,}" if total.seeds else "none"
    table.add_row(what, seen, f"{total.seeds:,}", f"{len(total.failures)}")
    return table


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Crash points and random schedules, at length.")
    parser.add_argument("--seeds", type=int, default=SEEDS_DEFAULT)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--crash-seeds", type=int, default=crash_points.SEEDS_DEFAULT)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begun_s, errors = time.monotonic(), Console(stderr=True)
    span = run.Span(options.first, options.first + options.seeds)
    soak, is_whole = Soak(), True
    try:
        crash(soak.crashes, options.crash_seeds, options.processes, errors)
        simulate(soak.schedules, span, options.processes, errors)
    except KeyboardInterrupt:
        is_whole = False
    elapsed_s = time.monotonic() - begun_s
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(closing(soak, seeds=options.crash_seeds, span=span, elapsed_s=elapsed_s))
    if not is_whole:
        print("interrupted: not all of it was run")
        return 130
    for case in missing(soak.crashes):
        print(f"no place found for {case.text}")
    return 1 if soak.failures or missing(soak.crashes) else 0


if __name__ == "__main__":
    sys.exit(main())
