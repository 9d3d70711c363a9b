"""The work of one process: some segments of a job, several at once, over the regions' endpoints.

Composition only. The same function serves the command itself and a worker of a cluster; what it is
handed is plain data, and where everything stands is in the control table.

Nothing is given up once it has worked: a region that is away is tried until it is back. A region
that refuses for good before it has taken a single item is another matter (`Hopeless`): that is a
missing permission or a missing table, and somebody waits for an answer. So is a one-way table that
was handed over meanwhile: its former source brings nothing any more.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, TypeAlias

from conflict.operations import Item, Key, judged
from conflict.version import Kind, Version
from replicator import loop
from replicator.backfill.inserts import Inserts
from replicator.backfill.jobs import Jobs
from replicator.backfill.plan import Plan
from replicator.backfill.segment import SegmentParts, Source, run_segment
from replicator.backfill.tally import Tally
from replicator.backfill.target import PaidTable, SeparateStates, Target, TargetParts
from replicator.clock import SystemClock
from replicator.compose import DAY_S, HOME_SLACK_US, fence_of, region_port, table_port
from replicator.errors import Fatal, Replaced, first_of_all, spoken
from replicator.handover.active import Fence, FencedStates, FencedTable
from replicator.key_states import ControlKeyStates
from replicator.plane import open_region
from replicator.ports import READ_BATCH_MAX, Api, KeyStates, Table
from replicator.rate import Bucket, Budget, bucket_of
from replicator.records import Parked
from replicator.requests import TableRequests
from replicator.settings import Settings
from replicator.table import key_of
from replicator.waiting import Quarantine
from replicator.writer import RegionPort, Writer, WriterLimits

SEGMENTS_AT_ONCE = 8
"""In one process: each holds a page, and more would not be faster, for they share a core."""


READ = "read"


class Hopeless(Fatal):
    """A region refuses for good, and has never taken an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done: plain data, which may be sent to another machine.

    The rates are for all who work on the job, in units per second; None: no bound.
    """

    settings: Settings
    plan: Plan
    key_names: tuple[str, ...]
    job: str
    segments: tuple[int, ...]
    write_rate: float | None
    read_rate: float | None


def rates_of(order: Order) -> dict[str, float | None]:
    """The bounds of an order by what they are on: what is read, and what each target takes."""
    writes = {f"write {target}": order.write_rate for target in order.plan.targets}
    return {READ: order.read_rate, **writes}


BudgetOf: TypeAlias = Callable[[str], Budget]
"""The budget for each name of `rates_of`."""


def work(order: Order, progress: Callable[[Tally], None], budget_of: BudgetOf) -> Tally:
    """Carry out an order; returns what its segments have counted since the job began."""
    with ExitStack() as opened:
        regions = (order.plan.source, *order.plan.targets)
        apis = {region: _open(order.settings, region, opened) for region in regions}
        return loop.run(work_over(order, apis, progress, budget_of))


async def work_over(
    order: Order,
    apis: Mapping[str, Api],
    progress: Callable[[Tally], None],
    budget_of: BudgetOf | None = None,
) -> Tally:
    """The same over endpoints that are open; without `budget_of` nobody else works on the job.

    Raises: Hopeless; Replaced; TakenOver; Fatal where the source refuses to be scanned.
    """
    bench = _Bench(order, apis, budget_of or partial(_own_bucket, order))
    tallies: list[Tally] = []
    parts = bench.segment_parts(progress)
    waiting = iter(order.segments)

    async def one_after_the_other() -> None:
        tallies.extend([await run_segment(parts, segment) for segment in waiting])

    async def give_up() -> None:
        raise await bench.watch.hopeless

    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(give_up())
            async with asyncio.TaskGroup() as segments:
                for _ in range(SEGMENTS_AT_ONCE):
                    segments.create_task(one_after_the_other())
            watching.cancel()
    except* Exception as group:  # noqa: BLE001 - raised, without the group
        raise first_of_all(group) from None
    return Tally.sum(tallies)


def _own_bucket(order: Order, name: str) -> Bucket:
    return bucket_of(rates_of(order)[name])


def _open(settings: Settings, region: str, opened: ExitStack) -> Api:
    api = open_region(settings, region)
    opened.callback(api.close)
    return api


@dataclass(slots=True)
class Watch:
    """writer.Observer: tells when there is no hope."""

    hopeless: asyncio.Future[Hopeless | Replaced]
    proven: set[str] = field(default_factory=set)

    def failed(self, region: str, error: Exception) -> None:
        """It is tried again."""

    def recovered(self, region: str) -> None:
        """Nothing to tell."""

    def stuck(self, region: str, error: Exception, *, first: bool) -> None:
        """Note a refusal that nobody has had reason not to expect."""
        del first
        if isinstance(error, Replaced) and not self.hopeless.done():
            self.hopeless.set_result(error)
        refused = isinstance(error, Fatal) and region not in self.proven
        if refused and not self.hopeless.done():
            self.hopeless.set_result(Hopeless(spoken(error)))

    def freed(self, region: str) -> None:
        """Nothing to tell."""


class Patient:
    """ports.Api of one region whose calls are made until they are answered."""

    def __init__(self, *, api: Api, region: str, writer: Writer) -> None:
        self._api, self._region, self._writer = api, region, writer

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        call = partial(self._api.call, operation, request)
        return await self._writer.patiently(self._region, call)


def patient(settings: Settings, plan: Plan, api: Api, key_names: tuple[str, ...]) -> Api:
    """The source's endpoint for the command itself; called on the event loop."""
    port = region_port(
        settings, plan.table, plan.source, api, key_names, clock=SystemClock(), bound_us=0
    )
    writer = Writer(
        regions={plan.source: port},
        limits=WriterLimits(),
        observer=Watch(asyncio.get_running_loop().create_future()),
        sleep=asyncio.sleep,
        rng=Random(),
    )
    return Patient(api=api, region=plan.source, writer=writer)


