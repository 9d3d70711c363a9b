"""Commands on what tables hold: backfill, verify, quarantine."""

from __future__ import annotations

import argparse

from replicator.commands.common import listed, settings_named
from replicator.errors import ConfigurationError
from replicator.plane import opened_planes, opened_regions


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
    settings = settings_named(parsed)
    with opened_planes(settings) as connect:
        return run_backfill(request, settings, connect=connect)


def verify(parsed: argparse.Namespace) -> int:
    """Compare a table's regions."""
    from replicator.verify.assembly import VerifyOptions  # noqa: PLC0415
    from replicator.verify.command import verify_table  # noqa: PLC0415

    settings = settings_named(parsed)
    options = VerifyOptions(
        table=parsed.table,
        regions=None if parsed.regions is None else listed(parsed.regions),
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


def quarantine(parsed: argparse.Namespace) -> int:
    """Deal with changes that could not be applied."""
    from replicator.quarantine import command as act  # noqa: PLC0415

    settings = settings_named(parsed)
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
