"""Commands that look at what runs, and hold it: status, top, conflicts, dashboard, pause, resume;
and the demo, which runs to be looked at."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from functools import partial

from replicator.clock import SystemClock
from replicator.commands.common import DONE, NOT_WELL, say, settings_named
from replicator.inquiry import inquire
from replicator.pausing import Link, chosen_links, switch_links
from replicator.plane import opened_regions
from replicator.preflight import remedy
from replicator.settings import HttpSettings
from replicator.show import console, show_status
from replicator.usage import DEFAULT_FILE


def status(parsed: argparse.Namespace) -> int:
    """Show what running replicators report."""
    http = _http(parsed)
    reports = [inquire(url, authorization=http.authorization) for url in parsed.url or [http.url]]
    if parsed.json:
        say(json.dumps([report.document for report in reports], indent=2))
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
    settings = settings_named(parsed)
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
        say(json.dumps(document, indent=2))
    else:
        show(found, parsed.limit, console())
    return NOT_WELL if found.missing else DONE


def dashboard(parsed: argparse.Namespace) -> int:
    """Show several processes on one page, until a signal says stop."""
    from replicator.dashboard.gather import run_dashboard  # noqa: PLC0415

    http = _http(parsed)
    urls = parsed.url or [http.url]
    return run_dashboard(urls=urls, http=http, port=parsed.port, announce=say)


def _http(parsed: argparse.Namespace) -> HttpSettings:
    """The configured way to pages; where all are named, and a file neither is nor is there, the
    default."""
    unnamed = parsed.config is DEFAULT_FILE  # the same name, if it is given, is another object
    alone = parsed.url and unnamed and not parsed.config.exists()
    return HttpSettings() if alone else settings_named(parsed).http


def pause(parsed: argparse.Namespace) -> int:
    """Pause links."""
    return _switch(parsed, paused=True)


def resume(parsed: argparse.Namespace) -> int:
    """Resume links."""
    return _switch(parsed, paused=False)


def _switch(parsed: argparse.Namespace, *, paused: bool) -> int:
    settings = settings_named(parsed)
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
        say(json.dumps(documents, indent=2))
    else:
        for link, result in results.items():
            say(f"{_way(link)}: {result}")
    return NOT_WELL if errors else DONE


def _way(link: Link) -> str:
    return f"{link.table}, {link.source} → {link.target}"


def demo(parsed: argparse.Namespace) -> int:
    """Play the demo."""
    from replicator.demo import run_demo  # noqa: PLC0415

    return run_demo(seconds=parsed.seconds, headless=parsed.headless, port=parsed.port)
