"""What is replicated where: the model of `replicator.toml`.

A `Settings` value that exists is sound by itself: every name that it mentions is defined, no two
entries claim one physical table, and no endpoint is one that data must not be sent to. What only
the regions can tell (is the table there, has it a stream?) is the matter of preflight.py. Unknown
keys are refused, since a key that is misspelt and ignored is a setting that silently does not hold.

This module must not know where the values come from: files, environment and the wording of
pydantic's complaints are configuration.py's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from conflict.version import ORIGIN_PATTERN
from replicator.endpoints import checked_endpoint, is_loopback
from replicator.records import Mode, TtlDeletes

AWS_REGION_PATTERN = r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}"
"""us-east-1, us-gov-west-1, eusc-de-east-1."""

TABLE_NAME_PATTERN = r"[A-Za-z0-9_.-]{3,255}"
"""Source: API_CreateTable, TableName (the form without an ARN)."""

ROLE_ARN_PATTERN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,512}"
"""Source: API_AssumeRole, RoleArn."""

ATTRIBUTE_NAME_BYTES_MAX = 255
"""The strictest limit on an attribute's name, that of a key. Source: Quotas, attribute names."""


Finding: TypeAlias = tuple[tuple[str, ...], str]
"""The path of a key, and what is wrong with it."""


REGIONS_MIN = 2
"""Between fewer there is nothing to replicate."""


class Findings(ValueError):
    """Several findings at once."""

    def __init__(self, found: Iterable[Finding]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(f"{'.'.join(path)}: {text}" for path, text in self.found))


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to put after "unknown": the nearest known name, else all of them."""
    names = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    if near:
        return f'did you mean "{folded[near[0]]}"?'
    return f"known: {', '.join(names)}" if names else "none is defined"


def _checked_loopback(host: str) -> str:
    if not is_loopback(host):
        raise ValueError(
            f"{host!r} is open to others, and this version has no access token; use 127.0.0.1 and "
            "reach it through a tunnel"
        )
    return host


def _checked_marker(name: str) -> str:
    if not 1 <= len(name.encode()) <= ATTRIBUTE_NAME_BYTES_MAX:
        raise ValueError(f"an attribute's name has 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes")
    return name


def _form(pattern: str, remedy: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"{value!r} is {remedy}")
        return value

    return AfterValidator(check)


Endpoint = Annotated[str, AfterValidator(checked_endpoint)]
LoopbackHost = Annotated[str, AfterValidator(_checked_loopback)]
AttributeName = Annotated[str, AfterValidator(_checked_marker)]
RegionName = Annotated[
    str, _form(ORIGIN_PATTERN, "no region's name; use up to 64 letters, digits, '.', '_', '-'")
]
AwsRegion = Annotated[
    str, _form(AWS_REGION_PATTERN, 'no AWS region; set it like aws_region = "us-east-1"')
]
TableName = Annotated[
    str, _form(TABLE_NAME_PATTERN, "no table's name; use 3 to 255 letters, digits, '.', '_', '-'")
]
RoleArn = Annotated[
    str, _form(ROLE_ARN_PATTERN, 'no role; write it like "arn:aws:iam::123456789012:role/name"')
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RegionSettings(_Section):
    """How one region is reached. In the file, `aws_region` is the entry's name if left out."""

    aws_region: AwsRegion
    endpoint_url: Endpoint | None = None
    role_arn: RoleArn | None = None
    profile: Annotated[str, Field(min_length=1)] | None = None


class TableSettings(_Section):
    """One table: either `regions`, which all write, or a `source` and its `targets`."""

    regions: tuple[str, ...] | None = None
    source: str | None = None
    targets: tuple[str, ...] | None = None
    names: Mapping[str, TableName] = Field(default_factory=dict)
    ttl_deletes: TtlDeletes = TtlDeletes.REPLICATE
    marker: AttributeName = "_replicator"

    @property
    def mode(self) -> Mode:
        return Mode.MULTI_WRITER if self.source is None else Mode.ONE_WAY

    @property
    def members(self) -> tuple[str, ...]:
        """Every region that has the table, in the order of the file."""
        if self.source is None:
            return self.regions or ()
        return (self.source, *(self.targets or ()))

    @property
    def sources(self) -> tuple[str, ...]:
        """The regions whose stream is read."""
        return self.members if self.source is None else (self.source,)

    def targets_of(self, source: str) -> tuple[str, ...]:
        """The regions that a change in `source` goes to."""
        return tuple(region for region in self.members if region != source)


class HttpSettings(_Section):
    """Where the status page of `run` is served."""

    host: LoopbackHost = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080

    @property
    def url(self) -> str:
        """Where the page is found."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class ReaderSettings(_Section):
    """How streams are polled."""

    poll_idle_s: Annotated[float, Field(ge=0.01, le=60)] = 0.25
    """The pause after an empty page. Source: Lambda, DynamoDB triggers: 4 polls a second."""

    describe_interval_s: Annotated[float, Field(ge=0.1, le=3_600)] = 30.0
    """How often shards are listed anew, besides whenever one ends."""


class WriterSettings(_Section):
    """How much work may be under way."""

    concurrency: Annotated[int, Field(ge=1, le=1_024)] = 32
    """Writes in flight per target region."""

    unsettled_records_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Records read but not settled, per pipeline, above which reading waits."""


