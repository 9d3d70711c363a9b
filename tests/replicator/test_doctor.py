"""The doctor's further checks: each finds its trouble, says what to do, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from conflict.operations import Key
from conflict.version import Kind, Version
from infra.permissions import STREAM, service_statements
from replicator.aws.api import Boto3Api
from replicator.control import create_control_table_request
from replicator.doctor import Doctor
from replicator.endpoint_clock import endpoint_time_s
from replicator.errors import Fatal
from replicator.handover.active import Handover, Handovers
from replicator.positions import ControlCheckpoints
from replicator.preflight import Check, Level
from replicator.reading import READ_AGE_FAILED_S, READ_AGE_WARNING_S
from replicator.records import Parked
from replicator.settings import RegionSettings, Settings, TableSettings
from replicator.waiting import Quarantine
from support.engines import HOST, Engine, free_port
from support.tables import RANGED, client, create_table, unique_name

HOME, AWAY = "us-east-1", "eu-west-1"
NOW_US = 1_800_000_000_000_000
WELL = {
    "State": "Enabled",
    "LastProcessingResult": "OK",
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "MaximumRetryAttempts": -1,
    "MaximumRecordAgeInSeconds": -1,
    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:::failures"}},
}


@dataclass
class Now:
    """A clock that stands."""

    def now_us(self) -> int:
        return NOW_US

    def monotonic_s(self) -> float:
        return 0.0


@dataclass
class Denying:
    """An Api that is not allowed some operations."""

    api: Boto3Api
    denied: frozenset[str] = frozenset()
    called: list[str] = field(default_factory=list)

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.called.append(operation)
        if operation in self.denied:
            raise Fatal(f"{operation}: AccessDeniedException")
        return await self.api.call(operation, request)


@dataclass
class Ward:
    """Two tables in two regions, and what the doctor is told of their surroundings."""

    settings: Settings
    apis: dict[str, Denying]
    every: str
    one_way: str
    told_s: float | None = NOW_US / 1e6 - 0.5
    mappings: Sequence[Mapping[str, Any]] = ()
    no_mappings: Exception | None = None
    sources: frozenset[str] = frozenset({HOME, AWAY})

    def mappings_of(self, region: str, stream_arn: str) -> Sequence[Mapping[str, Any]]:
        """What Lambda says of a stream."""
        if self.no_mappings is not None:
            raise self.no_mappings
        return self.mappings

    def checks(self, *regions: str) -> list[Check]:
        """What the doctor finds in these regions."""
        doctor = Doctor(
            settings=self.settings,
            sources=self.sources,
            connect=self.apis.__getitem__,
            clock=Now(),
            date_of=lambda _: self.told_s,
            mappings_of=self.mappings_of,
        )
        return asyncio.run(doctor.examine(regions or None))

    def wrong(self, *regions: str) -> list[str]:
        """The lines of what is not well."""
        return [check.line for check in self.checks(*regions) if check.level is not Level.OK]


@pytest.fixture
def ward(engine: Callable[[str], Engine]) -> Ward:
    """A deployment in which all has just been read."""
    url = engine("ministack").endpoint_url
    every, one_way, control = unique_name("every"), unique_name("one-way"), unique_name("control")
    regions = {n: RegionSettings(aws_region=n, endpoint_url=url) for n in (HOME, AWAY)}
    tables = {
        every: TableSettings(regions=(HOME, AWAY)),
        one_way: TableSettings(source=HOME, targets=(AWAY,)),
    }
    settings = Settings(regions=regions, tables=tables, control_table=control)
    apis = {n: Denying(Boto3Api.open(region=n, endpoint_url=url)) for n in regions}
    for region in regions:
        client(url, region).create_table(**create_control_table_request(control))
        create_table(url, region, every)
        view_type = "KEYS_ONLY" if region == HOME else None
        create_table(url, region, one_way, view_type, RANGED)
    made = Ward(settings, apis, every, one_way)
    for table, region in ((every, HOME), (every, AWAY), (one_way, HOME)):
        note_read(made, table, region, age_s=10)
    return made


def note_read(ward: Ward, table: str, region: str, *, age_s: float) -> None:
    """Write down when all had been read."""
    rows = ControlCheckpoints(
        api=ward.apis[region], control_table=ward.settings.control_table, clock=Now()
    )
    asyncio.run(rows.note_read(table, region, NOW_US - int(age_s * 1e6)))


def test_a_deployment_that_is_well_is_said_to_be_so(ward: Ward) -> None:
    """Nothing to look at; and the attempts to write have left nothing, not even a record."""
    ward.mappings = [WELL]
    assert ward.wrong() == []
    for region, api in ward.apis.items():
        assert {"PutItem", "UpdateItem", "DeleteItem", "GetRecords"} <= {*api.called}
        plain = client(str(ward.settings.regions[region].endpoint_url), region)
        for table in ward.settings.tables:
            assert plain.scan(TableName=table)["Count"] == 0


def test_the_source_of_a_one_way_table_is_not_even_tried(ward: Ward) -> None:
    """It is only read, so no write need be allowed there."""
    ward.apis[HOME].denied = frozenset({"PutItem"})
    lines = ward.wrong(HOME)
    assert any("control table" in line and "PutItem" in line for line in lines)
    assert not any(ward.one_way in line for line in lines)


@pytest.mark.parametrize(
    "operation", ["BatchGetItem", "DeleteItem", "UpdateItem", "Query", "GetRecords", "Scan"]
)
def test_what_is_not_allowed_is_named_with_its_remedy(ward: Ward, operation: str) -> None:
    """By trying, and not by reading policies."""
    ward.apis[AWAY].denied = frozenset({operation})
    lines = ward.wrong(AWAY)
    assert lines
    assert all(operation in line for line in lines)
    assert all("allow this operation in the policy" in line for line in lines)


@pytest.mark.parametrize(
    ("off_s", "level"),
    [(0.0, Level.OK), (-2.0, Level.OK), (30.0, Level.WARNING), (-400.0, Level.FAILED)],
)
def test_the_clock_is_compared(ward: Ward, off_s: float, level: Level) -> None:
    """To the second, which is what an HTTP date can tell."""
    assert ward.told_s is not None
    ward.told_s += off_s
    (check,) = [check for check in ward.checks(HOME) if check.subject.startswith("clock")]
    assert check.level is level
    assert level is Level.OK or "runbooks/clock-skew.md" in check.text


def test_a_clock_that_cannot_be_compared_is_said(ward: Ward) -> None:
    """Unknown is not well."""
    ward.told_s = None
    assert any("cannot be compared" in line for line in ward.wrong(HOME))


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(READ_AGE_WARNING_S + 1, "lag-high"), (READ_AGE_FAILED_S + 1, "stream-trimmed")],
)
def test_reading_is_held_against_what_a_stream_holds(ward: Ward, age_s: float, text: str) -> None:
    """The one table that is behind is named, with how far, and the page to open."""
    table = unique_name("behind")
    url = str(ward.settings.regions[HOME].endpoint_url)
    for region in (HOME, AWAY):
        create_table(url, region, table)
    entry = TableSettings(source=HOME, targets=(AWAY,))
    ward.settings = ward.settings.model_copy(update={"tables": {table: entry}})
    note_read(ward, table, HOME, age_s=age_s)
    (line,) = ward.wrong(HOME)
    assert table in line
    assert f"runbooks/{text}.md" in line


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"FunctionResponseTypes": []}, "set FunctionResponseTypes to ReportBatchItemFailures"),
        ({"State": "Disabled"}, "is Disabled; enable it"),
        ({"MaximumRetryAttempts": 5}, "MaximumRetryAttempts is 5"),
        ({"MaximumRecordAgeInSeconds": 60}, "MaximumRecordAgeInSeconds is 60"),
        ({"DestinationConfig": {}}, "set DestinationConfig.OnFailure"),
    ],
)
def test_a_mapping_must_not_lose_records(ward: Ward, change: dict[str, Any], text: str) -> None:
    """Partial batch responses are on, it runs, and nothing is given up."""
    ward.mappings = [{**WELL, **change}]
    lines = ward.wrong(AWAY)
    assert [text in line for line in lines] == [True]


def under_lambda(ward: Ward, *mappings: Mapping[str, Any]) -> None:
    """No process has ever read any of its streams; these mappings do."""
    tables = {unique_name("mapped"): TableSettings(regions=(HOME, AWAY))}
    url = str(ward.settings.regions[HOME].endpoint_url)
    for table in tables:
        for region in (HOME, AWAY):
            create_table(url, region, table)
    ward.settings = ward.settings.model_copy(update={"tables": tables})
    ward.mappings = mappings


@pytest.mark.parametrize("mode", ["service", "lambda"])
def test_the_policy_of_one_region_s_service_is_enough_for_it(ward: Ward, mode: str) -> None:
    """What the service of HOME may not do is not tried on its behalf: other streams, and under a
    mapping scans."""
    if mode == "lambda":
        under_lambda(ward, WELL)
    ward.sources = frozenset({HOME})
    ward.apis[HOME].denied = refused(ward.settings, HOME, mode)
    ward.apis[AWAY].denied = refused(ward.settings, AWAY, mode)
    assert "GetRecords" in ward.apis[AWAY].denied
    assert ("Scan" in ward.apis[AWAY].denied) == (mode == "lambda")
    assert ward.wrong() == []
    ward.sources = frozenset({HOME, AWAY})
    assert any("may not be read" in line for line in ward.wrong())


def refused(settings: Settings, region: str, mode: str) -> frozenset[str]:
    """The operations that HOME's service has no use for in a region, by its policy."""
    home = [s for s in service_statements(settings, HOME, mode, kms=False) if s.sid == "Streams"]
    there = [
        statement
        for statement in service_statements(settings, HOME, mode, kms=False)
        if any(f":{settings.regions[region].aws_region}:" in arn for arn in statement.resources)
    ]
    statements = [*there, *(home if region == HOME else ())]
    allowed = {action.partition(":")[2] for one in statements for action in one.actions}
    return frozenset({"Scan", *(action.partition(":")[2] for action in STREAM)} - allowed)


