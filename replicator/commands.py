"""The commands: each takes parsed arguments, puts the parts together and returns an exit status.

This is the composition root: the only place that reads the environment, opens regions and prints.
What runs for long (run.py, demo/) is imported by its own command, to spare the others its weight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from replicator.aws.api import event_source_mappings
from replicator.clock import SystemClock
from replicator.configuration import load, settings_of
from replicator.errors import ConfigurationError, suggestion
from replicator.inquiry import inquire
from replicator.pausing import Link, chosen_links, switch_links
from replicator.plane import opened_planes, opened_regions
from replicator.preflight import Check, Level, examine, failed, remedy
from replicator.provision import provision
from replicator.settings import (
    AWS_REGION_PATTERN,
    HttpSettings,
    RegionName,
    Settings,
    TableName,
)
from replicator.show import console, show_checks, show_status
from replicator.starter import starter
from replicator.usage import DEFAULT_FILE

if TYPE_CHECKING:
    from replicator.handover.plan import Kind, Request

logger = logging.getLogger(__name__)

DONE, NOT_WELL, WRONG = 0, 1, 2
REGIONS_MIN = 2
"""With fewer nothing would be replicated."""


def init(parsed: argparse.Namespace) -> int:
    """Write a starter configuration."""
    regions = _starting_regions(parsed)
    text = starter(regions=regions, table=parsed.table, source=parsed.source)
    settings_of(tomllib.loads(text), {}, stated_by="init")
    try:
        with parsed.config.open("w" if parsed.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        way_out = "overwrite it with --force, or choose another file with --config"
        raise ConfigurationError(f"{parsed.config}: exists already; {way_out}") from None
    except OSError as error:
        raise ConfigurationError(f"{parsed.config}: not written: {error.strerror}") from None
    written = {"written": str(parsed.config)}
    _print(json.dumps(written) if parsed.json else f"{parsed.config}: written; next: setup, doctor")
    return DONE


def _starting_regions(parsed: argparse.Namespace) -> list[str]:
    """The regions that a starter is to have. Raises: ConfigurationError, which names the option."""
    regions = list(_listed(parsed.regions))
    if len(set(regions)) < len(regions):
        raise ConfigurationError("--regions: a region is named twice; name each once")
    named = [("--table", TableName, parsed.table)]
    named += [("--regions", RegionName, region) for region in regions]
    named += [("--source", RegionName, parsed.source)] if parsed.source is not None else []
    for option, kind, name in named:
        try:
            TypeAdapter(kind).validate_python(name)
        except ValidationError as error:
            text = error.errors()[0]["ctx"]["error"]
            raise ConfigurationError(f"{option}: {text}") from None
    for region in regions:
        if re.fullmatch(AWS_REGION_PATTERN, region, re.ASCII) is None:
            text = "is no AWS region; give it as AWS does, such as us-east-1"
            raise ConfigurationError(f"--regions: {region!r} {text}; rename it in the file")
    if len(regions) < REGIONS_MIN:
        found = f"names {'none' if not regions else 'one only'}"
        raise ConfigurationError(f"--regions: {found}; give at least two, separated by commas")
    if parsed.source is not None and parsed.source not in regions:
        text = f'"{parsed.source}" is none of --regions; {suggestion(parsed.source, regions)}'
        raise ConfigurationError(f"--source: {text}")
    return regions


def setup(parsed: argparse.Namespace) -> int:
    """Make what is missing in the regions."""
    settings = _settings(parsed)
    with opened_regions(settings) as connect:
        checks = asyncio.run(
            provision(
                settings,
                connect=connect,
                dry_run=parsed.dry_run,
                streams_only=parsed.streams_only,
                sleep=asyncio.sleep,
            )
        )
    _print_checks(checks, as_json=parsed.json)
    return WRONG if failed(checks) else DONE


def doctor(parsed: argparse.Namespace) -> int:
    """Check the regions."""
    settings = _settings(parsed)
    sources = _sources(parsed.source, settings)
    checks = _examine(settings, sources)
    if not failed(checks):
        checks += _diagnose(settings, sources)
    _print_checks(checks, as_json=parsed.json)
    return NOT_WELL if failed(checks) else DONE


def _diagnose(settings: Settings, sources: frozenset[str]) -> list[Check]:
    """The further checks, of regions that passed the first."""
    from replicator.doctor import Doctor  # noqa: PLC0415
    from replicator.endpoint_clock import endpoint_time_s  # noqa: PLC0415

    def date_of(name: str) -> float | None:
        url = connect(name).endpoint_url
        return endpoint_time_s(url, urlsplit(url).hostname or "")

    def mappings_of(name: str, stream_arn: str) -> list[dict[str, Any]]:
        region = settings.regions[name]
        return event_source_mappings(
            region=region.aws_region,
            stream_arn=stream_arn,
            endpoint_url=region.endpoint_url,
            profile=region.profile,
            role_arn=region.role_arn,
        )

    with opened_regions(settings) as opening:
        connect = cache(opening)
        doctor = Doctor(
            settings=settings,
            sources=sources,
            connect=connect,
            clock=SystemClock(),
            date_of=date_of,
            mappings_of=mappings_of,
        )
        return asyncio.run(doctor.examine())


def run(parsed: argparse.Namespace) -> int:
    """Replicate, if nothing speaks against it."""
    settings = _settings(parsed)
    sources = _sources(parsed.source, settings)
    checks = _examine(settings, sources)
    if unmet := [c for c in failed(checks) if not (c.outage and parsed.tolerate_outage)]:
        raise ConfigurationError("\n".join(map(_forbidding, unmet)))
    for check in checks:
        if check.level is not Level.OK:
            logger.warning("preflight.warning", extra={"check": check.line})
    from replicator.run import run_service  # noqa: PLC0415

    return run_service(settings, sources, parsed.port)


def _forbidding(check: Check) -> str:
    """A line that says why `run` does not start."""
    if not check.outage:
        return check.line
    return f"{check.line}; if the region is down, start the others with --tolerate-outage"


def _sources(given: Sequence[str] | None, settings: Settings) -> frozenset[str]:
    known = settings.sources
    unknown = [region for region in given or () if region not in known]
    if unknown:
        raise ConfigurationError(
            "\n".join(
                f'--source: "{region}" is no region whose tables are read; '
                f"{suggestion(region, known)}"
                for region in unknown
            )
        )
    return frozenset(given) if given else known


def backfill(parsed: argparse.Namespace) -> int:
    """Bring what stands in one region to the others."""
    from replicator.backfill.command import run_backfill  # noqa: PLC0415
    from replicator.backfill.plan import Request  # noqa: PLC0415

    request = Request(
        table=parsed.table,
        source=parsed.source,
        targets=None if parsed.target is None else tuple(parsed.target),
        authority=parsed.authority,
        segments=parsed.segments,
        write_rate=parsed.write_rate,
        read_rate=parsed.read_rate,
        workers=parsed.workers,
        scheduler=parsed.scheduler,
        restart=parsed.restart,
        dry_run=parsed.dry_run,
        as_json=parsed.json,
    )
    settings = _settings(parsed)
    with opened_planes(settings) as connect:
        return run_backfill(request, settings, connect=connect)


def verify(parsed: argparse.Namespace) -> int:
    """Compare a table's regions."""
    from replicator.verify.assembly import VerifyOptions  # noqa: PLC0415
    from replicator.verify.command import verify_table  # noqa: PLC0415

    settings = _settings(parsed)
    options = VerifyOptions(
        table=parsed.table,
        regions=None if parsed.regions is None else _listed(parsed.regions),
        authority=parsed.authority,
        repair=parsed.repair,
        sample=parsed.sample,
        settle_s=parsed.settle,
        read_units_per_s=parsed.read_rate,
        write_units_per_s=parsed.write_rate,
        workers=parsed.workers,
        scheduler=parsed.scheduler,
    )
    with opened_planes(settings) as connect:
        return verify_table(
            settings, options, connect=connect, as_json=parsed.json, report=parsed.report
        )


