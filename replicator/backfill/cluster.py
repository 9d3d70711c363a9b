"""The segments of a job on a Dask cluster: one task each, so many at once as the cluster has room.

A task that dies with its worker is given to another, which goes on from the segment's cursor;
nothing is carried in its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from replicator.backfill.work import Order, rates_of, work
from replicator.cluster import opened_cluster, shared_budget, shared_rates

LOOK_EVERY_S = 2.0


async def work_on_cluster(
    order: Order,
    *,
    workers: int | None,
    scheduler: str | None,
    look: Callable[[], Awaitable[None]],
) -> None:
    """Carry out an order, segment by segment; `look` is called now and then meanwhile.

    Raises: what `opened_cluster` does; what the work of a segment raises.
    """
    async with (
        opened_cluster(workers=workers, scheduler=scheduler) as cluster,
        asyncio.TaskGroup() as group,
        shared_rates(cluster.client, rates_of(order)) as queues,
    ):
        looking = group.create_task(_look_on(look))
        await cluster.each(_work, _per_segment(order), queues)
        looking.cancel()


def _per_segment(order: Order) -> Iterator[Order]:
    settings = order.settings.without_secrets()
    for segment in order.segments:
        yield replace(order, settings=settings, segments=(segment,))


def _work(order: Order, queues: Mapping[str, str]) -> None:
    """A task: the worker reports by the cursor and the counts that it saves."""
    work(order, lambda _: None, partial(shared_budget, queues))


async def _look_on(look: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await look()
