"""Peak memory of a process that replicates, and whether it grows with what has been read.

PYTHONPATH=.:tests .venv/bin/python -m bench.memory URL RECORDS      one process, prints MB
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.answers import Answers
from bench.endpoint import NullEndpoint
from bench.figures import Bench, Figure, Round, at_most
from bench.replication import replicating, settings_for
from replicator.records import Mode

SHARDS = 8
PAGES = 13
"""Of 1,000 records each in every shard: some 100,000 records, and some 1,000,000."""
TIMES = 10
FEW, MANY = (Answers(shards=SHARDS, pages=pages) for pages in (PAGES, TIMES * PAGES))


@contextmanager
def _memory() -> Iterator[Round]:
    with NullEndpoint(FEW) as few, NullEndpoint(MANY) as many:

        def measure() -> Mapping[str, float]:
            of_few = _peak_mb(few.url, FEW.records)
            of_many = _peak_mb(many.url, MANY.records)
            return {
                "memory-peak": of_many,
                "memory-growth": of_many / of_few,
                f"MB, {FEW.records:,} records": of_few,
            }

        yield measure


def _peak_mb(url: str, records: int) -> float:
    """The peak of a process of its own."""
    command = [sys.executable, "-m", "bench.memory", url, str(records)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def main(url: str, records: int) -> None:
    """Replicate, and print the peak of this process in MB."""
    with replicating(settings_for(Mode.ONE_WAY, url), records) as work:
        work()
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

BENCHES = (
    Bench(
        figures=[
            Figure(
                name="memory-peak",
                title=f"peak memory, {SHARDS} shards, {MANY.records:,} records",
                goal=at_most(150),
                unit="MB",
            ),
            Figure(
                name="memory-growth",
                title=f"peak memory, {MANY.records:,} records ÷ {FEW.records:,}",
                goal=at_most(1.1),
            ),
        ],
        prepare=_memory,
        rounds=1,  # a million records take minutes; a peak varies by a megabyte or two
    ),
)