def failover(parsed: argparse.Namespace) -> int:
    """Move to another region."""
    from replicator.handover.plan import Kind  # noqa: PLC0415

    return _hand_over(parsed, Kind.UNPLANNED if parsed.unplanned else Kind.PLANNED)


def failback(parsed: argparse.Namespace) -> int:
    """Move back to a region that has returned."""
    from replicator.handover.plan import Kind  # noqa: PLC0415

    return _hand_over(parsed, Kind.BACK)


def drill(parsed: argparse.Namespace) -> int:
    """Rehearse a failover."""
    from replicator.handover.command import rehearse  # noqa: PLC0415
    from replicator.handover.plan import Kind  # noqa: PLC0415

    settings = _settings(parsed)
    request = _request(parsed, Kind.DRILL)
    with opened_regions(settings) as connect:
        statuses = _statuses(parsed, settings.http)
        checks = rehearse(settings, request, connect=connect, statuses=statuses)
    _print_checks(checks, as_json=parsed.json)
    return NOT_WELL if failed(checks) else DONE


def _hand_over(parsed: argparse.Namespace, kind: Kind) -> int:
    from replicator.handover.command import run_handover  # noqa: PLC0415

    settings = _settings(parsed)
    with opened_regions(settings) as connect:
        return run_handover(
            settings,
            _request(parsed, kind),
            connect=connect,
            statuses=_statuses(parsed, settings.http),
            config=parsed.config,
            write=parsed.write,
            keys=parsed.keys,
            as_json=parsed.json,
        )


