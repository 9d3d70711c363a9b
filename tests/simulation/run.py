"""Run any number of seeds on all cores: `python -m simulation.run --seeds 2000 [--first N]`.

Prints every failing seed with what did not hold, then one closing line. Exit status 1 if any seed
failed. The same seed gives the same schedule and the same digest on every machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from conflict.merge import Contended
from simulation.check import Simulation, Violation
from simulation.schedule import draw

CHUNK_SEEDS = 250


@dataclass(slots=True)
class Total:
    """What a range of seeds did."""

    seeds: int = 0
    writes: int = 0
    records: int = 0
    failures: int = 0


def run_range(span: tuple[int, int, int | None]) -> tuple[Total, list[str]]:
    """Run the seeds from the first to before the second; regions None: as each seed draws."""
    first, end, regions = span
    total, lines = Total(), []
    for seed in range(first, end):
        total.seeds += 1
        try:
            report = Simulation(draw(seed, regions)).run()
        except (Violation, Contended) as failure:
            total.failures += 1
            lines.append(f"seed {seed}: {type(failure).__name__}: {failure}")
            continue
        total.writes += report.writes
        total.records += report.records
    return total, lines


def run(first: int, seeds: int, regions: int | None, processes: int) -> Total:
    """Run `seeds` seeds from `first`, print what failed as it fails, and return the sums."""
    spans = [
        (start, min(start + CHUNK_SEEDS, first + seeds), regions)
        for start in range(first, first + seeds, CHUNK_SEEDS)
    ]
    total = Total()
    for part, lines in _each(spans, processes):
        for line in lines:
            print(line, flush=True)
        total.seeds += part.seeds
        total.writes += part.writes
        total.records += part.records
        total.failures += part.failures
    return total


def _each(
    spans: list[tuple[int, int, int | None]], processes: int
) -> Iterator[tuple[Total, list[str]]]:
    if processes == 1:
        yield from map(run_range, spans)
        return
    with multiprocessing.Pool(processes) as pool:
        yield from pool.imap_unordered(run_range, spans)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Run simulated schedules.")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--regions", type=int, choices=[2, 3, 4, 5])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begun = time.monotonic()
    total = run(options.first, options.seeds, options.regions, options.processes)
    print(
        f"{total.seeds} schedules from seed {options.first}: {total.failures} failed; "
        f"{total.writes} writes, {total.records / max(total.writes, 1):.2f} stream records per "
        f"write; {time.monotonic() - begun:.0f} s"
    )
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