@pytest.mark.parametrize(
    ("result", "level", "text"),
    [
        ("OK", Level.OK, "last result: OK"),
        ("No records processed", Level.OK, "last result: No records processed"),
        ("PROBLEM: Function call failed", Level.WARNING, "PROBLEM: Function call failed"),
        (None, Level.WARNING, "tells no result"),
    ],
)
def test_retention_under_a_mapping_is_judged_by_the_mapping(
    ward: Ward, result: str | None, level: Level, text: str
) -> None:
    """Nobody is told to start a process; and how far it is, is said not to be known here."""
    under_lambda(ward, {**WELL, "LastProcessingResult": result})
    (check,) = [c for c in ward.checks(HOME) if "stream" in c.subject and "IteratorAge" in c.text]
    assert check.level is level
    assert text in check.text
    assert not any("replicator run" in line for line in ward.wrong(HOME))


def test_a_process_that_stopped_is_not_hidden_by_a_mapping(ward: Ward) -> None:
    """It may be another's: that a process has read up to some hours ago stays said."""
    under_lambda(ward, WELL)
    (table,) = ward.settings.tables
    note_read(ward, table, HOME, age_s=READ_AGE_FAILED_S)
    (line,) = ward.wrong(HOME)
    assert "a process did 20.0 h ago" in line