def _request(parsed: argparse.Namespace, kind: Kind) -> Request:
    from replicator.handover.plan import Request  # noqa: PLC0415

    return Request(
        kind=kind,
        table=None if parsed.all else parsed.table,
        source=parsed.from_region,
        target=parsed.to_region,
        wait_s=getattr(parsed, "wait", 0.0),
        quiet_s=getattr(parsed, "quiet", 0.0),
        one_way=getattr(parsed, "one_way", False),
        compare=not parsed.no_compare,
    )


def _statuses(parsed: argparse.Namespace, http: HttpSettings) -> list[Mapping[str, Any]]:
    """What processes say, as far as any was named: none has to be there, but it is told."""
    reports = [inquire(url, authorization=http.authorization) for url in parsed.url or ()]
    for report in reports:
        if report.status is None:
            sys.stderr.write(f"replicator: {report.error}\n")
    return [report.status for report in reports if report.status is not None]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def status(parsed: argparse.Namespace) -> int:
    """Show what running replicators report."""
    http = _http(parsed)
    reports = [inquire(url, authorization=http.authorization) for url in parsed.url or [http.url]]
    if parsed.json:
        _print(json.dumps([report.document for report in reports], indent=2))
    for report in reports:
        if report.status is None:
            sys.stderr.write(f"replicator: {report.error}\n")
        elif not parsed.json:
            show_status(report.url, report.status, console())
    return DONE if all(report.well for report in reports) else NOT_WELL


def top(parsed: argparse.Namespace) -> int:
    """Watch what running replicators report."""
    from replicator.top import interrupted_quietly, watch  # noqa: PLC0415

    http = _http(parsed)
    urls = parsed.url or [http.url]
    well = interrupted_quietly(
        partial(
            watch,
            lambda: [inquire(url, authorization=http.authorization) for url in urls],
            looks=parsed.looks,
            interval_s=parsed.interval,
            as_json=parsed.json,
            console=console(),
            sleep=time.sleep,
        )
    )
    return DONE if well else NOT_WELL


def conflicts(parsed: argparse.Namespace) -> int:
    """List what was decided between concurrent writes."""
    from replicator.conflicts import Wanted, export, gather, show  # noqa: PLC0415

    limit = None if parsed.export is not None else parsed.limit
    wanted = Wanted(table=parsed.table, region=parsed.region, since_s=parsed.since, limit=limit)
    settings = _settings(parsed)
    with opened_regions(settings) as connect:
        found = gather(settings, wanted, connect=connect, clock=SystemClock())
    for line in found.missing:
        sys.stderr.write(f"replicator: {line}\n")
    if parsed.export is not None:
        if found.answered:
            export(found.conflicts, parsed.export)
        else:
            reason = "not written, since no ledger was read; try again"
            sys.stderr.write(f"replicator: --export: {parsed.export}: {reason}\n")
    if parsed.json:
        newest = found.conflicts[: parsed.limit]
        document = {"total": found.total, "conflicts": newest, "missing": found.missing}
        _print(json.dumps(document, indent=2))
    else:
        show(found, parsed.limit, console())
    return NOT_WELL if found.missing else DONE


