"""What a backfill is asked to do, and whether that makes sense, before any region is called.

This module must not know how a region is reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conflict.seed import Terms
from replicator.errors import ConfigurationError, suggestion
from replicator.records import Mode
from replicator.settings import Settings

SEGMENTS_DEFAULT = 8
SEGMENTS_MAX = 1_000_000
"""Source: API_Scan, TotalSegments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command as it was given; None for what was left out."""

    table: str
    source: str | None = None
    targets: tuple[str, ...] | None = None
    authority: str | None = None
    segments: int | None = None
    write_rate: float | None = None
    read_rate: float | None = None
    workers: int | None = None
    scheduler: str | None = None
    restart: bool = False
    dry_run: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is brought from where to where."""

    table: str
    source: str
    targets: tuple[str, ...]
    mode: Mode
    authority: str | None
    """The region whose content stays where two hold items that never had a version."""
    segments: int

    @property
    def terms(self) -> Terms:
        """How the protocol is to seed."""
        return Terms(
            origin=self.source,
            overwrite_unstamped=self.authority == self.source,
            policed=self.mode is Mode.MULTI_WRITER,
        )


def plan_of(request: Request, settings: Settings) -> Plan:
    """The plan of a request.

    Raises: ConfigurationError for what cannot be done.
    """
    if request.table not in settings.tables:
        remedy = suggestion(request.table, settings.tables)
        raise ConfigurationError(f'--table: "{request.table}" is not configured; {remedy}')
    table = settings.tables[request.table]
    source = _source(request, table.source, table.members)
    return Plan(
        table=request.table,
        source=source,
        targets=_targets(request, source, table.targets_of(source)),
        mode=table.mode,
        authority=_authority(request, table.source, table.members),
        segments=_segments(request),
    )


def _source(request: Request, only: str | None, members: tuple[str, ...]) -> str:
    if request.source is None:
        if only is None:
            choices = ", ".join(members)
            raise ConfigurationError(f"--source: say which region to copy from; one of {choices}")
        return only
    _known("--source", (request.source,), members, request.table)
    if only is not None and request.source != only:
        raise ConfigurationError(
            f'--source: table {request.table} is one-way, and its source is "{only}"; leave it out'
        )
    return request.source


def _targets(request: Request, source: str, others: tuple[str, ...]) -> tuple[str, ...]:
    if not request.targets:
        return others
    if source in request.targets:
        raise ConfigurationError(f'--target: "{source}" is the source; name another region')
    _known("--target", request.targets, others, request.table)
    return tuple(dict.fromkeys(request.targets))


def _authority(request: Request, only: str | None, members: tuple[str, ...]) -> str | None:
    if request.authority is None:
        return only
    _known("--authority", (request.authority,), members, request.table)
    if only is not None and request.authority != only:
        raise ConfigurationError(
            f'--authority: of a one-way table it is the source, "{only}"; leave it out'
        )
    return request.authority


def _segments(request: Request) -> int:
    segments = request.segments or max(SEGMENTS_DEFAULT, 4 * (request.workers or 0))
    if segments > SEGMENTS_MAX:
        raise ConfigurationError(f"--segments: at most {SEGMENTS_MAX}")
    return segments


def _known(option: str, given: Iterable[str], members: tuple[str, ...], table: str) -> None:
    for region in given:
        if region not in members:
            remedy = suggestion(region, members)
            raise ConfigurationError(f'{option}: "{region}" is no region of {table}; {remedy}')
