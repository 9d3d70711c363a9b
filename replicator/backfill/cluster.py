"""The segments of a job on a Dask cluster: one task each, so many at once as the cluster has room.

The rates are divided by the number of tasks that may run at once, and no more than those are ever
handed out, so the cluster as a whole keeps to them. A task that dies with its worker is given to
another, which goes on from the segment's cursor; nothing is carried in the worker's memory.

The only module that imports distributed, which is an extra.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from replicator.backfill.work import Order, first_of_all, work
from replicator.errors import ConfigurationError, ReplicatorError

try:
    from distributed import Client, KilledWorker, LocalCluster
except ImportError:
    raise ConfigurationError(
        "--workers and --scheduler need Dask; install it: "
        "pip install 'dynamodb-stream-replicator[dask]'"
    ) from None

LOOPBACK = "127.0.0.1"
LOOK_EVERY_S = 2.0
CONNECT_WITHIN_S = 10.0


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
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    async with AsyncExitStack() as opened:
        client = await _client(workers, scheduler, opened)
        at_once = min(await _room(client, scheduler), len(order.segments))
        waiting = _per_segment(order, at_once)
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(_look_on(look))
                async with asyncio.TaskGroup() as lanes:
                    for _ in range(at_once):
                        lanes.create_task(_lane(client, waiting))
                looking.cancel()
        except* Exception as error:  # noqa: BLE001 - raised, without the group
            raise first_of_all(error) from None


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


def _per_segment(order: Order, at_once: int) -> Iterator[Order]:
    """One order per segment, each with its share of the rates."""

    def share(rate: float | None) -> float | None:
        return None if rate is None else rate / at_once

    write_rate, read_rate = share(order.write_rate), share(order.read_rate)
    for segment in order.segments:
        yield replace(order, segments=(segment,), write_rate=write_rate, read_rate=read_rate)


async def _lane(client: Client, waiting: Iterator[Order]) -> None:
    """One segment after the other."""
    for order in waiting:
        try:
            await client.submit(_work, order, pure=False)
        except KilledWorker:
            raise WorkersLost(
                "workers died again and again; run the same command to go on"
            ) from None


def _work(order: Order) -> None:
    """A task: the worker reports by the cursor and the counts that it saves."""
    work(order, lambda _: None)


async def _look_on(look: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await look()