def quarantine(parsed: argparse.Namespace) -> int:
    """Deal with changes that could not be applied."""
    from replicator.quarantine import command as act  # noqa: PLC0415

    settings = _settings(parsed)
    choice = act.checked(
        act.Choice(table=parsed.table, source=parsed.source, target=parsed.target, key=parsed.key),
        settings,
    )
    if parsed.action in ("replay", "drop") and choice.is_open and not parsed.all:
        raise ConfigurationError(
            f"quarantine {parsed.action}: name what, by --table, --source, --target or --key; "
            "or --all"
        )
    with opened_regions(settings) as connect:
        desk = act.Desk(settings=settings, connect=connect, choice=choice)
        match parsed.action:
            case "list":
                return act.list_parked(desk, as_json=parsed.json)
            case "show":
                return act.show_parked(desk, image=parsed.image, as_json=parsed.json)
            case "replay":
                return act.replay_parked(desk, as_json=parsed.json)
            case _:
                return act.drop_parked(desk, confirmed=parsed.yes, as_json=parsed.json)


def dashboard(parsed: argparse.Namespace) -> int:
    """Show several processes on one page, until a signal says stop."""
    from replicator.dashboard.gather import run_dashboard  # noqa: PLC0415

    http = _http(parsed)
    urls = parsed.url or [http.url]
    return run_dashboard(urls=urls, http=http, port=parsed.port, announce=_print)


def _http(parsed: argparse.Namespace) -> HttpSettings:
    """The configured way to pages; where all are named, and a file neither is nor is there, the
    default."""
    unnamed = parsed.config is DEFAULT_FILE  # the same name, if it is given, is another object
    alone = parsed.url and unnamed and not parsed.config.exists()
    return HttpSettings() if alone else _settings(parsed).http


def pause(parsed: argparse.Namespace) -> int:
    """Pause links."""
    return _switch(parsed, paused=True)


def resume(parsed: argparse.Namespace) -> int:
    """Resume links."""
    return _switch(parsed, paused=False)


def _switch(parsed: argparse.Namespace, *, paused: bool) -> int:
    settings = _settings(parsed)
    links = chosen_links(settings, parsed.table, parsed.source, parsed.target)
    now_us = SystemClock().now_us()
    with opened_regions(settings) as connect:
        apis = {source: connect(source) for source in dict.fromkeys(each.source for each in links)}
        switched = asyncio.run(switch_links(settings, apis, links, paused=paused, now_us=now_us))
    now, already = ("paused", "paused already") if paused else ("resumed", "was not paused")
    results = {link: now if link in switched.changed else already for link in links}
    results |= dict.fromkeys(switched.failed, "not paused" if paused else "not resumed")
    errors = {link: f"{error}; {remedy(error)}" for link, error in switched.failed.items()}
    for link, error in errors.items():
        sys.stderr.write(f"replicator: {_way(link)}: {error}\n")
    if parsed.json:
        documents = [
            {**asdict(link), "result": result, "error": errors.get(link)}
            for link, result in results.items()
        ]
        _print(json.dumps(documents, indent=2))
    else:
        for link, result in results.items():
            _print(f"{_way(link)}: {result}")
    return NOT_WELL if errors else DONE


def _way(link: Link) -> str:
    return f"{link.table}, {link.source} → {link.target}"


def demo(parsed: argparse.Namespace) -> int:
    """Play the demo."""
    from replicator.demo import run_demo  # noqa: PLC0415

    return run_demo(seconds=parsed.seconds, headless=parsed.headless, port=parsed.port)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _settings(parsed: argparse.Namespace) -> Settings:
    return load(parsed.config, os.environ)


def _examine(settings: Settings, sources: frozenset[str]) -> list[Check]:
    with opened_regions(settings) as connect:
        return asyncio.run(examine(settings, connect=connect, sources=sources))


def _print_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        documents = [
            {"subject": check.subject, "level": check.level.value, "text": check.text}
            for check in checks
        ]
        _print(json.dumps(documents, indent=2))
    else:
        show_checks(checks, console())
