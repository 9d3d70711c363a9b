"""Commands that move writers between regions: failover, failback, drill."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replicator.commands.common import DONE, NOT_WELL, settings_named, show_all
from replicator.inquiry import inquire
from replicator.plane import opened_regions
from replicator.preflight import failed
from replicator.settings import HttpSettings

if TYPE_CHECKING:
    from replicator.handover.plan import Kind, Request


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

    settings = settings_named(parsed)
    request = _request(parsed, Kind.DRILL)
    with opened_regions(settings) as connect:
        statuses = _statuses(parsed, settings.http)
        checks = rehearse(settings, request, connect=connect, statuses=statuses)
    show_all(checks, as_json=parsed.json)
    return NOT_WELL if failed(checks) else DONE


def _hand_over(parsed: argparse.Namespace, kind: Kind) -> int:
    from replicator.handover.command import run_handover  # noqa: PLC0415

    settings = settings_named(parsed)
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
