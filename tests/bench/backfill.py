"""Backfill and verify beside a plain boto3 loop, on one engine: ratios, and the memory of a worker.

The plain loop is what everybody writes: Scan, BatchWriteItem by 25, what was not processed again.
It overwrites whatever stands. Each round copies the same source once by the loop and once by the
command, in turns, each into a region of its own, and then verifies what the command has copied.
A round that does not count goes before the others (engine.py says why).

The wall clock counts, from the start of a command to its end; endpoints are opened before, and the
plain loop's clients made. CPU is told beside it, the engine's too where /proc tells: on a busy
machine it is the steadier figure.

Memory is the peak of a process of its own, told by the kernel when it has ended.

    make bench ARGS='backfill verify'        bench.backfill --items N  sets the size
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.engine import CONTROL_TABLE, Place, running
from bench.figures import Bench, Figure, Round, at_least, at_most, measured
from bench.report import show
from replicator.backfill.command import run_backfill
from replicator.backfill.plan import Request
from replicator.configuration import settings_of
from replicator.plane import open_region
from replicator.verify.assembly import VerifyOptions
from replicator.verify.command import verify_table
from support.engines import CREDENTIALS
from support.tables import client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from replicator.ports import Api
    from replicator.settings import Settings

HOME = "us-east-1"
TABLE = "orders"
BATCH = 25
ITEMS = 10_000
MEMORY_ITEMS, GROWTH = 20_000, 10
"""By how much the larger table of the memory figure is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A table with items, on an engine that has it and any number of untouched regions."""

    at: Place
    items: int
    one_way: bool

    def target(self) -> str:
        """A region in which nothing has happened yet, with an empty table."""
        return self.at.region_with(TABLE, None if self.one_way else "NEW_AND_OLD_IMAGES")

    def document(self, target: str) -> dict[str, Any]:
        """The configuration for a target."""
        regions = {region: {"endpoint_url": self.at.url} for region in (HOME, target)}
        table: dict[str, Any] = {"regions": [HOME, target]}
        if self.one_way:
            table = {"source": HOME, "targets": [target]}
        return {"control_table": CONTROL_TABLE, "regions": regions, "tables": {TABLE: table}}


@contextmanager
def filled(items: int, *, one_way: bool = False) -> Iterator[Source]:
    """Start the engine, and fill the source. Raises: Unmeasurable."""
    os.environ.update(CREDENTIALS)
    with running() as at:
        at.furnish(HOME, TABLE)
        home, rng = client(at.url, HOME), Random(1)
        for start in range(0, items, BATCH):
            numbers = range(start, min(start + BATCH, items))
            _batch_write(home, [order(number, rng) for number in numbers])
        yield Source(at=at, items=items, one_way=one_way)


def order(number: int, rng: Random) -> dict[str, Any]:
    """An item of some 400 bytes with values of several types."""
    return {
        "id": {"S": f"order-{number:08d}"},
        "customer": {"S": f"customer-{rng.randrange(10**6)}"},
        "total": {"N": f"{rng.randrange(10**6) / 100}"},
        "tags": {"SS": ["gift", "new", f"t{rng.randrange(100)}"]},
        "lines": {"L": [{"M": {"sku": {"S": f"sku-{rng.randrange(10**6)}"}, "n": {"N": "3"}}}]},
        "note": {"S": "x" * 200},
    }


@contextmanager
def plain_loop(of: Source, target: str) -> Iterator[Callable[[], int]]:
    """Work that copies the table as everybody does; it counts items."""
    source, away = client(of.at.url, HOME), client(of.at.url, target)

    def copy() -> int:
        copied = 0
        for page in source.get_paginator("scan").paginate(TableName=TABLE):
            items = page["Items"]
            for start in range(0, len(items), BATCH):
                _batch_write(away, items[start : start + BATCH])
            copied += len(items)
        return copied

    yield copy


def _batch_write(away: DynamoDBClient, items: list[Any]) -> None:
    left: Any = {TABLE: [{"PutRequest": {"Item": item}} for item in items]}
    while left:
        left = away.batch_write_item(RequestItems=left).get("UnprocessedItems")


@contextmanager
def backfill(of: Source, target: str) -> Iterator[Callable[[], int]]:
    """Work that copies the table by the command, in this process."""
    with _opened(of, target) as (settings, connect):

        def copy() -> int:
            with redirect_stdout(StringIO()):
                request = Request(table=TABLE, source=HOME, as_json=True)
                status = run_backfill(request, settings, connect=connect)
            assert status == 0
            return of.items

        yield copy


@contextmanager
def verify(of: Source, target: str) -> Iterator[Callable[[], int]]:
    """Work that compares the two tables by the command, in this process; they must be equal."""
    with _opened(of, target) as (settings, connect):

        def compare() -> int:
            with redirect_stdout(StringIO()):
                options = VerifyOptions(table=TABLE)
                status = verify_table(
                    settings, options, connect=connect, as_json=False, report=None
                )
            assert status == 0
            return of.items

        yield compare


@contextmanager
def _opened(of: Source, target: str) -> Iterator[tuple[Settings, Callable[[str], Api]]]:
    settings = settings_of(of.document(target), {}, stated_by="bench")
    with ExitStack() as opened:
        apis = {region: open_region(settings, region) for region in (HOME, target)}
        for api in apis.values():
            opened.callback(api.close)
        yield settings, apis.__getitem__


def speeds(of: Source, *, loop_first: bool, suffix: str) -> Mapping[str, float]:
    """One round: two ratios, and what they are made of."""
    by_loop, by_command = of.target(), of.target()
    with plain_loop(of, by_loop) as plain, backfill(of, by_command) as conditional:
        copies = (plain, conditional) if loop_first else (conditional, plain)
        costs = [of.at.cost(copy) for copy in copies]
    of_plain, of_backfill = costs if loop_first else reversed(costs)
    with verify(of, by_command) as compare:
        of_verify = of.at.cost(compare)
    return {
        f"backfill-speed{suffix}": of_backfill.wall.per_s / of_plain.wall.per_s,
        f"verify-speed{suffix}": of_verify.wall.per_s / of_backfill.wall.per_s,
        **of_plain.parts("plain"),
        **of_backfill.parts("backfill"),
        **of_verify.parts("verify"),
    }


def memory(items: int) -> Mapping[str, float]:
    """The peak of a backfill's and of a verify's process, in MiB, and how each grows by GROWTH."""
    few, many = _peaks(items), _peaks(items * GROWTH)
    return {
        "backfill-memory": many["backfill"],
        "backfill-memory-growth": many["backfill"] / few["backfill"],
        "verify-memory": many["verify"],
        "verify-memory-growth": many["verify"] / few["verify"],
    }


def _peaks(items: int) -> dict[str, float]:
    with filled(items) as source, tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "replicator.toml"
        config.write_text(_toml(source, source.target()), encoding="utf-8")
        of_table = ["--config", str(config), "--table", TABLE]
        return {
            "backfill": _peak_mib(["backfill", *of_table, "--source", HOME]),
            "verify": _peak_mib(["verify", *of_table]),
        }


def _toml(of: Source, target: str) -> str:
    lines = [f'control_table = "{CONTROL_TABLE}"', f"[tables.{TABLE}]"]
    lines.append(f'regions = ["{HOME}", "{target}"]')
    for region in (HOME, target):
        lines += [f"[regions.{region}]", f'endpoint_url = "{of.at.url}"']
    return "\n".join(lines)


def _peak_mib(arguments: list[str]) -> float:
    """Run a command of the product; the most memory that its process had."""
    command = [sys.executable, "-m", "replicator", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments[0]} ended with {process.returncode}"
    return usage.ru_maxrss / 1_024


@contextmanager
def _rounds(*, one_way: bool, items: int = ITEMS) -> Iterator[Round]:
    turns = count()
    suffix = "-one-way" if one_way else ""
    with filled(items, one_way=one_way) as source:

        def measure() -> Mapping[str, float]:
            return speeds(source, loop_first=next(turns) % 2 == 0, suffix=suffix)

        measure()
        yield measure


@contextmanager
def _memory_rounds(items: int = MEMORY_ITEMS) -> Iterator[Round]:
    yield partial(memory, items)


def _speed_figures(kind: str, suffix: str) -> tuple[Figure, ...]:
    return (
        Figure(
            name=f"backfill-speed{suffix}",
            title=f"backfill, {kind}: items/s beside a plain loop's",
            goal=at_least(0.8),
        ),
        Figure(
            name=f"verify-speed{suffix}",
            title=f"verify of equal tables, {kind}: items/s beside the backfill's",
            goal=at_least(3.0),
        ),
    )


MEMORY = tuple(
    figure
    for command in ("backfill", "verify")
    for figure in (
        Figure(
            name=f"{command}-memory",
            title=f"{command}: peak memory at {MEMORY_ITEMS * GROWTH:,} items",
            goal=at_most(150),
            unit="MiB",
        ),
        Figure(
            name=f"{command}-memory-growth",
            title=f"{command}: peak memory, a table {GROWTH} times the size beside another",
            goal=at_most(1.15),
        ),
    )
)

BENCHES = (
    Bench(
        figures=_speed_figures("every region writes", ""), prepare=partial(_rounds, one_way=False)
    ),
    Bench(figures=_speed_figures("one-way", "-one-way"), prepare=partial(_rounds, one_way=True)),
    Bench(figures=MEMORY, prepare=_memory_rounds, rounds=1),
)


def main() -> None:
    """Measure the speeds at another size than `make bench` does."""
    parser = argparse.ArgumentParser(prog="bench.backfill")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one-way", action="store_true")
    options = parser.parse_args()
    bench = BENCHES[options.one_way]
    prepare = partial(_rounds, one_way=options.one_way, items=options.items)
    found = Bench(figures=bench.figures, prepare=prepare)
    show(measured(found, options.rounds, found.figures), Console(width=200))


if __name__ == "__main__":
    main()
