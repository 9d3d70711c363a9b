"""What a hand-over does to a table, told from its configuration alone.

    table                    planned or back                  unplanned
    every region writes      nothing: traffic moves           nothing: traffic moves
    one-way                  the target becomes the source    every region may write

A planned hand-over of a one-way table changes sides only when nothing is under way. After an
unplanned one the former source may still hold writes that nobody has: when it returns they must
meet what was written since, so the table becomes one that every region writes, and versions decide.

Pure; this module must not know regions but by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from replicator.errors import ConfigurationError, suggestion
from replicator.handover.section import Members
from replicator.records import Mode
from replicator.settings import Settings, TableSettings


class Kind(StrEnum):
    """Which way of handing over was asked for."""

    PLANNED = "planned"
    UNPLANNED = "unplanned"
    BACK = "back"
    DRILL = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for. `table`: None for every table that has both regions."""

    kind: Kind
    table: str | None
    source: str
    target: str
    wait_s: float = 300.0
    quiet_s: float = 10.0
    one_way: bool = False
    compare: bool = True


def tables_of(settings: Settings, request: Request) -> list[str]:
    """The tables to hand over. Raises: ConfigurationError where the request does not fit them."""
    for option, region in (("--from", request.source), ("--to", request.target)):
        if region not in settings.regions:
            text = f'"{region}" is no region; {suggestion(region, settings.regions)}'
            raise ConfigurationError(f"{option}: {text}")
    if request.source == request.target:
        raise ConfigurationError("--to: is the same region as --from; name another")
    if request.table is not None:
        return [_checked(settings, request, request.table)]
    fitting = [name for name, entry in settings.tables.items() if _wrong(entry, request) is None]
    if not fitting:
        both = f"{request.source} and {request.target}"
        raise ConfigurationError(f"--all: no table can be handed over between {both}")
    return fitting


def _checked(settings: Settings, request: Request, table: str) -> str:
    entry = settings.tables.get(table)
    if entry is None:
        remedy = suggestion(table, settings.tables)
        raise ConfigurationError(f'--table: "{table}" is no table; {remedy}')
    wrong = _wrong(entry, request)
    if wrong is not None:
        raise ConfigurationError(f"table {table}: {wrong}")
    return table


def _wrong(entry: TableSettings, request: Request) -> str | None:
    for region in (request.source, request.target):
        if region not in entry.members:
            return f"{region} does not have it; its regions: {', '.join(entry.members)}"
    if entry.source not in (None, request.source):
        return f"{entry.source} is its source, not {request.source}; correct --from"
    if entry.mode is Mode.ONE_WAY and not entry.view.is_whole:
        return (
            "where, without or rename leaves its copies less than the source holds, so none can "
            "take its place; replicate it whole, or hand it over by hand"
        )
    return None


def members_after(entry: TableSettings, request: Request, *, mergeable: bool) -> Members | None:
    """Who has the table afterwards; None where nothing changes.

    `mergeable`: the streams carry both images, without which no region can merge with another.
    """
    others: Sequence[str] = [name for name in entry.members if name != request.target]
    handed = Members(source=request.target, targets=tuple(others))
    if entry.mode is Mode.MULTI_WRITER:
        return handed if request.kind is Kind.BACK and request.one_way else None
    if request.kind is Kind.UNPLANNED and mergeable:
        return Members(regions=(request.target, *others))
    return handed
