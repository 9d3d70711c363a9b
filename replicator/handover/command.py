"""`replicator failover`, `failback` and `drill`: from settings and a request to an exit status.

Composition only. Exit status: 0 handed over, 1 not, or not all of it, 2 wrong usage. A drill ends
with 0 where nothing stands in the way of a failover.

A file that cannot be written is wrong usage, said before anything is done; one that can no longer
be at the end is said as well, with the same exit status, but after the outcome.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replicator import private_files
from replicator.clock import SystemClock
from replicator.configuration import parsed, settings_of
from replicator.errors import ConfigurationError
from replicator.handover.drill import Drill
from replicator.handover.plan import Request, members_after, tables_of
from replicator.handover.scene import Scene
from replicator.handover.section import Members, changed
from replicator.handover.steps import Outcome, Steps, carry_out
from replicator.ports import Api
from replicator.preflight import Check, Connect
from replicator.settings import Settings
from replicator.verify.report import key_document

DONE, NOT_WELL = 0, 1


def run_handover(
    settings: Settings,
    request: Request,
    *,
    connect: Connect,
    statuses: Sequence[Mapping[str, Any]],
    config: Path,
    write: Path | None,
    keys: Path | None,
    as_json: bool,
) -> int:
    """Hand over, and say what comes next."""
    tables = tables_of(settings, request)
    _check_files(config, write=write, keys=keys)
    planned = {name: _likely(settings, name, request) for name in tables}
    if write is not None:  # what cannot be written is said before anything is done
        _changed(config, {n: m for n, m in planned.items() if m is not None})

    def tell(text: str) -> None:
        stream = sys.stderr if as_json else sys.stdout
        stream.write(f"{text}\n")
        stream.flush()

    scenes = _scenes(settings, tables, connect)
    steps = [Steps(scene=s, request=request, tell=tell, statuses=statuses) for s in scenes]
    outcomes = [Outcome(table) for table in tables]
    asyncio.run(carry_out(steps, outcomes))
    changes = {o.table: o.members for o in outcomes if o.done and o.members is not None}
    written = None
    try:
        if keys is not None:
            _write_keys(keys, outcomes)
        if write is not None and changes:
            _write_changed(write, config, changes)
            written = write
    finally:  # what was done is told, whatever becomes of the files
        if as_json:
            document = {"tables": [outcome.document for outcome in outcomes]}
            sys.stdout.write(f"{json.dumps(document, indent=2)}\n")
        else:
            sys.stdout.writelines(f"{line}\n" for line in _next(changes, written))
    return DONE if all(outcome.done for outcome in outcomes) else NOT_WELL


def rehearse(
    settings: Settings, request: Request, *, connect: Connect, statuses: Sequence[Mapping[str, Any]]
) -> list[Check]:
    """The checks of a drill."""
    tables = tables_of(settings, request)
    drills = [
        Drill(scene=scene, request=request, statuses=statuses)
        for scene in _scenes(settings, tables, connect)
    ]

    async def all_checks() -> list[Check]:
        return [check for drill in drills for check in await drill.checks()]

    return asyncio.run(all_checks())


def _check_files(config: Path, *, write: Path | None, keys: Path | None) -> None:
    if keys is not None and keys.resolve() in {
        path.resolve() for path in (config, write) if path is not None
    }:
        raise ConfigurationError(
            f"--keys: {keys} would be overwritten by keys; name a file of its own"
        )
    for option, path in (("--write", write), ("--keys", keys)):
        if path is not None:
            private_files.check(path, option=option)
    if write is not None and write.exists() and write.resolve() != config.resolve():
        raise ConfigurationError(f"--write: {write} exists already; choose another file")


def _scenes(settings: Settings, tables: Sequence[str], connect: Connect) -> list[Scene]:
    regions = dict.fromkeys(region for name in tables for region in settings.tables[name].members)
    apis: dict[str, Api] = {region: connect(region) for region in regions}
    return [
        Scene(settings=settings, table=name, apis=apis, clock=SystemClock(), sleep=asyncio.sleep)
        for name in tables
    ]


def _likely(settings: Settings, table: str, request: Request) -> Members | None:
    return members_after(settings.tables[table], request, mergeable=True)


def _changed(config: Path, changes: Mapping[str, Members]) -> str:
    """The configuration with these changes, read again to see that it holds."""
    text = changed(config.read_text(encoding="utf-8"), changes)
    settings_of(parsed(text), os.environ, stated_by=str(config))
    return text


def _write_keys(path: Path, outcomes: Sequence[Outcome]) -> None:
    lines = [
        json.dumps({"table": e.table, "source": e.source, "key": key_document(key)})
        for outcome in outcomes
        for e in outcome.exposures
        for key in e.missing
    ]
    private_files.write(path, "".join(f"{line}\n" for line in lines), option="--keys")


def _write_changed(path: Path, config: Path, changes: Mapping[str, Members]) -> None:
    """A new file is its owner's alone. The configuration itself, the only file that may be there
    already, keeps its mode: its replicator, which may run as another user, has to read it."""
    private_files.write(path, _changed(config, changes), option="--write", tighten=False)


def _next(changes: Mapping[str, Members], write: Path | None) -> list[str]:
    """What the operator does now."""
    if not changes:
        return []
    lines = ["start every replicator with the changed configuration:"]
    if write is not None:
        return [*lines, f"  written to {write}"]
    for table, members in changes.items():
        lines += [f"  [tables.{table}]", *(f"  {line}" for line in members.lines)]
    return lines