class _Bench:
    """The parts of one process's work."""

    def __init__(self, order: Order, apis: Mapping[str, Api], budget_of: BudgetOf) -> None:
        self._order, self._apis, self._clock = order, apis, SystemClock()
        self.watch = Watch(asyncio.get_running_loop().create_future())
        plan = order.plan
        self._tables = {region: self._table(region) for region in (plan.source, *plan.targets)}
        self._states = {region: self._key_states(region) for region in self._tables}
        self._fences = {region: self._fence(region) for region in plan.targets}
        self._read_budget = budget_of(READ)
        self._buckets = {region: budget_of(f"write {region}") for region in plan.targets}
        self._writer = Writer(
            regions={region: self._port(region) for region in self._tables},
            limits=WriterLimits(),
            observer=self.watch,
            sleep=asyncio.sleep,
            rng=Random(),
        )

    def segment_parts(self, progress: Callable[[Tally], None]) -> SegmentParts:
        """What every segment works with."""
        order, plan = self._order, self._order.plan
        return SegmentParts(
            source=Source(
                api=self._apis[plan.source],
                region=plan.source,
                requests=self._requests(plan.source),
                key_of=partial(key_of, key_names=order.key_names),
                writer=self._writer,
                bucket=self._read_budget,
                segments=plan.segments,
                limit_us=self._limit_us(plan.source),
                view=order.settings.tables[plan.table].view,
            ),
            targets={target: self._target(target) for target in plan.targets},
            jobs=jobs_of(
                order.settings,
                plan,
                Patient(api=self._apis[plan.source], region=plan.source, writer=self._writer),
            ),
            job=order.job,
            runner=uuid.uuid4().hex,
            policed=plan.terms.policed,
            progress=progress,
        )

    def _target(self, region: str) -> Target:
        order = self._order
        return Target(
            TargetParts(
                region=region,
                terms=order.plan.terms,
                is_authority=region == order.plan.authority,
                writer=self._writer,
                states=self._states[region],
                inserts=Inserts(
                    api=self._apis[region],
                    table=order.settings.table_name(order.plan.table, region),
                    region=region,
                    writer=self._writer,
                    bucket=self._buckets[region],
                    fence=self._fences[region],
                ),
                join=self._requests(region).join,
                read_again=self._read_again,
                park=self._park,
                written=self.watch.proven.add,
                sleep=asyncio.sleep,
            )
        )

    def _port(self, region: str) -> RegionPort:
        plan = self._order.plan
        table: Table = self._tables[region]
        states: KeyStates = self._states[region]
        if (fence := self._fences.get(region)) is not None:  # within: what is paid for may wait
            table, states = FencedTable(table, fence), FencedStates(states, fence)
        if region in self._buckets:
            marker = self._order.settings.tables[plan.table].marker
            table = PaidTable(table=table, bucket=self._buckets[region], marker=marker)
        return RegionPort(
            table=table,
            states=states,
            concurrency=self._order.settings.writer.concurrency,
            limit_us=self._limit_us(region),
        )

    def _fence(self, region: str) -> Fence | None:
        plan, settings = self._order.plan, self._order.settings
        return fence_of(settings, plan.table, plan.source, region, self._apis[region])

    def _table(self, region: str) -> Table:
        order = self._order
        return table_port(
            order.settings, order.plan.table, region, self._apis[region], order.key_names
        )

    def _key_states(self, region: str) -> KeyStates:
        plan, settings = self._order.plan, self._order.settings
        return SeparateStates(
            ControlKeyStates(
                api=self._apis[region],
                control_table=settings.control_table,
                table=plan.table,
                clock=self._clock,
                sleep=asyncio.sleep,
                retention_s=int(settings.tombstone_days * DAY_S),
            )
        )

    def _requests(self, region: str) -> TableRequests:
        plan, settings = self._order.plan, self._order.settings
        return TableRequests(
            table=settings.table_name(plan.table, region),
            marker=settings.tables[plan.table].marker,
            key_names=self._order.key_names,
        )

    def _limit_us(self, region: str) -> Callable[[], int]:
        """A region believes its own stamps a little further ahead, see compose.py."""
        bound_us = int(self._order.settings.future_bound_s * 1e6)
        if region == self._order.plan.source:
            bound_us += HOME_SLACK_US
        return lambda: self._clock.now_us() + bound_us

    async def _read_again(self, keys: Sequence[Key]) -> list[Item | None]:
        source, writer = self._order.plan.source, self._writer
        limit_us = self._limit_us(source)()
        items: list[Item | None] = []
        for start in range(0, len(keys), READ_BATCH_MAX):
            batch = keys[start : start + READ_BATCH_MAX]
            items += await writer.patiently(source, partial(self._tables[source].get, batch))
        return [judged(item, limit_us) for item in items]

    async def _park(self, target: str, key: Key, item: Item, reason: str) -> None:
        plan = self._order.plan
        parked = Parked(
            table=plan.table,
            source=plan.source,
            target=target,
            key=key,
            version=item.version or Version(0, plan.source, 0, Kind.REPLICATED),
            image=item.image,
            reason=reason,
            parked_us=self._clock.now_us(),
        )
        quarantine = Quarantine(
            api=self._apis[plan.source], control_table=self._order.settings.control_table
        )
        await self._writer.patiently(plan.source, partial(quarantine.park, parked))


def jobs_of(settings: Settings, plan: Plan, api: Api) -> Jobs:
    """Where the backfills of a table are kept; `api`: the source's, patient with what passes."""
    return Jobs(
        api=api,
        control_table=settings.control_table,
        table=plan.table,
        source=plan.source,
        clock=SystemClock(),
        sleep=asyncio.sleep,
    )
