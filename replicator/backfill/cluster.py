"""The segments of a job on a Dask cluster: one task each, so many at once as the cluster has room.

The cluster as a whole keeps to the rates: this process holds the buckets, and hands out grants by
queues on the scheduler, one for each bound. A task that is out of units fetches the next grant, so
what a worker that dies or is slow does not fetch, the others do. A task that dies with its worker
is given to another, which goes on from the segment's cursor; nothing is carried in its memory.

The only module that imports distributed, which is an extra.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from replicator.backfill.rate import Allowance, Budget, hand_out
from replicator.backfill.work import Order, bucket_of, first_of_all, rates_of, work
from replicator.errors import ConfigurationError, ReplicatorError

try:
    from distributed import Client, KilledWorker, LocalCluster, Queue, get_client
    from distributed.client import FutureCancelledError
except ImportError:
    raise ConfigurationError(
        "--workers and --scheduler need Dask; install it: "
        "pip install 'dynamodb-stream-replicator[dask]'"
    ) from None

LOOPBACK = "127.0.0.1"
LOGGERS = ("distributed", "distributed.client")
"""The second has a level of its own (distributed.config), and tells of a lost scheduler by what it
was doing at the time."""

LOOK_EVERY_S = 2.0
CONNECT_WITHIN_S = 10.0
GRANT_WITHIN_S = 120.0
"""Whoever waits longer waits in vain: a hundred workers who ask at once wait for five seconds."""


class WorkersLost(ReplicatorError):
    """The cluster could not keep a worker alive."""


async def work_on_cluster(
    order: Order,
    *,
    workers: int | None,
    scheduler: str | None,
    look: Callable[[], Awaitable[None]],
) -> None:
    """Carry out an order, segment by segment; `look` is called now and then meanwhile.

    `scheduler`: the address of a cluster; without it, one of `workers` processes is made here.
    Raises: ConfigurationError where there is no cluster; what the work of a segment raises.
    """
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised
    async with AsyncExitStack() as opened:
        client = await _client(workers, scheduler, opened)
        at_once = min(await _room(client, scheduler), len(order.segments))
        waiting = _per_segment(order)
        try:
            async with (
                asyncio.TaskGroup() as group,
                shared_rates(client, rates_of(order)) as queues,
            ):
                looking = group.create_task(_look_on(look))
                async with asyncio.TaskGroup() as lanes:
                    for _ in range(at_once):
                        lanes.create_task(_lane(client, waiting, queues))
                looking.cancel()
        except* Exception as error:  # noqa: BLE001 - raised, without the group
            raise _told(first_of_all(error)) from None


def _told(error: BaseException) -> BaseException:
    """Without its scheduler a client takes every task for cancelled, or its connection is lost."""
    if isinstance(error, FutureCancelledError | OSError):
        return WorkersLost("the cluster's scheduler is lost; run the same command to go on")
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


def _per_segment(order: Order) -> Iterator[Order]:
    for segment in order.segments:
        yield replace(order, segments=(segment,))


async def _lane(client: Client, waiting: Iterator[Order], queues: Mapping[str, str]) -> None:
    """One segment after the other."""
    for order in waiting:
        try:
            await client.submit(_work, order, queues, pure=False)
        except KilledWorker:
            raise WorkersLost(
                "workers died again and again; run the same command to go on"
            ) from None


def _work(order: Order, queues: Mapping[str, str]) -> None:
    """A task: the worker reports by the cursor and the counts that it saves."""
    work(order, lambda _: None, partial(shared_budget, queues))


async def _look_on(look: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await look()
