"""The rate of a backfill on a real cluster: one bound for all workers, dead ones included."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest

from replicator.backfill.cluster import shared_budget, shared_rates
from replicator.backfill.rate import BURST_S, GRANT_S

distributed = pytest.importorskip("distributed")

RATE = 200.0
UNITS = 300
WITHIN_S = 60.0


def spend(queues: Mapping[str, str], directory: str) -> None:
    """A task that takes unit after unit for ever, and counts them by the size of a file."""

    async def spending(counted: RawIOBase) -> None:
        budget = shared_budget(queues, "write")
        while True:
            await budget.take(1.0)
            counted.write(b".")

    with Path(directory, str(os.getpid())).open("ab", buffering=0) as counted:
        asyncio.run(spending(counted))


class Spent:
    """What every worker has spent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def by_worker(self) -> dict[int, int]:
        return {int(path.name): path.stat().st_size for path in self._directory.iterdir()}

    @property
    def total(self) -> int:
        return sum(self.by_worker.values())

    async def took_s(self, units: int) -> float:
        """How long it takes until so many more are spent."""
        begun_s, before = time.monotonic(), self.total
        await until(lambda: self.total >= before + units)
        return time.monotonic() - begun_s


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(0.01)


@pytest.mark.timeout(300)
def test_what_a_killed_worker_does_not_spend_the_others_do(tmp_path: Path) -> None:
    """Two share one rate and together keep to it; one is killed for good, and the other is as fast
    as both were. A share of its own would leave it half of that."""

    async def main() -> None:
        async with (
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                asynchronous=True,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
            shared_rates(client, {"write": RATE, "read": None}) as queues,
        ):
            untyped: Any = client
            tasks = [untyped.submit(spend, queues, str(tmp_path), pure=False) for _ in range(2)]
            spent = Spent(tmp_path)
            await until(lambda: len(spent.by_worker) == 2 and min(spent.by_worker.values()) > 0)
            await spent.took_s(UNITS)  # what was saved up until both were there
            both_s = await spent.took_s(UNITS)
            killed, left = spent.by_worker
            (nanny,) = (each for each in cluster.workers.values() if each.pid == killed)
            nanny.auto_restart = False
            os.kill(killed, signal.SIGKILL)
            alone_before, alone_s = spent.by_worker[left], await spent.took_s(UNITS)
            assert spent.by_worker[left] - alone_before >= UNITS - 2 * RATE * GRANT_S
            assert alone_s < 1.5 * both_s
            for each_s in (both_s, alone_s):
                assert RATE * (each_s + BURST_S) >= UNITS, "more was spent than the rate allows"
            for task in tasks:
                await task.cancel()

    asyncio.run(main())
