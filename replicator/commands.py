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
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from replicator.configuration import load, settings_of
from replicator.dynamodb import Boto3Api
from replicator.errors import ConfigurationError
from replicator.inquiry import inquire
from replicator.ports import Api
from replicator.preflight import Check, Level, examine, failed
from replicator.provision import provision
from replicator.settings import Settings, suggestion
from replicator.show import console, show_checks, show_status
from replicator.starter import starter

logger = logging.getLogger(__name__)

DONE, NOT_WELL, WRONG = 0, 1, 2


def init(parsed: argparse.Namespace) -> int:
    """Write a starter configuration."""
    regions = [region.strip() for region in parsed.regions.split(",") if region.strip()]
    if not regions:
        raise ConfigurationError("--regions: names none; give at least two, separated by commas")
    text = starter(regions=regions, table=parsed.table, source=parsed.source)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise ConfigurationError("--regions: a region is named twice; name each once") from None
    settings_of(document, {}, stated_by="init")
    try:
        with parsed.config.open("w" if parsed.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        remedy = "overwrite it with --force, or choose another file with --config"
        raise ConfigurationError(f"{parsed.config}: exists already; {remedy}") from None
    except OSError as error:
        raise ConfigurationError(f"{parsed.config}: not written: {error.strerror}") from None
    written = {"written": str(parsed.config)}
    _print(json.dumps(written) if parsed.json else f"{parsed.config}: written; next: setup, doctor")
    return DONE


def setup(parsed: argparse.Namespace) -> int:
    """Make what is missing in the regions."""
    settings = _settings(parsed)
    with _regions(settings) as connect:
        checks = asyncio.run(
            provision(settings, connect=connect, dry_run=parsed.dry_run, sleep=asyncio.sleep)
        )
    _print_checks(checks, as_json=parsed.json)
    return WRONG if failed(checks) else DONE


def doctor(parsed: argparse.Namespace) -> int:
    """Check the regions."""
    settings = _settings(parsed)
    checks = _examine(settings, settings.sources)
    _print_checks(checks, as_json=parsed.json)
    return NOT_WELL if failed(checks) else DONE


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
    with _regions(settings) as connect:
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
    )
    with _regions(settings) as connect:
        return verify_table(
            settings, options, connect=connect, as_json=parsed.json, report=parsed.report
        )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def status(parsed: argparse.Namespace) -> int:
    """Show what running replicators report."""
    urls = parsed.url or [_settings(parsed).http.url]
    reports = [inquire(url) for url in urls]
    if parsed.json:
        _print(json.dumps([report.document for report in reports], indent=2))
    for report in reports:
        if report.status is None:
            sys.stderr.write(f"replicator: {report.error}\n")
        elif not parsed.json:
            show_status(report.url, report.status, console())
    return DONE if all(report.well for report in reports) else NOT_WELL


def demo(parsed: argparse.Namespace) -> int:
    """Play the demo."""
    from replicator.demo import run_demo  # noqa: PLC0415

    return run_demo(seconds=parsed.seconds, headless=parsed.headless, port=parsed.port)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _settings(parsed: argparse.Namespace) -> Settings:
    return load(parsed.config, os.environ)


def _examine(settings: Settings, sources: frozenset[str]) -> list[Check]:
    with _regions(settings) as connect:
        return asyncio.run(examine(settings, connect=connect, sources=sources))


@contextmanager
def _regions(settings: Settings) -> Iterator[Callable[[str], Api]]:
    """A way to open each region, all of them closed at the end."""
    opened: list[Boto3Api] = []

    def connect(name: str) -> Api:
        region = settings.regions[name]
        api = Boto3Api.open(
            region=region.aws_region,
            endpoint_url=region.endpoint_url,
            profile=region.profile,
            role_arn=region.role_arn,
        )
        opened.append(api)
        return api

    try:
        yield connect
    finally:
        for api in opened:
            api.close()


def _print_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        documents = [
            {"subject": check.subject, "level": check.level.value, "text": check.text}
            for check in checks
        ]
        _print(json.dumps(documents, indent=2))
    else:
        show_checks(checks, console())
