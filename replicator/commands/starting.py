"""Commands from a first configuration to replication: init, setup, doctor, run."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from replicator.aws.api import event_source_mappings
from replicator.clock import SystemClock
from replicator.commands.common import DONE, NOT_WELL, WRONG, listed, say, settings_named, show_all
from replicator.configuration import settings_of
from replicator.errors import ConfigurationError, suggestion
from replicator.plane import opened_regions
from replicator.preflight import Check, Level, examine, failed
from replicator.provision import provision
from replicator.settings import AWS_REGION_PATTERN, RegionName, Settings, TableName
from replicator.starter import starter

logger = logging.getLogger(__name__)

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
    say(json.dumps(written) if parsed.json else f"{parsed.config}: written; next: setup, doctor")
    return DONE


def _starting_regions(parsed: argparse.Namespace) -> list[str]:
    """The regions that a starter is to have. Raises: ConfigurationError, which names the option."""
    regions = list(listed(parsed.regions))
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
    settings = settings_named(parsed)
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
    show_all(checks, as_json=parsed.json)
    return WRONG if failed(checks) else DONE


def doctor(parsed: argparse.Namespace) -> int:
    """Check the regions."""
    settings = settings_named(parsed)
    sources = _sources(parsed.source, settings)
    checks = _examine(settings, sources)
    if not failed(checks):
        checks += _diagnose(settings, sources)
    show_all(checks, as_json=parsed.json)
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
    settings = settings_named(parsed)
    sources = _sources(parsed.source, settings)
    checks = _examine(settings, sources)
    if unmet := [c for c in failed(checks) if not (c.may_pass and parsed.tolerate_outage)]:
        raise ConfigurationError("\n".join(map(_forbidding, unmet)))
    for check in checks:
        if check.level is not Level.OK:
            logger.warning("preflight.warning", extra={"check": check.line})
    from replicator.run import run_service  # noqa: PLC0415

    return run_service(settings, sources, parsed.port)


def _forbidding(check: Check) -> str:
    """A line that says why `run` does not start."""
    if not check.may_pass:
        return check.line
    return f"{check.line}; {check.may_pass} with --tolerate-outage"


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


def _examine(settings: Settings, sources: frozenset[str]) -> list[Check]:
    with opened_regions(settings) as connect:
        return asyncio.run(examine(settings, connect=connect, sources=sources))
