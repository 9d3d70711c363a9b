"""`replicator conflicts`: the ledgers of all regions, listed, filtered and exported.

Each source region keeps its own ledger (ledger.py); a conflict stands in exactly one of them, that
of the pipeline that decided it. A region that does not answer is named, the others are shown, and
the exit status says that something is missing. So it is where a row is malformed.

A ledger is read from its newest row on, page by page, until there is enough; eventually consistent,
for replication needs the same table. Newest is by the time of the write that won.

This module must not know how conflicts come about.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conflict.version import TIME_DIGITS, parse
from replicator import private_files
from replicator.control import moment_us
from replicator.errors import ConfigurationError, ReplicatorError, spoken, suggestion
from replicator.ledger import key_text
from replicator.packing import unpacked
from replicator.ports import Api, Clock
from replicator.requests import Wire
from replicator.settings import Settings
from replicator.show import moment, plain

log = logging.getLogger(__name__)

SIDES = ("winner", "loser")

PAGE_ROWS = 100
"""Rows that are read at once where only the newest are wanted; else a whole page, which is 1 MB."""

BEFORE_US = 2 * 24 * 3_600_000_000
"""How much older than its decision a write may be that won. Source: DynamoDB Streams holds records
for 24 hours; as much again for the clocks of applications that stamp their writes."""


Dated: TypeAlias = tuple[str, Mapping[str, Any]]
"""A conflict behind its sort key."""

_UNREADABLE = (LookupError, TypeError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for; None asks for all. `region`: where it was decided, `since_s`: how long
    ago at most."""

    table: str | None = None
    region: str | None = None
    since_s: float | None = None
    limit: int | None = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Conflicts, newest first, whether there are more, and what is missing: a line per region that
    did not answer, and per ledger with rows that are malformed. `answered`: whether any did."""

    conflicts: tuple[Mapping[str, Any], ...]
    more: bool
    missing: tuple[str, ...]
    answered: bool = True

    @property
    def total(self) -> int | None:
        """How many there are; None where nobody knows."""
        return None if self.more or self.missing else len(self.conflicts)

    @property
    def at_least(self) -> int:
        """How many there are at least."""
        return len(self.conflicts) + self.more


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What was read of one ledger: conflicts, newest first, and how many rows were malformed."""

    conflicts: tuple[Dated, ...]
    malformed: int = 0


def gather(
    settings: Settings, wanted: Wanted, *, connect: Callable[[str], Api], clock: Clock
) -> Found:
    """The newest conflicts that are wanted.

    Raises: ConfigurationError for a table or region that the settings do not name.
    """
    _check(settings, wanted)
    return asyncio.run(_gather(settings, wanted, connect, clock))


def _check(settings: Settings, wanted: Wanted) -> None:
    for option, name, known in (
        ("--table", wanted.table, settings.tables),
        ("--region", wanted.region, settings.regions),
    ):
        if name is not None and name not in known:
            raise ConfigurationError(f'{option}: "{name}" is none; {suggestion(name, known)}')


