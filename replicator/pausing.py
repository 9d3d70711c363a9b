"""Links that a person has paused: written down in the source region, obeyed within seconds.

One row per link in the source's control table, so that a pause outlives every process. A pipeline
looks at its rows every few seconds. When each of its links is paused, it drains, checkpoints and
reads no more: it holds nothing and reads on from its positions when it is resumed. When some of
them are, deliveries to those wait; at the bound on unsettled records their link is detached, as
behind a target that is down (bulkhead.py), and catches up when it is resumed. A Lambda function
looks at the rows too, and has the batches of a paused link handed over again (lambda_handler.py).

While the rows cannot be read, what was read last stands: an outage neither pauses nor resumes. A
row that is malformed pauses its link all the same, since for ever, until a person resumes it. A
stream holds 24 hours; what is paused for longer loses records, and will say so as a gap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from replicator.control import ControlTable, moment_us, row_key
from replicator.errors import ConfigurationError, ReplicatorError, spoken, suggestion
from replicator.parts import PipelineParts
from replicator.ports import Api
from replicator.requests import Wire
from replicator.settings import Settings
from replicator.telemetry import PipelineState
from replicator.writer import first_of

log = logging.getLogger(__name__)


class ControlPauses:
    """ports.Pauses over one region's control table, and the writing of its rows."""

    def __init__(self, *, api: Api, control_table: str) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._malformed: frozenset[str] = frozenset()

    async def load(self, table: str, source: str) -> dict[str, int]:
        """A link whose row is malformed is paused since 0; that it is malformed is told once."""
        rows = await self._control.query(f"pause#{table}#{source}")
        read = {target: moment_us(row, "since_us") for row in rows if (target := _target(row))}
        malformed = frozenset(target for target, since_us in read.items() if since_us is None)
        for target in sorted(malformed - self._malformed):
            fields = {"table": table, "region": source, "row": target}
            log.warning("pause.malformed", extra=fields)
        self._malformed = malformed
        return {target: since_us or 0 for target, since_us in read.items()}

    async def pause(self, link: Link, since_us: int) -> bool:
        """Whether the link was not paused before; an earlier pause stands."""
        row = {**_key(link), "since_us": {"N": str(since_us)}}
        since = {":since": row["since_us"]}
        return await self._control.put(
            row, "attribute_not_exists(since_us) OR since_us > :since", since
        )

    async def resume(self, link: Link) -> bool:
        """Whether the link was paused. A row that is malformed is taken out as well."""
        return await self._control.delete(_key(link), "attribute_exists(pk)", {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The way of a table's changes from one region to another."""

    table: str
    source: str
    target: str


def _key(link: Link) -> Wire:
    return row_key(f"pause#{link.table}#{link.source}", link.target)


def _target(row: Wire) -> str | None:
    target: str | None = row.get("sk", {}).get("S")
    return target


def chosen_links(
    settings: Settings, table: str, source: str | None, target: str | None
) -> list[Link]:
    """The links that a person means; a source or target left out means each.

    Raises: ConfigurationError where there is no such link.
    """
    entry = settings.tables.get(table)
    if entry is None:
        remedy = suggestion(table, settings.tables)
        raise ConfigurationError(f'--table: "{table}" is not configured; {remedy}')
    if source is not None and source not in entry.sources:
        remedy = suggestion(source, entry.sources)
        raise ConfigurationError(f'--source: "{source}" is not read for table {table}; {remedy}')
    links = [
        Link(table=table, source=each, target=to)
        for each in entry.sources
        if source in (None, each)
        for to in entry.targets_of(each)
        if target in (None, to)
    ]
    if not links:
        targets = {to for each in entry.sources for to in entry.targets_of(each)}
        remedy = suggestion(str(target), targets - {source})
        raise ConfigurationError(f'--target: "{target}" is no target here; {remedy}')
    return links


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What became of links: those that were changed, and those that could not be asked about."""

    changed: Sequence[Link]
    failed: Mapping[Link, ReplicatorError]


async def switch_links(
    settings: Settings,
    apis: Mapping[str, Api],
    links: Iterable[Link],
    *,
    paused: bool,
    now_us: int,
) -> Switched:
    """Pause or resume links, durably, each for itself: one that fails leaves the others alone."""
    changed: list[Link] = []
    failed: dict[Link, ReplicatorError] = {}
    for link in links:
        store = ControlPauses(api=apis[link.source], control_table=settings.control_table)
        try:
            news = await (store.pause(link, now_us) if paused else store.resume(link))
        except ReplicatorError as error:
            failed[link] = error
            continue
        if news:
            changed.append(link)
            fields = {"table": link.table, "region": link.source, "to": link.target}
            log.warning("link.paused" if paused else "link.resumed", extra=fields)
    return Switched(changed=changed, failed=failed)


class Valve:
    """Keeps up to date which links of a pipeline are paused: `paused_since_us` of their figures."""

    def __init__(self, parts: PipelineParts) -> None:
        self._stores, self._sleep = parts.stores, parts.sleep
        self._stats, self._look_s = parts.stats, parts.limits.pause_look_s
        self._failing = False

    @property
    def shut(self) -> bool:
        """Whether every link is paused."""
        links = self._stats.links.values()
        return bool(links) and all(link.paused_since_us is not None for link in links)

    async def look(self) -> None:
        """Read the rows, and obey them. Raises: ReplicatorError; what was read last then stands."""
        if self._stores.pauses is None:
            return
        paused = await self._stores.pauses.load(self._stats.table, self._stats.source)
        for target, link in self._stats.links.items():
            link.paused_since_us = paused.get(target)

    async def watch(self, stop: asyncio.Event, halt: asyncio.Event) -> None:
        """Set `halt` once every link is paused, or `stop` is set."""
        watching = asyncio.ensure_future(self._until_shut())
        try:
            await first_of(asyncio.wait({watching}), stop.wait())
        finally:
            halt.set()
            watching.cancel()
        if watching.done() and not watching.cancelled():
            watching.result()

    async def wait_open(self, stop: asyncio.Event) -> None:
        """Return once a link is open, or `stop` is set; nothing is read or held meanwhile."""
        stats = self._stats
        while self.shut and not stop.is_set():
            stats.state = PipelineState.PAUSED
            stats.progress = stats.read_until = stats.in_flight = None
            stats.readable = stats.caught_up = False
            stats.session_error = stats.source_error = None
            await first_of(self._look_later(), stop.wait())
        if stats.state is PipelineState.PAUSED and not self.shut:
            stats.state = PipelineState.STARTING  # whatever hangs from now on is a hang

    async def _until_shut(self) -> None:
        if self._stores.pauses is None:
            await asyncio.Event().wait()
        while not self.shut:
            await self._look_later()

    async def _look_later(self) -> None:
        await self._sleep(self._look_s)
        try:
            await self.look()
        except ReplicatorError as error:
            if not self._failing:
                fields = {"table": self._stats.table, "region": self._stats.source}
                log.warning("pause.unread", extra={**fields, "error": spoken(error)})
            self._failing = True
        else:
            self._failing = False
