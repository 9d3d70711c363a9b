"""What the demo runs: the engine, the network, a replicator in each region, the applications.

`open_stage` sets all of it up and takes all of it down again, in whatever way it is left. The
applications and the watchers run as tasks of one group: the first that fails ends the demo, since
a writer that stopped in silence would make the verdict worth nothing.

This module must not know the phases of the demo or its verdict.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from replicator.aws.api import Boto3Api
from replicator.clock import SystemClock
from replicator.demo import engine, statuses
from replicator.demo.canary import WATCH_INTERVAL_S, WRITE_INTERVAL_S, Canaries
from replicator.demo.children import Child, ChildFailed, free_port
from replicator.demo.journal import Journal
from replicator.demo.network import Network
from replicator.demo.world import (
    LEDGER,
    LOOPBACK,
    ORDERS,
    REGIONS,
    TABLES,
    Apis,
    DemoTable,
    configuration,
    create_tables,
)
from replicator.demo.writers import LEDGER_WRITES_PER_S, WRITES_PER_S, Ledger, Orders, Writer
from replicator.ports import Clock

REPLICATOR = (sys.executable, "-m", "replicator")
SETUP_WITHIN_S = 30.0
RUNNING_WITHIN_S = 30.0
STATUS_INTERVAL_S = 0.25
THREADS_PER_REGION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """When a region was cut off; `until_us` is None as long as it is."""

    region: str
    from_us: int
    until_us: int | None = None


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that runs, and what is known of it."""

    apis: Apis
    network: Network
    replicators: Sequence[Child]
    status_ports: Mapping[str, int]
    journal: Journal
    canaries: Canaries
    orders: Mapping[str, Orders]
    ledger: Ledger
    clock: Clock
    started_us: int
    statuses: statuses.Statuses = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)

    @property
    def cut(self) -> str | None:
        """The region that is cut off at present."""
        last = self.outages[-1] if self.outages else None
        return last.region if last is not None and last.until_us is None else None

    @contextmanager
    def cut_off(self, region: str) -> Iterator[None]:
        """Cut a region off from the others meanwhile."""
        self.network.cut(region)
        self.outages.append(Outage(region=region, from_us=self.clock.now_us()))
        try:
            yield
        finally:
            self.network.heal(region)
            self.outages[-1] = replace(self.outages[-1], until_us=self.clock.now_us())

    async def poll(self) -> None:
        """Ask the replicators how they are. Raises ChildFailed when one has ended."""
        for child in self.replicators:
            child.check()
        self.statuses = await statuses.poll(self.status_ports)

    async def wait_until_running(self) -> None:
        """Wait until every replicator reads its streams."""
        deadline = self.clock.monotonic_s() + RUNNING_WITHIN_S
        while not statuses.running(self.statuses):
            if self.clock.monotonic_s() > deadline:
                raise ChildFailed(f"the replicators were not running in {RUNNING_WITHIN_S:.0f} s")
            await asyncio.sleep(STATUS_INTERVAL_S)
            await self.poll()

    @asynccontextmanager
    async def applications(self) -> AsyncIterator[None]:
        """Let the applications of all regions write, and their canaries fly."""
        quiet = asyncio.Event()
        async with together() as group:
            for region, application in self.orders.items():
                group.create_task(every(1 / WRITES_PER_S, application.step, until=quiet))
                group.create_task(self._fly_canary(region, quiet))
            group.create_task(every(1 / LEDGER_WRITES_PER_S, self.ledger.step, until=quiet))
            try:
                yield
            finally:
                quiet.set()

    @asynccontextmanager
    async def watchers(self) -> AsyncIterator[None]:
        """Watch the canaries' arrival and the replicators' status."""
        done = asyncio.Event()
        async with together() as group:
            for region in REGIONS:
                group.create_task(self._watch(region, done))
            group.create_task(every(STATUS_INTERVAL_S, self.poll, until=done))
            try:
                yield
            finally:
                done.set()

    async def _fly_canary(self, region: str, quiet: asyncio.Event) -> None:
        async def write() -> None:
            for table in TABLES:
                if region in table.writers:
                    await self.canaries.write(self.apis[region], table, region)

        await every(WRITE_INTERVAL_S, write, until=quiet)

    async def _watch(self, region: str, done: asyncio.Event) -> None:
        async def watch() -> None:
            await self.canaries.watch(self.apis[region], region)

        await every(WATCH_INTERVAL_S, watch, until=done)


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks that ends with the first that fails, and with that one's error."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def every(
    interval_s: float, step: Callable[[], Awaitable[None]], *, until: asyncio.Event
) -> None:
    """Take a step at each interval, late ones left out, until the event is set."""
    clock = asyncio.get_running_loop().time
    due = clock()
    while not until.is_set():
        await step()
        due = max(due + interval_s, clock())
        try:
            await asyncio.wait_for(until.wait(), due - clock())
        except TimeoutError:
            continue