async def _gather(
    settings: Settings, wanted: Wanted, connect: Callable[[str], Api], clock: Clock
) -> Found:
    since_us = 0
    if wanted.since_s is not None:
        since_us = max(0, clock.now_us() - int(wanted.since_s * 1e6))
    places = [
        (name, source)
        for name, table in settings.tables.items()
        for source in table.sources
        if wanted.table in (None, name)
    ]
    apis = {source: connect(source) for source in dict.fromkeys(source for _, source in places)}
    answers = await asyncio.gather(
        *(
            newest(apis[source], settings.control_table, name, wanted, since_us)
            for name, source in places
        ),
        return_exceptions=True,
    )
    conflicts: list[Dated] = []
    missing = []
    for (table, source), answer in zip(places, answers, strict=True):
        if isinstance(answer, ReplicatorError):
            missing.append(f"{source}: its ledger is missing here: {spoken(answer)}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            conflicts += answer.conflicts
            if answer.malformed:
                rows = f"{answer.malformed} malformed rows of conflict#{table}"
                missing.append(f"{source}: {rows} are missing here; the log names them")
    conflicts.sort(key=lambda dated: dated[0], reverse=True)
    return Found(
        conflicts=tuple(conflict for _, conflict in conflicts[: wanted.limit]),
        more=wanted.limit is not None and len(conflicts) > wanted.limit,
        missing=tuple(dict.fromkeys(missing)),
        answered=any(isinstance(answer, Newest) for answer in answers),
    )


async def newest(
    api: Api, control_table: str, table: str, wanted: Wanted, since_us: int = 0
) -> Newest:
    """The newest conflicts of a table in one region's ledger, with what they are sorted by, in the
    form of the page's: one more than the limit, where there are more.

    A row that is malformed is reported and left out: it must not hide the others.
    """
    enough = None if wanted.limit is None else wanted.limit + 1
    first_us = max(0, since_us - BEFORE_US)
    found: list[Dated] = []
    malformed = 0
    async for row in _newest_rows(api, control_table, table, first_us, limited=enough is not None):
        try:
            conflict = _document(table, row)
        except _UNREADABLE:
            malformed += 1
            log.warning("conflict.malformed", extra={"table": table, "row": row["sk"]["S"]})
            continue
        if wanted.region in (None, conflict["region"]) and conflict["at_us"] >= since_us:
            found.append((row["sk"]["S"], conflict))
            if len(found) == enough:
                break
    return Newest(conflicts=tuple(found), malformed=malformed)


async def _newest_rows(
    api: Api, control_table: str, table: str, first_us: int, *, limited: bool
) -> AsyncIterator[Wire]:
    request: Wire = {
        "TableName": control_table,
        "KeyConditionExpression": "pk = :pk AND sk >= :first",
        "ExpressionAttributeValues": {
            ":pk": {"S": f"conflict#{table}"},
            ":first": {"S": f"{first_us:0{TIME_DIGITS}d}"},
        },
        "ScanIndexForward": False,
    }
    if limited:
        request["Limit"] = PAGE_ROWS
    while True:
        response = await api.call("Query", request)
        for row in response["Items"]:
            yield row
        last = response.get("LastEvaluatedKey")
        if not last:
            return
        request = {**request, "ExclusiveStartKey": last}


def _document(table: str, row: Wire) -> dict[str, Any]:
    _, source, named, *_ = row["sk"]["S"].split("#")
    at_us = moment_us(row, "at_us")
    if at_us is None:
        raise ValueError("at_us states no time")
    clear = key_text(unpacked(row["item_key"]["B"])) if "item_key" in row else named
    document = {
        "at_us": at_us,
        "table": table,
        "source": source,
        "region": row["decided_in"]["S"],
        "key": clear,
    }
    return document | {side: _side(row, side) for side in SIDES}


def _side(row: Wire, side: str) -> dict[str, Any]:
    version = parse(row[side]["S"])
    document: dict[str, Any] = {
        "version": version and version.order_text,
        "origin": version and version.origin,
        "time_us": version and version.time_us,
        "deleted": row[f"{side}_deleted"]["BOOL"],
    }
    image = row.get(f"{side}_image")
    if image is not None:
        document["image"] = json.loads(key_text(unpacked(image["B"])))
    return document


def export(conflicts: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write each conflict as a line of JSON, readable by its owner alone; how many there were.

    Raises: ConfigurationError where the file cannot be written.
    """
    lines = [json.dumps(conflict, ensure_ascii=False) for conflict in conflicts]
    private_files.write(path, "".join(f"{line}\n" for line in lines), option="--export")
    return len(lines)


def show(found: Found, limit: int, console: Console) -> None:
    """The newest conflicts as a table, and how many there are, as far as that is known."""
    newest_found = found.conflicts[:limit]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("decided", "in", "table", "key", "winner", "loser"):
        table.add_column(name)
    for conflict in newest_found:
        table.add_row(*(Text(plain(cell)) for cell in _cells(conflict)))
    if newest_found:
        console.print(table)
    console.print(Text(_counted(found, len(newest_found)), "bold"))


def _counted(found: Found, shown: int) -> str:
    if found.more and not found.missing:
        return f"the newest {shown:,} conflicts; there are more"
    known = found.at_least
    number = f"at least {known:,}" if found.missing else f"{known:,}"
    newest_shown = f", the newest {shown:,} shown" if shown < known else ""
    return f"{number} {'conflict' if known == 1 else 'conflicts'}{newest_shown}"


def _cells(conflict: Mapping[str, Any]) -> Iterator[str]:
    yield moment(conflict["at_us"])
    yield conflict["region"]
    yield conflict["table"]
    yield conflict["key"]
    for side in SIDES:
        found = conflict[side]
        what = "delete" if found["deleted"] else "write"
        when = "of unknown time" if found["time_us"] is None else moment(found["time_us"])
        yield f"{found['origin'] or 'unknown'} {what} {when}"
