"""Making what a replicator needs in the regions: control tables, and streams where none is on.

Only what is missing is made. Tables of the application are never created, a stream that is on is
never changed, and a second run finds nothing to do. What cannot be mended here is told as a failed
line, in the words of preflight.py.

This module must not know how a result is shown, nor how a region is reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from replicator.control import (
    CONTROL_TTL_ATTRIBUTE,
    create_control_table_request,
    time_to_live_request,
)
from replicator.errors import Fatal, ReplicatorError
from replicator.ports import Api, Sleep
from replicator.preflight import (
    Check,
    Connect,
    Level,
    control_subject,
    described,
    table_subject,
    unanswered,
    wrong_control_keys,
    wrong_stream,
)
from replicator.records import TableDescription, ViewType
from replicator.settings import Settings

POLL_S = 0.5
POLLS_MAX = 120
WITHIN_S = POLL_S * POLLS_MAX
"""One minute: an on-demand table is usually ACTIVE within ten seconds. A restore may take hours,
and is for a person to wait for."""


async def provision(
    settings: Settings,
    *,
    connect: Connect,
    dry_run: bool,
    sleep: Sleep,
    streams_only: bool = False,
) -> list[Check]:
    """Make what is missing in every region; with `dry_run` only say what would be made.

    `streams_only`: no control tables. A stack makes its own, and takes none that is there already.
    """
    regions = await asyncio.gather(
        *(
            _region(
                settings,
                region,
                connect=connect,
                dry_run=dry_run,
                streams_only=streams_only,
                sleep=sleep,
            )
            for region in settings.regions
        )
    )
    return [check for checks in regions for check in checks]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Region:
    """One region at work."""

    settings: Settings
    name: str
    api: Api
    dry_run: bool
    streams_only: bool
    sleep: Sleep
    tell: Callable[[Check], None]

    async def control_table(self) -> None:
        """Create the control table and turn on its time to live."""
        table = self.settings.control_table
        subject = control_subject(table, self.name)
        description = await described(self.api, table)
        if description is None:
            if not await self._do(subject, "created", "create it", self._create_control_table):
                return
            description = await described(self.api, table)
        wrong = description and wrong_control_keys(description)
        if wrong:
            self._tell(subject, wrong, Level.FAILED)
        elif description is None or description.ttl_attribute != CONTROL_TTL_ATTRIBUTE:
            on = f"time to live on {CONTROL_TTL_ATTRIBUTE}"
            await self._do(subject, f"{on} turned on", f"turn {on} on", self._turn_ttl_on)
        else:
            self._tell(subject, "is there already")

    async def stream(self, table: str) -> None:
        """Turn a table's stream on where there is none."""
        subject = table_subject(self.settings, table, self.name)
        physical = self.settings.table_name(table, self.name)
        description = await described(self.api, physical)
        if description is None:
            text = "does not exist; create it with the same keys as in the other regions"
            self._tell(subject, text, Level.FAILED)
        elif description.view_type is None:
            on = f"a stream of {ViewType.NEW_AND_OLD_IMAGES}"
            turn_on = partial(self._turn_stream_on, physical)
            await self._do(subject, f"{on} turned on", f"turn {on} on", turn_on)
        elif wrong := wrong_stream(self.settings.tables[table].mode, description):
            self._tell(subject, wrong, Level.FAILED)
        else:
            self._tell(subject, f"has a stream of {description.view_type} already")

    async def _do(
        self, subject: str, done: str, intent: str, act: Callable[[], Awaitable[str | None]]
    ) -> bool:
        """Whether it is done. `act` gives what it waited for in vain, None where it did not."""
        if self.dry_run:
            self._tell(subject, f"would {intent}")
            return True
        late = await act()
        if late is not None:
            again = "replicator setup --streams-only" if self.streams_only else "replicator setup"
            self._tell(subject, f"{late}, and run `{again}` again", Level.FAILED)
            return False
        self._tell(subject, done)
        return True

    def _tell(self, subject: str, text: str, level: Level = Level.OK) -> None:
        self.tell(Check(subject=subject, level=level, text=text))

    async def _create_control_table(self) -> str | None:
        table = self.settings.control_table
        await self._unless_under_way("CreateTable", create_control_table_request(table))
        return await self._until_active(table)

    async def _turn_ttl_on(self) -> str | None:
        table = self.settings.control_table
        late = await self._until_active(table)  # another `setup` may be making it
        if late is None:
            await self.api.call("UpdateTimeToLive", time_to_live_request(table))
        return late

    async def _turn_stream_on(self, physical: str) -> str | None:
        """Ask for the stream as soon as the table takes a change, and wait until it is there.

        A table that is being made or restored takes none. One that is being changed refuses, and
        what changes it may bring the stream (another `setup`) or not: then it is asked again.
        """
        specification = {
            "StreamEnabled": True,
            "StreamViewType": ViewType.NEW_AND_OLD_IMAGES.value,
        }
        request = {"TableName": physical, "StreamSpecification": specification}
        late, taken = await self._until_active(physical), False
        if late is not None:
            return late
        async for description in self._looks(physical):
            if description is not None and description.active:
                if description.view_type is not None:
                    return None
                taken = taken or await self._unless_under_way("UpdateTable", request)
        said = "its stream is not on" if taken else "another change of it is under way"
        return f"{said} after {WITHIN_S:.0f} s; wait for it"

    async def _unless_under_way(self, operation: str, request: Mapping[str, object]) -> bool:
        """Whether it was taken: another `setup`, in another region's hands, may do the same."""
        try:
            await self.api.call(operation, request)
        except Fatal as error:
            if "ResourceInUseException" not in str(error):
                raise
            return False
        return True

    async def _until_active(self, table: str) -> str | None:
        async for description in self._looks(table):
            if description is not None and description.active:
                return None
        region = self.settings.regions[self.name].aws_region
        wait = f"aws dynamodb wait table-exists --table-name {table} --region {region}"
        return (
            f"is not ACTIVE after {WITHIN_S:.0f} s; wait for it (a restore takes hours): `{wait}`"
        )

    async def _looks(self, table: str) -> AsyncIterator[TableDescription | None]:
        """What a table is like, again and again for as long as a person waits."""
        for _ in range(POLLS_MAX):
            yield await described(self.api, table)
            await self.sleep(POLL_S)


async def _region(
    settings: Settings,
    name: str,
    *,
    connect: Connect,
    dry_run: bool,
    streams_only: bool,
    sleep: Sleep,
) -> list[Check]:
    """All of one region. A failed call ends it; what was made stays, and a second run goes on."""
    checks: list[Check] = []
    try:
        api = connect(name)
        region = _Region(
            settings=settings,
            name=name,
            api=api,
            dry_run=dry_run,
            streams_only=streams_only,
            sleep=sleep,
            tell=checks.append,
        )
        if not streams_only:
            await region.control_table()
        for table, entry in settings.tables.items():
            if name in entry.sources:
                await region.stream(table)
    except ReplicatorError as error:
        checks.append(unanswered(name, error))
    return checks
