"""What is replicated where: the model of `replicator.toml`.

A `Settings` value that exists is sound by itself: every name that it mentions is defined, no two
entries claim one physical table, and no endpoint is one that data must not be sent to. What only
the regions can tell (is the table there, has it a stream?) is the matter of preflight.py. Unknown
keys are refused, since a key that is misspelt and ignored is a setting that silently does not hold.

What is wrong about several keys together is soundness.py's. This module must not know where the
values come from: files, environment and the wording of pydantic's complaints are
configuration.py's, which quotes what is wrong unless its type here is a secret's (SecretStr).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from conflict.version import ORIGIN_PATTERN
from replicator.endpoints import checked_collector, checked_endpoint, without_user
from replicator.records import HeartbeatPlace, Mode, TtlDeletes
from replicator.soundness import Findings, contradictions
from replicator.view import View
from replicator.where import Where, parse_where

AWS_REGION_PATTERN = r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}"
"""us-east-1, us-gov-west-1, eusc-de-east-1."""

TABLE_NAME_PATTERN = r"[A-Za-z0-9_.-]{3,255}"
"""Source: API_CreateTable, TableName (the form without an ARN)."""

ROLE_ARN_PATTERN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,512}"
"""Source: API_AssumeRole, RoleArn."""

HOST_PATTERN = r"[a-z0-9:][a-z0-9.:-]{0,254}"
"""A name or an address without brackets; which of them are no endpoint is endpoints.py's."""

ATTRIBUTE_NAME_BYTES_MAX = 255
"""The strictest limit on an attribute's name, that of a key. Source: Quotas, attribute names."""


SECRET_CHARACTERS_MIN, SECRET_CHARACTERS_MAX = 16, 512


def _checked_token(token: SecretStr) -> SecretStr:
    _long_enough("a token", token)
    if re.fullmatch(r"[\x21-\x7e]+", token.get_secret_value()) is None:
        raise ValueError("a token has ASCII letters, digits and signs only")
    return token


def _checked_digest_key(key: SecretStr) -> SecretStr:
    _long_enough("a digest key", key)
    return key


def _long_enough(what: str, secret: SecretStr) -> None:
    if not SECRET_CHARACTERS_MIN <= len(secret.get_secret_value()) <= SECRET_CHARACTERS_MAX:
        bounds = f"{SECRET_CHARACTERS_MIN} to {SECRET_CHARACTERS_MAX} characters"
        raise ValueError(f"{what} has {bounds}")


def _checked_marker(name: str) -> str:
    if not 1 <= len(name.encode()) <= ATTRIBUTE_NAME_BYTES_MAX:
        raise ValueError(f"an attribute's name has 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes")
    return name


def _checked_where(text: str) -> str:
    parse_where(text)
    return text


def _form(pattern: str, remedy: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"{without_user(value)!r} is {remedy}")
        return value

    return AfterValidator(check)


