"""Work on a real cluster: each order once, one bound for all workers, dead ones included."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest

from replicator.cluster import opened_cluster, shared_budget, shared_rates
from replicator.configuration import settings_of
from replicator.errors import ConfigurationError, Fatal
from replicator.rate import GRANT_S
from replicator.verify.cluster import SegmentOrder

distributed = pytest.importorskip("distributed")
dumps, loads = distributed.protocol.pickle.dumps, distributed.protocol.pickle.loads

RATE = 200.0
GRANT = RATE * GRANT_S
GRANTS = 30
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


class Paid:
    """A bucket that holds what the test puts in, and nothing comes by itself."""

    def __init__(self) -> None:
        self._grants, self.units = asyncio.Semaphore(0), 0.0

    async def take(self, units: float) -> None:
        """Take a grant, once one is there."""
        assert units == GRANT
        await self._grants.acquire()

    def put(self, grants: int) -> None:
        """Put in so many grants."""
        self.units += grants * GRANT
        for _ in range(grants):
            self._grants.release()


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


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(0.01)


@pytest.mark.timeout(300)
def test_what_a_killed_worker_does_not_spend_the_others_do(tmp_path: Path) -> None:
    """Two share what is handed out; one is killed for good, and the other gets all that comes
    from then on. A share of its own would leave it half of that."""

    async def main() -> None:
        paid, spent = Paid(), Spent(tmp_path)
        async with (
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                asynchronous=True,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
            shared_rates(client, {"write": RATE, "read": None}, lambda _: paid) as queues,
        ):
            untyped: Any = client
            await untyped.wait_for_workers(2)
            tasks = [untyped.submit(spend, queues, str(tmp_path), pure=False) for _ in range(2)]
            await until(lambda: len(spent.by_worker) == 2)
            while min(spent.by_worker.values()) == 0:
                paid.put(1)
                await until(lambda: spent.total == paid.units)
            killed, left = spent.by_worker
            (nanny,) = (each for each in cluster.workers.values() if each.pid == killed)
            nanny.auto_restart = False
            os.kill(killed, signal.SIGKILL)
            before = spent.by_worker
            paid.put(GRANTS)
            await until(lambda: spent.by_worker[left] >= before[left] + (GRANTS - 1) * GRANT)
            assert spent.by_worker[killed] == before[killed]
            assert spent.total <= paid.units, "more was spent than was handed out"
            for task in tasks:
                await task.cancel()

    asyncio.run(main())


def squared(order: tuple[str, int], queues: Mapping[str, str]) -> int:
    """A task: the first to be given 3 dies with its worker, once."""
    assert not queues
    directory, number = order
    died = Path(directory, "died")
    if number == 3 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number < 0:
        raise Fatal("no root")
    return number * number


@pytest.mark.timeout(300)
def test_each_order_is_carried_out_once_though_a_worker_dies(tmp_path: Path) -> None:
    """It is given to another; what was raised by one of them ends all, without its group."""
    results: list[int] = []

    async def main(numbers: range) -> None:
        async with opened_cluster(workers=2, scheduler=None) as cluster:
            orders = ((str(tmp_path), number) for number in numbers)
            await cluster.each(squared, orders, {}, results.append)

    asyncio.run(main(range(8)))
    assert sorted(results) == [number * number for number in range(8)]
    assert (tmp_path / "died").exists()
    with pytest.raises(Fatal, match="no root"):
        asyncio.run(main(range(-1, 8)))


def test_a_scheduler_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the option."""
    monkeypatch.setattr("replicator.cluster.CONNECT_WITHIN_S", 0.5)

    async def main() -> None:
        async with opened_cluster(workers=None, scheduler="tcp://127.0.0.1:9"):
            pytest.fail("nobody listens there")

    with pytest.raises(ConfigurationError, match=r"^--scheduler: tcp://127.0.0.1:9 does not ans"):
        asyncio.run(main())


def test_workers_are_sent_no_secret_and_nothing_of_the_environment() -> None:
    """Another's cluster has other users, and its scheduler speaks in clear."""
    settings = settings_of(
        {
            "regions": {"us": {"aws_region": "us-east-1"}, "eu": {"aws_region": "eu-west-1"}},
            "tables": {"orders": {"regions": ["us", "eu"]}},
            "http": {"token": "canary-of-the-page"},
            "conflicts": {"digest_key": "canary-of-the-ledger"},
        },
        {"AWS_SECRET_ACCESS_KEY": "canary-of-aws"},
        stated_by="test",
    )
    assert settings == settings.model_copy()
    order = SegmentOrder(
        settings=settings.without_secrets(),
        table="orders",
        region="us",
        key_names=("id",),
        segment=0,
        segments=1,
    )
    sent = dumps(order)
    assert b"us-east-1" in sent
    assert b"canary" not in sent
    assert loads(sent) == order
