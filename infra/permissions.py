"""Who may do what: exact actions on exact ARNs, by mode.

The running service makes no table, changes none, and has no `*`. A region with a `role_arn` is
entered by that role alone, also by the replicator that runs there: the service may assume it and
nothing else, and what it may do by it stands in that region's own stack. A region without one is
of the account that the process runs in, which is why a replicator behind a `role_arn` can reach
none such (`check_roles`). The source of a one-way table is only read.

Each action stands here because a call needs it; tests/infra/test_permissions.py runs the shipping
code with everything else refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.names import logical
from infra.shared import holders
from replicator.errors import ConfigurationError
from replicator.records import Mode
from replicator.settings import Settings

LOOK = ("dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive")
READ = ("dynamodb:BatchGetItem",)
SCAN = ("dynamodb:Scan",)
WRITE = ("dynamodb:DeleteItem", "dynamodb:PutItem")
STAMP = ("dynamodb:UpdateItem",)
"""Only where every region writes: a stamp, or the mark on what is about to be taken out."""

CONTROL = (
    "dynamodb:BatchGetItem",
    "dynamodb:DeleteItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
)
STREAM = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
STREAM_OF_MAPPING = (*STREAM, "dynamodb:ListStreams")
"""What Lambda asks of a function's role, by name, before it makes a mapping. On the stream alone,
as in DynamoDB's own example, though ListStreams names no resource: what it lists beyond is no
matter of a mapping. Source: DynamoDB, "IAM policy to allow an AWS Lambda function to access
DynamoDB stream records"; Lambda, AWSLambdaDynamoDBExecutionRole."""

KMS = ("kms:Decrypt", "kms:DescribeKey")
KMS_QUEUE = ("kms:Decrypt", "kms:GenerateDataKey")
"""To send to the queue, and to read it. Source: SQS, "Key management"."""

QUEUE = (
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
)
"""What the mapping gives up goes there, and the function reads it to store the gap."""

LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy, in the order in which it is rendered."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def check_roles(settings: Settings) -> None:
    """Whether the policies of all regions can be said.

    Raises: ConfigurationError where a replicator would take another account's region for one of
        its own, or where two regions would make the same role.
    """
    for name, table in settings.tables.items():
        for source in table.sources:
            for other in table.members:
                if not _is_ours(settings, source) and _is_ours(settings, other):
                    raise ConfigurationError(
                        f"regions.{other}: has no role_arn, and the replicator of {source}, which "
                        f"is in another account, opens it for tables.{name}; give it one too"
                    )
    makers: dict[str, str] = {}
    for region, entry in settings.regions.items():
        if entry.role_arn is None:
            continue
        # By account and name: no two roles of an account differ in their path alone.
        account, _, name = entry.role_arn.partition(":role/")
        maker = makers.setdefault(f"{account}/{name.rpartition('/')[2]}", region)
        if maker != region:
            raise ConfigurationError(
                f"regions.{region}.role_arn: is that of {maker} too (a path tells no two apart), "
                "and the stack of each makes its own; give each region a role of its own"
            )


def control_arn(settings: Settings, region: str) -> str:
    """The ARN of a region's control table."""
    return _table_arn(settings, region, settings.control_table)


def service_statements(settings: Settings, region: str, mode: str, *, kms: bool) -> list[Statement]:
    """What the service that reads a region's streams may do."""
    tables = [name for name, table in settings.tables.items() if region in table.sources]
    members = {other for name in tables for other in settings.tables[name].members}
    near = [r for r in settings.regions if r in members and _is_ours(settings, r)]
    streams = _streams(settings, region, tables)
    # A mapping reads by the role of its function; the process by that of the region.
    reads = mode == "lambda" or _is_ours(settings, region)
    actions = STREAM_OF_MAPPING if mode == "lambda" else STREAM
    found = [Statement(sid="Streams", actions=actions, resources=streams)] if reads else []
    for place in near:
        found += _in_region(settings, place, tables, mends=mode == "service")
    for place in settings.regions:
        role_arn = settings.regions[place].role_arn
        if place in members and role_arn is not None:
            roles: tuple[str, ...] = (role_arn,)
            found.append(
                Statement(sid=_sid("Assume", place), actions=("sts:AssumeRole",), resources=roles)
            )
    if kms:
        keys = dict.fromkeys([*near, *([region] if reads else [])])
        found += [_kms(settings, place, home=region) for place in keys]
    if kms and mode == "lambda":
        found.append(_kms_of_queue(settings, region))
    if mode == "lambda":
        found += [
            Statement(sid="Failures", actions=QUEUE, resources=("${arn.Failures}",)),
            Statement(sid="Logs", actions=LOGS, resources=("${arn.Logs}:log-stream:*",)),
        ]
    return found


