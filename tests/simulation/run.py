"""Run seeds on all cores: `PYTHONPATH=.:tests python -m simulation.run --seeds 2000 [--first N]`.

Every failing seed is printed with what did not hold and the command that repeats it, then one
closing line. Exit status 1 if any seed failed. The same seed gives the same schedule and the same
digest on every machine.

    --seed N [--trace]   that seed alone; --trace tells everything that happens in it
    --until-failure      stop at the first seed that fails
    --coverage           how often the situations that matter came up
    --withheld           with what the shipping code is known not to stand (see schedule.py)
    --outage             with replicators that are away for longer than a stream holds
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.pool import Pool

from conflict.merge import Contended
from simulation import trace
from simulation.check import Simulation
from simulation.coverage import Situation, table
from simulation.schedule import Schedule, draw, with_outage
from simulation.worker import Violation

CHUNK_SEEDS = 100
PROGRESS_INTERVAL_S = 0.5


@dataclass(slots=True)
class Total:
    """What some seeds did."""

    seeds: int = 0
    writes: int = 0
    records: int = 0
    failures: list[str] = field(default_factory=list)
    coverage: Counter[Situation] = field(default_factory=Counter)

    def add(self, part: Total) -> None:
        """Add what further seeds did."""
        self.seeds += part.seeds
        self.writes += part.writes
        self.records += part.records
        self.failures += part.failures
        self.coverage += part.coverage


@dataclass(frozen=True, slots=True)
class Span:
    """Seeds from `first` to before `end`; `regions` None: as each seed draws."""

    first: int
    end: int
    regions: int | None = None
    until_failure: bool = False
    withheld: bool = False
    outage: bool = False

    def schedule(self, seed: int) -> Schedule:
        """The schedule of one of its seeds."""
        drawn = draw(seed, self.regions, withheld=self.withheld)
        return with_outage(drawn) if self.outage else drawn


def run_span(span: Span) -> Total:
    """Run the seeds of a span, one after the other."""
    total = Total()
    for seed in range(span.first, span.end):
        total.seeds += 1
        simulation = Simulation(span.schedule(seed))
        try:
            report = simulation.run()
        except (Violation, Contended) as failure:
            total.failures.append(describe(seed, span, failure))
            if span.until_failure:
                break
            continue
        total.writes += report.writes
        total.records += report.records
        total.coverage += report.coverage
    return total


def describe(seed: int, span: Span, failure: Exception) -> str:
    """What did not hold in a seed, and the command that repeats it."""
    again = f"--seed {seed}" + (f" --regions {span.regions}" if span.regions else "")
    again += " --withheld" if span.withheld else ""
    again += " --outage" if span.outage else ""
    return (
        f"seed {seed}: {type(failure).__name__}: {failure}\n"
        f"    PYTHONPATH=.:tests python -m simulation.run {again} --trace"
    )


def run(span: Span, processes: int) -> Total:
    """Run a span on several processes; print what failed as it fails, and return the sums."""
    total, begun_s = Total(), time.monotonic()
    told_s = begun_s
    for part in parts(span, processes):
        for failure in part.failures:
            print(failure, flush=True)
        total.add(part)
        if span.until_failure and total.failures:
            break
        if sys.stderr.isatty() and time.monotonic() - told_s > PROGRESS_INTERVAL_S:
            told_s = time.monotonic()
            _progress(total, span.end - span.first, told_s - begun_s)
    if told_s != begun_s:
        print(file=sys.stderr)
    return total


def _progress(total: Total, seeds: int, elapsed_s: float) -> None:
    rate = total.seeds / elapsed_s
    left_s = (seeds - total.seeds) / rate
    print(
        f"\r{total.seeds:,} of {seeds:,} schedules, {len(total.failures)} failed, "
        f"{rate:,.0f} a second, {left_s:,.0f} s left \033[K",
        end="",
        file=sys.stderr,
        flush=True,
    )


def parts(span: Span, processes: int) -> Iterator[Total]:
    """What the shares of a span came to, in their order."""
    spans = [
        replace(span, first=first, end=min(first + CHUNK_SEEDS, span.end))
        for first in range(span.first, span.end, CHUNK_SEEDS)
    ]
    if processes == 1:
        yield from map(run_span, spans)
        return
    with pool_of(processes) as pool:
        yield from pool.imap(run_span, spans)


def pool_of(processes: int) -> Pool:
    """Workers that leave Ctrl-C to the process which gives them work."""
    ignore = (signal.SIGINT, signal.SIG_IGN)
    return multiprocessing.Pool(processes, initializer=signal.signal, initargs=ignore)


def run_one(schedule: Schedule, *, traced: bool) -> int:
    """Run one schedule, tell what was drawn and how it ended; returns the exit status."""
    print(schedule)

    def tell(who: str, what: str, about: object) -> None:
        print(trace.line(who, what, about))

    try:
        report = Simulation(schedule, tell=tell if traced else None).run()
    except (Violation, Contended) as failure:
        print(f"seed {schedule.seed}: {type(failure).__name__}: {failure}")
        return 1
    did = f"{report.writes} writes, {report.records} records"
    print(f"seed {schedule.seed}: {did}, digest {report.digest}")
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Run simulated schedules.")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--regions", type=int, choices=[2, 3, 4, 5])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--until-failure", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--withheld", action="store_true")
    parser.add_argument("--outage", action="store_true")
    options = parser.parse_args()
    span = Span(
        options.first,
        options.first + options.seeds,
        options.regions,
        options.until_failure,
        options.withheld,
        options.outage,
    )
    if options.seed is not None:
        return run_one(span.schedule(options.seed), traced=options.trace)
    begun_s = time.monotonic()
    total = run(span, options.processes)
    if options.coverage:
        print(table(total.coverage))
    elapsed_s = time.monotonic() - begun_s
    print(
        f"{total.seeds} schedules from seed {options.first}: {len(total.failures)} failed; "
        f"{total.writes} writes, {total.records / max(total.writes, 1):.2f} stream records per "
        f"write; {elapsed_s:.0f} s"
    )
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
