"""One table between two regions, as a hand-over asks and changes it.

Composition: what the questions mean is tail.py's and exposure.py's. Every question may raise what
the ports raise; whoever asks decides whether to ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from replicator.compose import stores
from replicator.errors import Fatal, ReplicatorError, first_of_all
from replicator.handover.across import Across
from replicator.handover.active import Handover, Handovers
from replicator.handover.exposure import Exposure, not_in, noted_exposure, read_exposure
from replicator.handover.tail import Tail, Write
from replicator.ports import Api, Clock, Sleep
from replicator.preflight import ANSWER_WITHIN_S
from replicator.records import TableDescription, ViewType
from replicator.settings import Settings
from replicator.stream import DynamoStream
from replicator.table import DynamoTable, describe_table, key_of
from replicator.transformer import Transformer
from replicator.verify.assembly import VerifyOptions, comparison_of, key_names_of
from replicator.verify.candidates import Difference
from replicator.verify.comparison import ComparisonStats
from replicator.verify.patience import Patience

READY_POLLS_MAX = 120
READY_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A table of the configuration, and its regions' endpoints."""

    settings: Settings
    table: str
    apis: Mapping[str, Api]
    clock: Clock
    sleep: Sleep

    @property
    def members(self) -> tuple[str, ...]:
        """The regions that have the table."""
        return self.settings.tables[self.table].members

    async def describe(self, region: str) -> TableDescription:
        """What a region says of the table, within the time for which a person waits."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                name = self.settings.table_name(self.table, region)
                return await describe_table(self.apis[region], name)
        except TimeoutError:
            raise Fatal(f"region {region}: no answer within {ANSWER_WITHIN_S:.0f} s") from None

    async def tail(self, source: str, targets: Sequence[str]) -> Tail:
        """The end of the table's stream in a region, not looked at yet.

        `targets`: those that must have a write before it is forgotten, where nothing else tells.

        Raises: Fatal where there is no stream.
        """
        description = await self.describe(source)
        if description.stream_arn is None:
            raise Fatal(f"table {self.table} in {source} has no stream; run `replicator setup`")
        entry = self.settings.tables[self.table]
        names = tuple(description.key_schema)
        home = self._table(source, names)
        tables = [self._table(target, names) for target in targets]

        async def not_across(writes: Sequence[Write]) -> list[Write]:
            lacking = {id(w) for table in tables for w in await not_in(table, writes, home)}
            return [write for write in writes if id(write) in lacking]

        return Tail(
            table=self.table,
            source=source,
            arn=description.stream_arn,
            stream=DynamoStream(api=self.apis[source], arn=description.stream_arn),
            checkpoints=stores(self.settings, self.apis[source], clock=self.clock).checkpoints,
            not_across=not_across,
            transformer=Transformer(
                home=source,
                mode=entry.mode,
                marker=entry.marker,
                key_of=partial(key_of, key_names=names),
                ttl_deletes=entry.ttl_deletes,
                future_bound_us=int(self.settings.future_bound_s * 1e6),
                view=entry.view,
            ),
            clock=self.clock,
            sleep=self.sleep,
        )

    async def exposure(self, tail: Tail, target: str) -> Exposure:
        """What a target lacks of what a tail holds."""
        names = tuple((await self.describe(target)).key_schema)
        home = self._table(tail.source, names) if tail.mapped else None
        table = self._table(target, names)
        return await read_exposure(tail, target, table, self.clock.now_us(), home)

    def _table(self, region: str, key_names: tuple[str, ...]) -> DynamoTable:
        return DynamoTable(
            api=self.apis[region],
            name=self.settings.table_name(self.table, region),
            marker=self.settings.tables[self.table].marker,
            key_names=key_names,
            sleep=self.sleep,
        )

    async def noted_us(self, source: str, target: str) -> int | None:
        """Until when all writes of a source had arrived, as the target was told last."""
        rows = Across(api=self.apis[target], control_table=self.settings.control_table)
        return await rows.until_us(self.table, source)

    async def noted_exposure(self, source: str, target: str, pending: int | None) -> Exposure:
        """What the target knows of a source that does not answer."""
        return noted_exposure(
            self.table,
            source,
            target,
            until_us=await self.noted_us(source, target),
            now_us=self.clock.now_us(),
            pending=pending,
        )

    async def parked(self, source: str, target: str) -> int:
        """How many changes of a source wait in quarantine for a target."""
        kept = stores(self.settings, self.apis[source], clock=self.clock)
        parked = await kept.quarantine.notes(self.table)
        return sum(change.source == source and change.target == target for change in parked)

    async def gaps(self, source: str) -> int:
        """How many losses of a source's stream are not mended."""
        kept = stores(self.settings, self.apis[source], clock=self.clock)
        return len(await kept.gaps.load(self.table, source))

    async def compare(self) -> ComparisonStats:
        """Compare the table in all of its regions."""
        apis = {region: self.apis[region] for region in self.members}
        comparison = comparison_of(
            self.settings,
            VerifyOptions(table=self.table),
            apis=apis,
            key_names=await key_names_of(self.settings, self.table, apis),
            clock=self.clock,
            observer=Patience(self.clock),
        )
        return await comparison.run(_count_only)

    async def turn_stream_on(self, region: str) -> None:
        """Turn the table's stream on in a region where it is off."""
        specification = {
            "StreamEnabled": True,
            "StreamViewType": ViewType.NEW_AND_OLD_IMAGES.value,
        }
        name = self.settings.table_name(self.table, region)
        request = {"TableName": name, "StreamSpecification": specification}
        await self.apis[region].call("UpdateTable", request)
        for _ in range(READY_POLLS_MAX):
            description = await self.describe(region)
            if description.active and description.stream_arn is not None:
                return
            await self.sleep(READY_POLL_S)
        raise Fatal(f"table {self.table} in {region}: its stream was not ready in time")

    async def store(self, region: str, handover: Handover, seen: Handover | None) -> bool:
        """Tell a region who the source is now; False where somebody else holds the table."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await self._handovers(region).store(handover, seen)

    async def handover(self, region: str) -> Handover | None:
        """Who a region believes the source to be, None where the configuration holds."""
        return await self._handovers(region).load(self.table)

    def _handovers(self, region: str) -> Handovers:
        name = self.settings.control_table
        return Handovers(api=self.apis[region], control_table=name, sleep=self.sleep)


def _count_only(difference: Difference) -> None:
    """The figures are enough; `replicator verify` tells the keys."""
    del difference


def reason(error: BaseException) -> str:
    """The first thing that went wrong, in one line."""
    error = first_of_all(error)
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) if isinstance(error, ReplicatorError) else type(error).__name__