def access_statements(settings: Settings, region: str, *, kms: bool) -> list[Statement]:
    """What replicators may do in a region by its `role_arn`: those of other accounts, its own."""
    tables = [name for name, table in settings.tables.items() if region in table.members]
    read = [name for name in tables if region in settings.tables[name].sources]
    streams = _streams(settings, region, read)
    found = [Statement(sid="Streams", actions=STREAM, resources=streams)] if read else []
    found += _in_region(settings, region, tables, mends=True)
    return [*found, _kms(settings, region, home=region)] if kms else found


def visitors(settings: Settings, region: str) -> list[str]:
    """The other regions whose replicators open this one."""
    tables = [table for table in settings.tables.values() if region in table.members]
    sources = {source for table in tables for source in table.sources}
    return [name for name in settings.regions if name in sources - {region}]


def _streams(settings: Settings, region: str, tables: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"${{stream.{table}}}" for table in holders(settings, tables, region))


def _is_ours(settings: Settings, region: str) -> bool:
    return settings.regions[region].role_arn is None


def _in_region(
    settings: Settings, place: str, tables: Sequence[str], *, mends: bool
) -> list[Statement]:
    """The tables in one region, and its control table."""
    scan = SCAN if mends and settings.mending.enabled else ()
    by_actions: dict[tuple[str, ...], dict[str, None]] = {}
    for name in tables:
        table = settings.tables[name]
        if place not in table.members:
            continue
        actions = (*READ, *LOOK, *scan)
        if table.mode is Mode.MULTI_WRITER:
            actions += (*WRITE, *STAMP)
        elif place != table.source:
            actions += WRITE
        arn = _table_arn(settings, place, settings.table_name(name, place))
        # Once each: several entries may read one table.
        by_actions.setdefault(tuple(sorted(actions)), {})[arn] = None
    kinds = ("Tables", "Copies", "Sources")
    found = [
        Statement(sid=_sid(kind, place), actions=allowed, resources=tuple(there))
        for kind, (allowed, there) in zip(kinds, by_actions.items(), strict=False)
    ]
    control = tuple(sorted((*CONTROL, *LOOK)))
    arns = (control_arn(settings, place),)
    return [*found, Statement(sid=_sid("Control", place), actions=control, resources=arns)]


def _kms(settings: Settings, place: str, *, home: str) -> Statement:
    """Only through DynamoDB of that region."""
    return Statement(
        sid=_sid("Kms", place),
        actions=KMS,
        resources=("${param.KmsKeyArn}" if place == home else _key_elsewhere(place),),
        conditions=_via("dynamodb", settings, place),
    )


def _kms_of_queue(settings: Settings, region: str) -> Statement:
    """Only through SQS: mappings send there, and read it, by the role of their function."""
    return Statement(
        sid=_sid("KmsQueue", region),
        actions=KMS_QUEUE,
        resources=("${param.KmsKeyArn}",),
        conditions=_via("sqs", settings, region),
    )


def _key_elsewhere(place: str) -> str:
    return f"${{param.KmsKeyArn{logical(place)}}}"


def _via(service: str, settings: Settings, place: str) -> dict[str, dict[str, str]]:
    """Source: KMS, "Condition keys for AWS KMS", kms:ViaService."""
    name = f"{service}.{settings.regions[place].aws_region}.amazonaws.com"
    return {"StringEquals": {"kms:ViaService": name, "kms:CallerAccount": "${account}"}}


def _table_arn(settings: Settings, region: str, table: str) -> str:
    aws_region = settings.regions[region].aws_region
    return f"arn:${{partition}}:dynamodb:{aws_region}:${{account}}:table/{table}"


def _sid(kind: str, place: str) -> str:
    return f"{kind}{logical(place)}"
