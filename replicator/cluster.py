"""A Dask cluster to work on: opened, given one task after the other, and held to rates.

The cluster as a whole keeps to the rates: this process holds the buckets, and hands out grants by
queues on the scheduler, one for each bound. A task that is out of units fetches the next grant, so
what a worker that dies or is slow does not fetch, the others do. A task that dies with its worker
is given to another.

The only module that imports distributed, which is an extra. It must not know what is worked on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from replicator.errors import ConfigurationError, WorkersLost, first_of_all
from replicator.rate import Allowance, Budget, bucket_of, hand_out

try:
    from distributed import Client, KilledWorker, LocalCluster, Queue, get_client
    from distributed.client import FutureCancelledError
except ImportError:
    raise ConfigurationError(
        "--workers and --scheduler need Dask; install it: "
        "pip install 'dynamodb-stream-replicator[dask]'"
    ) from None

OrderT = TypeVar("OrderT")
ResultT = TypeVar("ResultT")

LOOPBACK = "127.0.0.1"
LOGGERS = ("distributed", "distributed.client")
"""The second has a level of its own (distributed.config), and tells of a lost scheduler by what it
was doing at the time."""

CONNECT_WITHIN_S = 10.0
GRANT_WITHIN_S = 120.0
"""Whoever waits longer waits in vain: a hundred workers who ask at once wait for five seconds."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is open. `room`: how many tasks it runs at once."""

    client: Client
    room: int

    async def each(
        self,
        work: Callable[[OrderT, Mapping[str, str]], ResultT],
        orders: Iterable[OrderT],
        queues: Mapping[str, str],
        take: Callable[[ResultT], None] = lambda _: None,
    ) -> None:
        """Have every order carried out, as many at once as there is room; `take` gets the results.

        `queues`: of `shared_rates`. Raises: what `work` raises; WorkersLost.
        """
        waiting = iter(orders)
        async with asyncio.TaskGroup() as lanes:
            for _ in range(self.room):
                lanes.create_task(self._lane(work, waiting, queues, take))

    async def _lane(
        self,
        work: Callable[[OrderT, Mapping[str, str]], ResultT],
        waiting: Iterator[OrderT],
        queues: Mapping[str, str],
        take: Callable[[ResultT], None],
    ) -> None:
        """One order after the other."""
        for order in waiting:
            try:
                take(await self.client.submit(work, order, queues, pure=False))
            except KilledWorker:
                raise WorkersLost("workers keep dying; run the same command again") from None


@asynccontextmanager
async def opened_cluster(*, workers: int | None, scheduler: str | None) -> AsyncIterator[Cluster]:
    """A cluster, for as long as it is needed.

    `scheduler`: the address of one; without it, one of `workers` processes is made here.
    Raises: ConfigurationError where there is none; WorkersLost when it goes; of what a group of
    tasks ends with, the first.
    """
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised
    async with AsyncExitStack() as opened:
        client = await _client(workers, scheduler, opened)
        try:
            yield Cluster(client, await _room(client, scheduler))
        except Exception as error:  # noqa: BLE001 - raised, without the group
            raise _told(first_of_all(error)) from None


def _told(error: BaseException) -> BaseException:
    """Without its scheduler a client takes every task for cancelled, or its connection is lost."""
    if isinstance(error, FutureCancelledError | OSError):
        return WorkersLost("the cluster's scheduler is lost; run the same command again")
    return error


async def _client(workers: int | None, scheduler: str | None, opened: AsyncExitStack) -> Client:
    if scheduler is None:
        local = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            asynchronous=True,
            dashboard_address=f"{LOOPBACK}:0",
            silence_logs=logging.CRITICAL,
        )
        return await _opened(await opened.enter_async_context(local), opened)
    try:
        return await _opened(scheduler, opened)
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise ConfigurationError(f"--scheduler: {scheduler} does not answer: {reason}") from None


async def _opened(cluster: LocalCluster | str, opened: AsyncExitStack) -> Client:
    client = Client(  # type: ignore[no-untyped-call]
        cluster, asynchronous=True, timeout=CONNECT_WITHIN_S
    )
    made: Client = await opened.enter_async_context(client)
    return made


async def _room(client: Client, scheduler: str | None) -> int:
    """How many tasks the cluster runs at once."""
    untyped: Any = client
    try:
        await untyped.wait_for_workers(1, timeout=CONNECT_WITHIN_S)
    except TimeoutError:
        raise ConfigurationError(
            f"--scheduler: the cluster at {scheduler} has no workers"
        ) from None
    threads: Mapping[str, int] = await untyped.nthreads()
    return sum(threads.values())


@asynccontextmanager
async def shared_rates(
    client: Client,
    rates: Mapping[str, float | None],
    bucket: Callable[[float], Budget] = bucket_of,
) -> AsyncIterator[dict[str, str]]:
    """Hand out units at these rates to the whole cluster; yields the queues, by what they are for.

    A name without a rate has no queue, and no bound. `bucket`: what the units of a rate come from.
    """
    queues: dict[str, Any] = {}
    for name, rate in rates.items():
        if rate is not None:
            queues[name] = await Queue(client=client, maxsize=1)  # type: ignore[no-untyped-call]
    async with asyncio.TaskGroup() as group:
        giving = [
            group.create_task(hand_out(rate, queues[name].put, bucket(rate)))
            for name, rate in rates.items()
            if rate is not None
        ]
        try:
            yield {name: queue.name for name, queue in queues.items()}
        finally:
            for each in giving:
                each.cancel()
            for queue in queues.values():
                queue.close()


def shared_budget(queues: Mapping[str, str], name: str) -> Budget:
    """A task's way to what `shared_rates` hands out; called in the task's own thread."""
    if name not in queues:
        return bucket_of(None)
    queue: Any = Queue(queues[name], client=get_client())  # type: ignore[no-untyped-call]

    async def fetch() -> float:
        try:
            grant: float = await asyncio.to_thread(queue.get, timeout=GRANT_WITHIN_S)
        except TimeoutError:
            raise WorkersLost("nobody hands out units any more: the command has ended") from None
        return grant

    return Allowance(fetch)
