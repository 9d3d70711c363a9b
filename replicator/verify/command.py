"""`replicator verify`: from settings and options to a comparison, and from its end to a status.

Composition only. Regions that cannot be reached, tables that are not there and calls that are not
allowed are wrong set-up, one line each; a region that is lost midway ends the command after a
while, since a person waits for it. Nothing is lost by that: a repair may be run again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from replicator import loop, private_files
from replicator.clock import SystemClock
from replicator.errors import (
    ConfigurationError,
    Malformed,
    Replaced,
    ReplicatorError,
    WorkersLost,
    first_of_all,
    suggestion,
)
from replicator.ports import Api, Clock
from replicator.preflight import Connect, remedy
from replicator.records import Gap
from replicator.settings import Settings
from replicator.verify.assembly import VerifyOptions, comparison_of, key_names_of, regions_of_loss
from replicator.verify.candidates import Difference
from replicator.verify.comparison import Comparison
from replicator.verify.patience import Patience
from replicator.verify.reading import Reading
from replicator.verify.report import (
    difference_document,
    difference_line,
    summary_document,
    summary_line,
)
from replicator.waiting import Gaps

PROGRESS_EVERY_S = 1.0

OPENING = '{"differences": ['
"""Of the document; what is refused before anything is compared prints none."""


def verify_table(
    settings: Settings,
    options: VerifyOptions,
    *,
    connect: Connect,
    as_json: bool,
    report: Path | None,
) -> int:
    """Compare, tell, and return the exit status.

    0 all that was compared is equal, or made so; 1 something differs, or kept changing to the end,
    so that nobody knows.
    """
    regions = checked_regions(settings, options)
    try:
        apis = {region: connect(region) for region in regions}
        opening = (
            nullcontext() if report is None else private_files.opened(report, option="--report")
        )
        with opening as file:
            return loop.run(_verify(settings, options, apis, as_json=as_json, file=file))
    except ReplicatorError as error:
        raise _told(error) from None
    except BaseExceptionGroup as group:
        errors, others = group.split(ReplicatorError)
        if errors is None or others is not None:
            raise
        raise _told(errors) from None


def checked_regions(settings: Settings, options: VerifyOptions) -> tuple[str, ...]:
    """The regions to compare. Raises: ConfigurationError for options that do not fit."""
    entry = settings.tables.get(options.table)
    if entry is None:
        remedy_text = suggestion(options.table, settings.tables)
        raise ConfigurationError(f'--table: "{options.table}" is no table; {remedy_text}')
    regions = options.regions or entry.members
    named = [*(("--regions", region) for region in regions)]
    if options.authority is not None:
        named.append(("--authority", options.authority))
    for option, region in named:
        if region not in entry.members:
            text = f'"{region}" is no region of this table; {suggestion(region, entry.members)}'
            raise ConfigurationError(f"{option}: {text}")
    if len(set(regions)) < 2 or len(set(regions)) < len(regions):  # noqa: PLR2004 - a pair
        raise ConfigurationError("--regions: name at least two, each once, separated by commas")
    if entry.source is not None and entry.source not in regions:
        raise ConfigurationError(f'--regions: add "{entry.source}", the source of this table')
    if options.authority is not None and options.authority not in regions:
        raise ConfigurationError("--authority: name one of --regions")
    if entry.source is not None and options.authority not in (None, entry.source):
        raise ConfigurationError(f'--authority: only "{entry.source}" writes this table')
    return regions


async def _verify(
    settings: Settings,
    options: VerifyOptions,
    apis: Mapping[str, Api],
    *,
    as_json: bool,
    file: TextIO | None,
) -> int:
    clock = SystemClock()
    started_s = clock.monotonic_s()
    key_names = await key_names_of(settings, options.table, apis)
    lost = await regions_of_loss(settings, options.table, apis, clock)
    gaps = await _gaps_to_close(settings, options, apis)
    teller = _Teller(as_json=as_json, file=file, clock=clock)
    async with _reading(settings, options, tuple(apis), key_names) as reading:
        comparison = comparison_of(
            settings,
            options,
            apis=apis,
            key_names=key_names,
            clock=clock,
            observer=Patience(clock),
            lost=lost,
            reading=reading,
        )
        progress = asyncio.create_task(_show_progress(comparison))
        try:
            stats = await comparison.run(teller.tell)
        finally:
            progress.cancel()
    if not stats.standing:
        await _close(settings, gaps, apis)
    teller.close(
        summary_document(
            options.table,
            stats,
            units=comparison.reading.units,
            sample=options.sample,
            lost=lost,
            seconds=clock.monotonic_s() - started_s,
        )
    )
    return 0 if stats.clean else 1


def _reading(
    settings: Settings, options: VerifyOptions, regions: tuple[str, ...], key_names: tuple[str, ...]
) -> AbstractAsyncContextManager[Reading | None]:
    """Who reads the tables; None: this process."""
    if options.workers is None and options.scheduler is None:
        return nullcontext()
    from replicator.verify.cluster import reading_there  # noqa: PLC0415 - an extra

    return reading_there(settings, options, regions=regions, key_names=key_names)


async def _gaps_to_close(
    settings: Settings, options: VerifyOptions, apis: Mapping[str, Api]
) -> list[Gap]:
    """What a repair closes if it ends clean: where it looks at all items, in all regions.

    One that is reported from now on is another row, or another time in it, and stays.
    """
    members = settings.tables[options.table].members
    if not options.repair or options.sample < 1 or set(apis) != set(members):
        return []
    sources = settings.tables[options.table].sources
    stored = [await _gaps(settings, apis[region]).load(options.table, region) for region in sources]
    return [gap for found in stored for gap in found]


async def _close(settings: Settings, gaps: Iterable[Gap], apis: Mapping[str, Api]) -> None:
    for gap in gaps:
        await _gaps(settings, apis[gap.source]).remove(gap)


def _gaps(settings: Settings, api: Api) -> Gaps:
    return Gaps(api=api, control_table=settings.control_table)


class _Teller:
    """Tells differences as they come, so that a million of them takes no memory.

    As JSON it is one document all the same: {"differences": [...], "summary": {...}}.
    """

    def __init__(self, *, as_json: bool, file: TextIO | None, clock: Clock) -> None:
        self._as_json, self._file, self._clock = as_json, file, clock
        self._told = 0

    def tell(self, difference: Difference) -> None:
        """A difference: to standard output, and as a line of JSON to the report."""
        now_us = self._clock.now_us()
        document = json.dumps(difference_document(difference, now_us))
        if self._file is not None:
            self._file.write(f"{document}\n")
        if self._as_json:
            sys.stdout.write(f"{',' if self._told else OPENING}\n  {document}")
        else:
            if not self._told:
                sys.stdout.write(f"{', '.join(difference.sides)}:\n")
            sys.stdout.write(f"{difference_line(difference, now_us)}\n")
        self._told += 1

    def close(self, summary: Mapping[str, Any]) -> None:
        """The end."""
        if self._as_json:
            opening = "" if self._told else OPENING
            sys.stdout.write(f'{opening}\n], "summary": {json.dumps(summary)}}}\n')
        else:
            sys.stdout.write(f"{summary_line(summary)}\n")


async def _show_progress(comparison: Comparison) -> None:
    """On a terminal, a line on standard error that is written over."""
    if not sys.stderr.isatty():
        return
    try:
        while True:
            stats = comparison.stats
            read = ", ".join(f"{r} {items:,}" for r, items in comparison.reading.items.items())
            line = f"{stats.stage}: {read}; {stats.differences:,} differ"
            sys.stderr.write(f"\r{line[:160]}\x1b[K")
            sys.stderr.flush()
            await asyncio.sleep(PROGRESS_EVERY_S)
    finally:
        sys.stderr.write("\r\x1b[K")


def _told(error: BaseException) -> ConfigurationError:
    """The first of what went wrong, with what a person can do about it."""
    error = first_of_all(error)
    if isinstance(error, ConfigurationError):
        return error
    if isinstance(error, Replaced | Malformed | WorkersLost):  # names its own remedy
        return ConfigurationError(str(error))
    if isinstance(error, ReplicatorError):
        return ConfigurationError(f"{error}; {remedy(error)}")
    return ConfigurationError(str(error))