@asynccontextmanager
async def open_stage(
    directory: Path, *, seed: int, replicator: Sequence[str] = REPLICATOR
) -> AsyncIterator[Stage]:
    """Set everything up below `directory`; `replicator` is the command of the product.

    Raises: ChildFailed when the engine or a replicator does not come up.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        engine_process, port = await engine.start(directory)
        stack.push_async_callback(engine_process.stop)
        endpoint = f"http://{LOOPBACK}:{port}"
        apis = {region: _open_api(stack, region, endpoint) for region in REGIONS}
        await create_tables(apis)
        network = Network(engine_port=port)
        stack.push_async_callback(network.close)
        await network.open()
        ports = {region: free_port() for region in REGIONS}
        replicators = [
            Child(
                f"replicator {region}",
                [*replicator, "run", "--source", region, "--port", str(ports[region]), *config],
                directory=directory,
            )
            for region, config in _configurations(directory, endpoint, network).items()
        ]
        await _set_up(directory, endpoint, replicator)
        stack.push_async_callback(_stop_all, replicators)
        for child in replicators:
            await child.start()
        cast = _Cast(apis=apis, journal=Journal(), clock=clock, seed=seed)
        yield Stage(
            apis=apis,
            network=network,
            replicators=replicators,
            status_ports=ports,
            journal=cast.journal,
            canaries=Canaries(TABLES, clock=clock),
            orders={region: Orders(writer=cast.writer(region, ORDERS)) for region in REGIONS},
            ledger=Ledger(writer=cast.writer(LEDGER.writers[0], LEDGER)),
            clock=clock,
            started_us=clock.now_us(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cast:
    """What all writers share."""

    apis: Apis
    journal: Journal
    clock: Clock
    seed: int

    def writer(self, region: str, table: DemoTable) -> Writer:
        """A writer with a random sequence of its own, the same for the same seed."""
        return Writer(
            region=region,
            table=table,
            api=self.apis[region],
            journal=self.journal,
            clock=self.clock,
            random=random.Random(f"{self.seed}/{region}/{table.name}"),
        )


def _open_api(stack: AsyncExitStack, region: str, endpoint: str) -> Boto3Api:
    api = Boto3Api.open(region=region, endpoint_url=endpoint, threads=THREADS_PER_REGION)
    stack.callback(api.close)
    return api


def _configurations(directory: Path, endpoint: str, network: Network) -> dict[str, list[str]]:
    """Write each region's configuration; the result is the option that names it."""
    options = {}
    for region in REGIONS:
        endpoints = {to: endpoint if to == region else network.urls[region, to] for to in REGIONS}
        options[region] = _configured(directory / f"{region}.toml", endpoints)
    return options


def _configured(file: Path, endpoints: Mapping[str, str]) -> list[str]:
    file.write_text(configuration(endpoints))
    return ["--config", str(file)]


async def _set_up(directory: Path, endpoint: str, replicator: Sequence[str]) -> None:
    """Have the product make its control tables, as a person does: with `setup`."""
    config = _configured(directory / "setup.toml", dict.fromkeys(REGIONS, endpoint))
    child = Child("replicator setup", [*replicator, "setup", *config], directory=directory)
    await child.start()
    try:
        await child.finish(within_s=SETUP_WITHIN_S)
    finally:
        await child.stop()


async def _stop_all(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))