Endpoint = Annotated[str, AfterValidator(checked_endpoint)]
CollectorUrl = Annotated[str, AfterValidator(checked_collector)]
Token = Annotated[SecretStr, AfterValidator(_checked_token)]
DigestKey = Annotated[SecretStr, AfterValidator(_checked_digest_key)]
AttributeName = Annotated[str, AfterValidator(_checked_marker)]
WhereText = Annotated[str, AfterValidator(_checked_where)]
RegionName = Annotated[
    str, _form(ORIGIN_PATTERN, "no region's name; use up to 64 letters, digits, '.', '_', '-'")
]
AwsRegion = Annotated[
    str, _form(AWS_REGION_PATTERN, 'no AWS region; set it like aws_region = "us-east-1"')
]
TableName = Annotated[
    str, _form(TABLE_NAME_PATTERN, "no table's name; use 3 to 255 letters, digits, '.', '_', '-'")
]
HostName = Annotated[
    str, _form(HOST_PATTERN, 'no host; write it like "dynamodb.internal", in lower case')
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
    where: WhereText | None = None
    """Which items are replicated, see where.py; all if left out."""
    without: frozenset[AttributeName] = frozenset()
    rename: Mapping[AttributeName, AttributeName] = Field(default_factory=dict)
    write_rate: Annotated[float, Field(gt=0, le=10_000_000)] | None = None
    """Write units a second into each of its regions, from one process; no bound if left out."""

    @property
    def view(self) -> View:
        """What the copies hold of the items."""
        where: Where | None = None if self.where is None else parse_where(self.where)
        return View(where=where, without=self.without, rename=self.rename)

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
    """Where the page of `run` is served, and who may use it."""

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    token: Token | None = None
    """Asked for before anything is changed, and off loopback before anything is shown."""

    names: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = ()
    """Further names under which the page is asked for, off loopback."""

    @property
    def url(self) -> str:
        """Where the page is found."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """The header that a request to a page carries."""
        return None if self.token is None else f"Bearer {self.token.get_secret_value()}"

    @property
    def secret(self) -> str | None:
        """The token in clear, for comparing and for sending."""
        return None if self.token is None else self.token.get_secret_value()


class ReaderSettings(_Section):
    """How streams are polled."""

    poll_idle_s: Annotated[float, Field(ge=0.01, le=60)] = 0.25
    """The pause after an empty page. Source: Lambda, DynamoDB triggers: 4 polls a second."""

    describe_interval_s: Annotated[float, Field(ge=0.1, le=3_600)] = 30.0
    """How often shards are listed anew, besides whenever one ends."""


class ClientPlane(StrEnum):
    """By what the calls that every record needs are made."""

    LEAN = "lean"
    BOTOCORE = "botocore"


class ClientSettings(_Section):
    """How DynamoDB is called."""

    plane: ClientPlane = ClientPlane.LEAN


class WriterSettings(_Section):
    """How much work may be under way."""

    concurrency: Annotated[int, Field(ge=1, le=4_096)] = 256
    """Writes in flight per target region."""

    unsettled_records_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Records read but not settled, per pipeline, above which reading waits."""

    unsettled_bytes_max: Annotated[int, Field(ge=1_048_576, le=2**40)] = 64 * 1024 * 1024
    """The same in bytes of records, as the stream states their size."""


class MendingSettings(_Section):
    """How gaps are closed: where a stream has lost records, by verify and repair."""

    enabled: bool = True
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """How long a gap is left alone, so that what is on its way arrives and it is seen at all."""

    read_units_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 500.0
    """Spent in each region of the table while its gap is being mended."""

    write_units_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 200.0
    """Spent in each region on what is repaired."""


class HeartbeatSettings(_Section):
    """Heartbeats, by which lag is known when nobody writes."""

    place: HeartbeatPlace = HeartbeatPlace.CONTROL
    interval_s: Annotated[float, Field(ge=0.1, le=3_600)] = 5.0


class ConflictSettings(_Section):
    """What the ledger of conflicts keeps of the application's data: nothing, unless told."""

    images: bool = False
    """Both items, as they were written."""

    keys: bool = False
    """Keys in clear, in the ledger, on the page and in exports; else a keyed digest."""

    digest_key: DigestKey | None = None
    """What keys are digested with; if left out each region makes its own, once."""


class TelemetrySettings(_Section):
    """Where metrics go, besides `/metrics`."""

    otlp_endpoint: CollectorUrl | None = None
    """OTLP over HTTP, such as http://127.0.0.1:4318/v1/metrics."""

    otlp_interval_s: Annotated[float, Field(ge=1, le=3_600)] = 30.0
    emf: bool = False
    """CloudWatch's embedded metric format, to the standard output of `run`; a function always."""

    emf_interval_s: Annotated[float, Field(ge=1, le=60)] = 60.0
    """The alarms in infra/ look at each minute: told less often, they would take it for silence."""

    lagging_after_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """The backlog age above which a link is called lagging."""


class Settings(BaseSettings):
    """The whole configuration. Built in code it takes nothing from file or environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    regions: Mapping[RegionName, RegionSettings]
    tables: Mapping[TableName, TableSettings]
    allowed_endpoints: tuple[HostName, ...] = ()
    """Hosts that an `endpoint_url` may name, besides this machine and AWS: data is sent there."""

    control_table: TableName = "replicator-control"
    future_bound_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """How far ahead of the clock an application's own version may be."""

    tombstone_days: Annotated[float, Field(ge=1, le=3_650)] = 7.0
    """A stream holds 24 hours, hence never less than a day."""

    client: ClientSettings = ClientSettings()
    http: HttpSettings = HttpSettings()
    reader: ReaderSettings = ReaderSettings()
    writer: WriterSettings = WriterSettings()
    mending: MendingSettings = MendingSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    conflicts: ConflictSettings = ConflictSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    def without_secrets(self) -> Self:
        """The same for a worker on another machine, which has no page and keeps no ledger."""
        return self.model_copy(
            update={
                "http": HttpSettings(),
                "conflicts": ConflictSettings(),
                "telemetry": TelemetrySettings(),
            }
        )

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
        found = tuple(contradictions(self))
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