class MendingSettings(_Section):
    """How gaps are closed: where a stream has lost records, by verify and repair."""

    enabled: bool = True
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """How long a gap is left alone, so that what is on its way arrives and it is seen at all."""

    read_units_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 500.0
    """Spent in each region of the table while its gap is being mended."""


class Settings(BaseSettings):
    """The whole configuration. Built in code it takes nothing from file or environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    regions: Mapping[RegionName, RegionSettings]
    tables: Mapping[TableName, TableSettings]
    control_table: TableName = "replicator-control"
    future_bound_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """How far ahead of the clock an application's own version may be."""

    tombstone_days: Annotated[float, Field(ge=1, le=3_650)] = 7.0
    """A stream holds 24 hours, hence never less than a day."""

    http: HttpSettings = HttpSettings()
    reader: ReaderSettings = ReaderSettings()
    writer: WriterSettings = WriterSettings()
    mending: MendingSettings = MendingSettings()

    @property
    def sources(self) -> frozenset[str]:
        """Every region whose stream is read for some table."""
        return frozenset(region for table in self.tables.values() for region in table.sources)

    def table_name(self, table: str, region: str) -> str:
        """The physical name of `table` in `region`."""
        return self.tables[table].names.get(region, table)

    @field_validator("regions", mode="before")
    @classmethod
    def _named_after_their_aws_region(cls, regions: Any) -> Any:
        if not isinstance(regions, Mapping):
            return regions
        return {
            name: {"aws_region": name, **region} if isinstance(region, Mapping) else region
            for name, region in regions.items()
        }

    @model_validator(mode="after")
    def _sound_as_a_whole(self) -> Self:
        found = tuple(_contradictions(self))
        if found:
            raise Findings(found)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _contradictions(settings: Settings) -> Iterator[Finding]:
    """What no single key is wrong about, but several together are."""
    if not settings.tables:
        yield ("tables",), "no table is named; add [tables.NAME]"
    for name, table in settings.tables.items():
        path = ("tables", name)
        wrong_shape = _wrong_shape(table)
        if wrong_shape is not None:
            yield path, wrong_shape
            continue
        for key, text in (*_wrong_members(table), *_unknown_regions(table, settings.regions)):
            yield (*path, key), text
    yield from _same_place(settings)
    yield from _claimed_twice(settings)


def _wrong_shape(table: TableSettings) -> str | None:
    one_way = table.source is not None or table.targets is not None
    if table.regions is not None and one_way:
        return "has regions as well as source or targets; drop regions unless every region writes"
    if table.regions is None and not one_way:
        return 'names no regions; add regions = ["…", "…"], or source = "…" and targets = ["…"]'
    if one_way and table.source is None:
        return 'has targets but no source; add source = "…"'
    if one_way and not table.targets:
        return 'has a source but no targets; add targets = ["…"]'
    return None


def _wrong_members(table: TableSettings) -> Iterator[tuple[str, str]]:
    key = "regions" if table.source is None else "targets"
    listed = (table.regions if table.source is None else table.targets) or ()
    for region in sorted({region for region in listed if listed.count(region) > 1}):
        yield key, f'"{region}" is listed more than once; list it once'
    if table.source is not None and table.source in listed:
        yield key, f'"{table.source}" is the source; remove it from the targets'
    if table.source is None and len(set(listed)) < REGIONS_MIN:
        yield key, "has fewer than two regions; nothing would be replicated; add another"
    for region in table.names:
        if region not in table.members:
            remedy = suggestion(region, table.members)
            yield "names", f'"{region}" is no region of this table; {remedy}'


def _unknown_regions(
    table: TableSettings, regions: Mapping[str, RegionSettings]
) -> Iterator[tuple[str, str]]:
    named = {
        "regions": table.regions or (),
        "source": () if table.source is None else (table.source,),
        "targets": table.targets or (),
    }
    for key, listed in named.items():
        for region in dict.fromkeys(listed):
            if region not in regions:
                remedy = suggestion(region, regions)
                yield key, f'"{region}" is no region; add [regions.{region}]; {remedy}'


def _place(region: RegionSettings) -> tuple[str | None, ...]:
    """What two regions must not have in common: they would share their tables."""
    return (region.endpoint_url, region.aws_region, region.profile, region.role_arn)


def _same_place(settings: Settings) -> Iterator[Finding]:
    first: dict[tuple[str | None, ...], str] = {}
    for name, region in settings.regions.items():
        other = first.setdefault(_place(region), name)
        if other != name:
            same = f'is the same endpoint, AWS region, profile and role as region "{other}"'
            yield ("regions", name), f"{same}, so both are one; change or remove this entry"


def _claimed_twice(settings: Settings) -> Iterator[Finding]:
    """One physical table in two entries would have two markers, two owners and two histories."""
    first: dict[tuple[str, str], str] = {}
    for table_name, table in settings.tables.items():
        for region in dict.fromkeys(table.members):
            physical = settings.table_name(table_name, region)
            if physical == settings.control_table:
                text = f'"{physical}" in {region} is the control table; rename one of the two'
                yield ("tables", table_name), text
            other = first.setdefault((region, physical), table_name)
            if other != table_name:
                text = f'"{physical}" in {region} belongs to table "{other}"; remove one'
                yield ("tables", table_name), text