def test_where_mappings_cannot_be_looked_at_scans_are_no_failure(ward: Ward) -> None:
    """As with a function's own role, which may not list them: both are warnings."""
    under_lambda(ward)
    ward.no_mappings = Fatal("ListEventSourceMappings: AccessDeniedException")
    plain = {name: RegionSettings(aws_region=name) for name in ward.settings.regions}
    ward.settings = ward.settings.model_copy(update={"regions": plain})
    ward.apis[HOME].denied = frozenset({"Scan"})
    checks = ward.checks(HOME)
    assert not [check.line for check in checks if check.level is Level.FAILED]
    lines = [check.line for check in checks if check.level is Level.WARNING]
    assert any("does not allow Scan" in line and "under Lambda" in line for line in lines)
    assert any("cannot be looked at" in line and "AccessDenied" in line for line in lines)


def test_what_is_in_quarantine_is_told(ward: Ward) -> None:
    """By the region whose changes they are, with how many and for whom."""
    rows = Quarantine(api=ward.apis[HOME], control_table=ward.settings.control_table)
    for number in range(2):
        key = Key({"id": {"S": str(number)}}, f"S{number}")
        parked = Parked(
            table=ward.every,
            source=HOME,
            target=AWAY,
            key=key,
            version=Version(1, HOME, number, Kind.SETTLED),
            image={"id": {"S": str(number)}},
            reason="too large",
            parked_us=NOW_US,
        )
        asyncio.run(rows.park(parked))
    (line,) = ward.wrong()
    assert f"{ward.every} in {HOME}: 2 changes for {AWAY} are in quarantine" in line
    assert "runbooks/poison-record.md" in line


def test_a_source_that_was_handed_over_is_told(ward: Ward) -> None:
    """By whichever region knows of it."""
    handover = Handover(table=ward.one_way, source=AWAY, former=HOME, at_us=1, planned=True)
    rows = Handovers(
        api=ward.apis[AWAY], control_table=ward.settings.control_table, sleep=asyncio.sleep
    )
    assert asyncio.run(rows.store(handover))
    (line,) = ward.wrong(AWAY)
    assert "is its source no more, it was handed over to eu-west-1" in line


def test_an_endpoint_tells_its_time(engine: Callable[[str], Engine]) -> None:
    """By the date of any answer, also of a refusal; one that is not there tells none."""
    url = engine("ministack").endpoint_url
    assert isinstance(endpoint_time_s(url, HOST), float)
    assert endpoint_time_s(f"http://{HOST}:{free_port()}", HOST) is None
