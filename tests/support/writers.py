"""A writer over one region in memory and virtual time, and what its observer was told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from conflict.merge import Steps, deliver
from conflict.operations import Key
from replicator.writer import RegionPort, Writer, WriterLimits
from support.adapters import MemoryPorts
from support.clock import VirtualClock
from support.memory import MemoryRegion
from support.scenes import at, shipment

T = TypeVar("T")

LIMITS = WriterLimits()
CONCURRENCY = 4
V = at(20, "us", 5)


def key(number: int) -> Key:
    """One of many keys."""
    return Key({"id": {"S": str(number)}}, str(number))


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work made of any steps."""

    begin: Callable[[], Steps[Any]]
    region: str = "eu"

    def start(self) -> Steps[Any]:
        """Begin it."""
        return self.begin()


class WriterBench:
    """A writer over one region in memory, and what its observer was told."""

    def __init__(self, *, limits: WriterLimits = LIMITS, call_s: float = 0.001) -> None:
        self.clock = VirtualClock()
        self.region = MemoryRegion("eu")
        self.ports = MemoryPorts(self.region, sleep=self.clock.sleep, call_s=call_s)
        self.failures: list[Exception] = []
        self.recoveries = 0
        self.troubles: list[Exception] = []
        self.stuck_tasks = 0
        self.bound_us = 60_000_000
        self.writer = Writer(
            regions={
                "eu": RegionPort(
                    table=self.ports,
                    states=self.ports,
                    concurrency=CONCURRENCY,
                    limit_us=lambda: self.clock.now_us() + self.bound_us,
                )
            },
            limits=limits,
            observer=self,
            sleep=self.clock.sleep,
            rng=Random(1),
        )

    def failed(self, region: str, error: Exception) -> None:
        """Be told of a failure."""
        assert region == "eu"
        self.failures.append(error)

    def recovered(self, region: str) -> None:
        """Be told that a call was answered."""
        assert region == "eu"
        self.recoveries += 1

    def stuck(self, region: str, error: Exception, *, first: bool) -> None:
        """Be told that a task has to begin again."""
        assert region == "eu"
        self.troubles.append(error)
        self.stuck_tasks += first

    def freed(self, region: str) -> None:
        """Be told that a task that was stuck has ended."""
        assert region == "eu"
        self.stuck_tasks -= 1

    def run(self, main: Coroutine[Any, Any, T], *, limit_s: float = 3_600.0) -> T:
        """Run in virtual time."""
        return self.clock.run(main, limit_s=limit_s)

    def deliver(self) -> Coroutine[Any, Any, Any]:
        """The work of bringing one put."""
        return self.writer.run(Task(lambda: deliver("eu", shipment(V, "new"))))
