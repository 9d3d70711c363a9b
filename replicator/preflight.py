"""What must hold in the regions before a replicator may run, and how to mend what does not.

Configuration errors are found by settings.py; these checks ask the regions. Each result is one line
that names the thing, and for a failure the remedy. Nothing here changes anything (provision.py
does), and every answer is waited for a few seconds only.

This module must not know how a result is shown, nor how a region is reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from replicator.control import CONTROL_KEY_SCHEMA, CONTROL_TTL_ATTRIBUTE
from replicator.errors import ConfigurationError, Fatal, ReplicatorError, Transient, Unsigned
from replicator.ports import Api
from replicator.records import Mode, TableDescription, ViewType
from replicator.settings import Settings, TableSettings
from replicator.table import describe_table
from replicator.view import wrong_view

ANSWER_WITHIN_S = 8.0
"""For all answers of one region together: a person is waiting."""

Connect: TypeAlias = Callable[[str], Api]
"""Opens the region of this name. Raises: ConfigurationError."""


class Level(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


DOWN = "if the region is down, start the others"
BEING_SET_UP = "if its stack is being made, start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: what it is about, how it came out, and in a failure's text the remedy.

    `may_pass`: when a failure passes by itself, and what is to be started meanwhile; empty where
    somebody has to act.
    """

    subject: str
    level: Level
    text: str
    may_pass: str = ""

    @property
    def line(self) -> str:
        """The check as one line."""
        return " ".join(f"{self.subject}: {self.text}".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What one region answered: checks of its own, and its tables by their name in the file.

    A table that could not be described is there as the check that says why.
    """

    checks: Sequence[Check]
    tables: Mapping[str, TableDescription | Check] = field(default_factory=dict)
    control_id: str | None = None
    """What tells the control table from every other, where the engine says it."""


async def examine(settings: Settings, *, connect: Connect, sources: frozenset[str]) -> list[Check]:
    """Check all that the tables need which are read in `sources`.

    Where the first process of several starts, the control tables of the others' regions may be yet
    to come: stacks are deployed side by side.
    """
    tables = {name: table for name, table in settings.tables.items() if sources & {*table.sources}}
    regions = list(dict.fromkeys(region for table in tables.values() for region in table.members))
    surveys = dict(
        zip(
            regions,
            await asyncio.gather(
                *(
                    _survey(settings, tables, region, connect, is_source=region in sources)
                    for region in regions
                )
            ),
            strict=True,
        )
    )
    checks = [check for survey in surveys.values() for check in survey.checks]
    checks += _one_place_each(surveys)
    for name, table in tables.items():
        found = {
            region: surveys[region].tables[name]
            for region in table.members
            if name in surveys[region].tables
        }
        checks += _of_table(settings, name, found)
    return checks


def failed(checks: Sequence[Check]) -> list[Check]:
    """Those that forbid to run."""
    return [check for check in checks if check.level is Level.FAILED]


def remedy(error: ReplicatorError) -> str:
    """What a person can do about a call that failed."""
    text = str(error)
    if _is_outage(error):
        return "check endpoint_url, aws_region and the network"
    if "AccessDenied" in text:
        return "allow this operation in the policy of the role or user"
    if is_missing(error):
        return "create it, or correct the name"
    return "check the credentials: profile, role_arn or the environment's, and their expiry"


def is_missing(error: ReplicatorError) -> bool:
    """Whether the error says that there is no such table."""
    return isinstance(error, Fatal) and "ResourceNotFoundException" in str(error)


def unanswered(region: str, error: ReplicatorError) -> Check:
    """The check of a region that cannot be opened, or whose call failed."""
    subject = f"region {region}"
    if isinstance(error, ConfigurationError):  # names region and remedy itself
        return _failed(subject, str(error).removeprefix(f"{subject}: "))
    may_pass = DOWN if _is_outage(error) else ""
    return _failed(subject, f"{error}; {remedy(error)}", may_pass=may_pass)


def _is_outage(error: ReplicatorError) -> bool:
    """Whether the region did not answer; what gives no credentials is wrong here, not there."""
    return isinstance(error, Transient) and not isinstance(error, Unsigned)


def table_subject(settings: Settings, table: str, region: str) -> str:
    """How a table in a region is called in a line."""
    physical = settings.table_name(table, region)
    return f"table {table} in {region}" + ("" if physical == table else f" ({physical})")


def control_subject(table: str, region: str) -> str:
    """How a control table is called in a line."""
    return f"control table {table} in {region}"


def wrong_control_keys(control: TableDescription) -> str | None:
    """What is wrong with the keys of a table that is to be the control table."""
    if dict(control.key_schema) == dict(CONTROL_KEY_SCHEMA):
        return None
    return f"has {_keys(control)}, so it is another's; set control_table to a free name"


async def described(api: Api, table: str) -> TableDescription | None:
    """The table's description, None where there is no such table."""
    try:
        return await describe_table(api, table)
    except Fatal as error:
        if is_missing(error):
            return None
        raise


async def _survey(
    settings: Settings,
    tables: Mapping[str, TableSettings],
    region: str,
    connect: Connect,
    *,
    is_source: bool,
) -> _Survey:
    """Ask one region. The first call tells whether it is there and lets us in."""
    subject = f"region {region}"
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            api = connect(region)
            control = await described(api, settings.control_table)
            checks = [_ok(subject, "answers, and accepts the credentials")]
            may_pass = "" if is_source else BEING_SET_UP
            checks.append(_of_control_table(settings.control_table, region, control, may_pass))
            names = [name for name, table in tables.items() if region in table.members]
            surveyed = [_survey_table(settings, name, region, api) for name in names]
            described_tables = dict(zip(names, await asyncio.gather(*surveyed), strict=True))
            control_id = None if control is None else await _table_id(api, control.name)
            return _Survey(checks=checks, tables=described_tables, control_id=control_id)
    except TimeoutError:
        text = f"no answer within {ANSWER_WITHIN_S:.0f} s; check endpoint_url and the network"
        return _Survey(checks=[_failed(subject, text, may_pass=DOWN)])
    except ReplicatorError as error:
        return _Survey(checks=[unanswered(region, error)])


async def _table_id(api: Api, name: str) -> str | None:
    table = (await api.call("DescribeTable", {"TableName": name}))["Table"]
    identity: str | None = table.get("TableId")
    return identity


async def _survey_table(
    settings: Settings, name: str, region: str, api: Api
) -> TableDescription | Check:
    subject = table_subject(settings, name, region)
    try:
        description = await described(api, settings.table_name(name, region))
    except Transient:
        raise
    except ReplicatorError as error:
        return _failed(subject, f"{error}; {remedy(error)}")
    if description is None:
        text = f"does not exist; create it, or set its name: [tables.{name}.names] {region} = …"
        return _failed(subject, text)
    return description


def _of_control_table(
    name: str, region: str, control: TableDescription | None, may_pass: str
) -> Check:
    subject = control_subject(name, region)
    if control is None:
        return _failed(subject, "does not exist; run `replicator setup`", may_pass=may_pass)
    wrong = wrong_control_keys(control)
    if wrong is not None:
        return _failed(subject, wrong)
    if not control.active:
        return _failed(subject, "is not ACTIVE yet; try again in a moment", may_pass=may_pass)
    if control.ttl_attribute != CONTROL_TTL_ATTRIBUTE:
        text = f"only grows: no time to live on {CONTROL_TTL_ATTRIBUTE}; run `replicator setup`"
        return Check(subject=subject, level=Level.WARNING, text=text)
    return _ok(subject, "is ready")


def _one_place_each(surveys: Mapping[str, _Survey]) -> Iterator[Check]:
    """Two entries may reach one place by ways that look different, as two profiles do.

    They would share the control table, and with it what each region remembers of its own.
    """
    first: dict[str, str] = {}
    for region, survey in surveys.items():
        other = first.setdefault(survey.control_id or region, region)
        if other != region:
            text = f"is the same account and AWS region as {other}; correct its profile or role_arn"
            yield _failed(f"region {region}", text)


def _of_table(
    settings: Settings, name: str, found: Mapping[str, TableDescription | Check]
) -> Iterator[Check]:
    table = settings.tables[name]
    model: tuple[str, TableDescription] | None = None
    for region, description in found.items():
        if isinstance(description, Check):
            yield description
            continue
        if model is None:
            model = (region, description)
            wrong_filter = wrong_view(table.view, table.mode, table.marker, description.key_schema)
            if wrong_filter is not None:
                yield _failed(f"table {name}", wrong_filter)
        subject = table_subject(settings, name, region)
        wrong = [
            _wrong_state(table, description),
            _wrong_keys(description, *model),
            wrong_stream(table.mode, description) if region in table.sources else None,
        ]
        failures = [_failed(subject, text) for text in wrong if text is not None]
        yield from failures or [_ok(subject, f"is ready, {_keys(description)}")]
        yield from _warnings(settings, table, subject, description)


def _wrong_state(table: TableSettings, description: TableDescription) -> str | None:
    if not description.active:
        return "is not ACTIVE; wait until it is, or restore it"
    if table.marker in description.key_schema:
        return f'has a key attribute called "{table.marker}"; set marker to another name'
    return None


def _wrong_keys(description: TableDescription, where: str, first: TableDescription) -> str | None:
    """Keys must agree in names, types and order."""
    if list(description.key_schema.items()) == list(first.key_schema.items()):
        return None
    theirs = _keys(first)
    return f"has {_keys(description)}, but in {where} {theirs}; create it anew with the same keys"


def wrong_stream(mode: Mode, description: TableDescription) -> str | None:
    """What is wrong with the stream of a table that must be read."""
    if description.stream_arn is None or description.view_type is None:
        return "has no stream; run `replicator setup`"
    if mode is Mode.MULTI_WRITER and description.view_type is not ViewType.NEW_AND_OLD_IMAGES:
        return (
            f"has a stream of {description.view_type}; where several regions write it takes "
            "NEW_AND_OLD_IMAGES, since only both images tell a local write from a replicated one; "
            "turn the stream off and run `replicator setup`"
        )
    return None


def _warnings(
    settings: Settings, table: TableSettings, subject: str, description: TableDescription
) -> Iterator[Check]:
    members = {settings.regions[region].aws_region for region in table.members}
    shared = sorted(members & {*description.global_table_regions})
    if len(shared) > 1:
        text = (
            f"is a global table in {', '.join(shared)} already, which replicates it too; "
            "remove those replicas or this entry"
        )
        yield Check(subject=subject, level=Level.WARNING, text=text)


def _keys(description: TableDescription) -> str:
    """The key schema in words: `id (S), at (N)`."""
    keys = ", ".join(f"{name} ({kind})" for name, (_, kind) in description.key_schema.items())
    return f"keys {keys}"


def _ok(subject: str, text: str) -> Check:
    return Check(subject=subject, level=Level.OK, text=text)


def _failed(subject: str, text: str, *, may_pass: str = "") -> Check:
    return Check(subject=subject, level=Level.FAILED, text=text, may_pass=may_pass)
