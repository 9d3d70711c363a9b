"""DynamoDB Local as the benches have it: Java compiles in full, and every round has new regions.

Nothing may follow anything in a region: DynamoDB Local slows down by an order of magnitude once a
second table with a stream is written to there. Regions are apart, and cost nothing until they are
used. In the tests Java starts sooner and runs slower; here it is warmed up instead, by a round that
does not count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.figures import Unmeasurable
from bench.measuring import Cost, cost
from replicator.control import create_control_table_request
from support.engines import DynamoDBLocal, EngineUnavailable
from support.tables import client, create_table

CONTROL_TABLE = "replicator-control"
WARM_UP = 4
"""Rounds of some thousand items until an item costs the engine what it costs ever after."""

_LETTERS = "abcdefghij"


class CompiledDynamoDBLocal(DynamoDBLocal):
    """The engine without the switch that makes it start sooner and run slower."""

    def command(self, port: int) -> list[str]:
        return [part for part in super().command(port) if "TieredStopAtLevel" not in part]


@dataclass(frozen=True, slots=True)
class EngineCost:
    """What a piece of work cost here and in the engine. `engine_s`: CPU seconds of the engine."""

    wall: Cost
    engine_s: float

    def parts(self, name: str) -> dict[str, float]:
        """What explains a ratio."""
        engine_us = self.engine_s * 1e6 / self.wall.count
        return {
            f"{name} items/s": self.wall.per_s,
            f"{name} us": self.wall.cpu_us_each,
            f"{name} engine us": engine_us,
        }


@dataclass(frozen=True, slots=True)
class Place:
    """An engine that runs, and any number of untouched regions in it."""

    url: str
    _numbers: Iterator[int] = field(default_factory=count)

    def region(self) -> str:
        """A region in which nothing has happened yet."""
        letters = (_LETTERS[int(digit)] for digit in f"{next(self._numbers):03}")
        return "eu-" + "".join(letters) + "-1"

    def region_with(self, table: str, view_type: str | None = "NEW_AND_OLD_IMAGES") -> str:
        """The same with an empty table and a control table."""
        region = self.region()
        self.furnish(region, table, view_type)
        return region

    def furnish(
        self, region: str, table: str, view_type: str | None = "NEW_AND_OLD_IMAGES"
    ) -> None:
        """Make an empty table and a control table in a region."""
        create_table(self.url, region, table, view_type)
        client(self.url, region).create_table(**create_control_table_request(CONTROL_TABLE))

    def cost(self, work: Callable[[], int]) -> EngineCost:
        """Run `work`, which returns how many things it did."""
        before_s = _cpu_s(self.url.rpartition(":")[2])
        wall = cost(work)
        return EngineCost(wall, _cpu_s(self.url.rpartition(":")[2]) - before_s)


@contextmanager
def running() -> Iterator[Place]:
    """Start the engine. Raises: Unmeasurable."""
    engine = CompiledDynamoDBLocal()
    try:
        engine.start()
    except EngineUnavailable as reason:
        raise Unmeasurable(str(reason)) from None
    try:
        yield Place(engine.endpoint_url)
    finally:
        engine.stop()


def _cpu_s(port: str) -> float:
    """The CPU time of the engine on a port; 0 where the machine does not tell."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
            if port in command and command[0].endswith("java"):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue  # it has ended meanwhile
    return ticks / os.sysconf("SC_CLK_TCK")
