"""What is deployed for one region: the values that both writers render, in no syntax of theirs.

A `Stack` is a list of resources whose properties hold texts with tokens: `${partition}`,
`${account}`, `${param.NAME}`, `${arn.RESOURCE}`, `${stream.TABLE}`. cloudformation.py and
terraform.py put their own words in place of the tokens, so that both say the same by construction.

Two modes: `lambda` (a function, one event source mapping per stream, and one on the queue of what
those give up) and `service` (a container on
ECS, one task). Streams of tables that exist are turned on by `replicator setup`; their ARNs are
parameters. With `--create` the tables are made here, stream included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.alarms import Alarm, alarms_of
from infra.dashboard import dashboard_of
from infra.names import logical
from infra.permissions import Statement, access_statements, service_statements, visitors
from infra.shared import holder, holders
from replicator.control import CONTROL_KEY_SCHEMA, CONTROL_TTL_ATTRIBUTE
from replicator.errors import ConfigurationError
from replicator.settings import Settings

HANDLER = "replicator.lambda_handler.handler"
RUNTIME = "python3.12"
MODES = ("lambda", "service")


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSettings:
    """The settings of an event source mapping; README.md, "In Lambda", gives the reasons.

    No number of attempts drops a record. Its age does, an hour before the stream would without a
    word: then the destination is told.
    """

    batch_size: int = 1_000
    window_s: int = 0
    parallelization: int = 1
    bisect: bool = True
    attempts_max: int = -1
    age_s_max: int = 82_800
    response_types: tuple[str, ...] = ("ReportBatchItemFailures",)
    starting_position: str = "TRIM_HORIZON"


MAPPING = MappingSettings()
FUNCTION_TIMEOUT_S = 60

QUEUE_BATCH_SIZE = 10
QUEUE_HIDDEN_S = 6 * FUNCTION_TIMEOUT_S
"""Source: Lambda, "Using Lambda with Amazon SQS": "at least six times" the function's timeout."""

TOLD_TO_CLOUDWATCH: Mapping[str, str] = {"REPLICATOR_TELEMETRY__EMF": "true"}
"""The process prints its metrics; the alarms and the dashboard are of them.

The log driver is told no `awslogs-format`: CloudWatch Logs finds the metrics in whatever it is
sent, and ECS lists no such option and refuses what it does not know. Source: CloudWatch, "Using
the PutLogEvents API to send manually-created embedded metric format logs": the header is "not
required"; ECS API, LogConfiguration; aws/containers-roadmap, issue 1719 (open).
"""


TOKEN = "REPLICATOR_HTTP__TOKEN"  # noqa: S105 - a variable's name


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessSettings:
    """How ECS asks whether the process lives: dead after about a minute and a half of silence.

    Source: ECS, "Determine Amazon ECS task health using container health checks": the check in an
    image is not looked at, and a service replaces a task whose container is unhealthy.
    """

    interval_s: int = 30
    timeout_s: int = 10
    retries: int = 3
    start_s: int = 120


LIVENESS = LivenessSettings()

ASK = (
    "from http.client import HTTPConnection; "
    "asked = HTTPConnection({host!r}, {port}, timeout=5); "
    "asked.request('GET', '/healthz'); asked.getresponse()"
)
"""Any answer will do. /healthz is red for a gap or a region out of reach, and /readyz until every
source has answered: a process made anew mends neither, and would be made anew for ever. But the
page is served by the loop that replicates, so that a loop which is stuck gives no answer at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing to be made. `kind` chooses how it is rendered."""

    key: str
    kind: str
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What only the account can tell. `many`: a list of texts."""

    name: str
    text: str
    default: str | None = None
    many: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All of one region."""

    region: str
    aws_region: str
    mode: str
    parameters: Sequence[Parameter]
    resources: Sequence[Resource]
    statements: Sequence[Statement]
    alarms: Sequence[Alarm]
    created: frozenset[str]
    """The tables that are made here, by their holders (shared.py); of the others the stream's ARN
    is a parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to generate. `create`: key schemas of tables that are to be made here. `token_apart`:
    the page needs a token that the file does not state, so that the task takes it as a secret."""

    mode: str = "lambda"
    kms: bool = True
    token_apart: bool = False
    create: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """What everything that rests in the region is encrypted with; None: keys owned by AWS."""
        return "${param.KmsKeyArn}" if self.kms else None


def stack_of(settings: Settings, region: str, options: Options) -> Stack:
    """What one region of the configuration takes.

    Raises: ConfigurationError where one table is to be made with two keys.
    """
    aws_region = settings.regions[region].aws_region
    read = [name for name, table in settings.tables.items() if region in table.sources]
    statements = service_statements(settings, region, options.mode, kms=options.kms) if read else []
    alarms = alarms_of(settings, region, options.mode) if read else []
    resources = [_control_table(settings, options), *_tables(settings, region, options)]
    if options.mode == "lambda":
        resources.append(_queue(region, options))
    if read:
        if options.mode == "lambda":
            resources += _lambda(region, holders(settings, read, region), options)
        else:
            resources += _service(settings, region, options)
        resources.append(_role(region, options.mode, statements))
        dashboard = dashboard_of(region, aws_region, alarms)
        resources.append(Resource(key="Dashboard", kind="dashboard", properties=dashboard))
    opened = any(region in table.members for table in settings.tables.values())
    if opened and settings.regions[region].role_arn is not None:
        resources.append(_access_role(settings, region, kms=options.kms))
    return Stack(
        region=region,
        aws_region=aws_region,
        mode=options.mode,
        parameters=_parameters(settings, region, options, read),
        resources=resources,
        statements=statements,
        alarms=alarms,
        created=frozenset(_created(settings, region, options)),
    )


def _parameters(
    settings: Settings, region: str, options: Options, read: Sequence[str]
) -> list[Parameter]:
    """In a fixed order; what the region does not need is left out."""
    found = []
    if read:
        found.append(Parameter(name="AlarmTopicArn", text="SNS topic that alarms are sent to"))
    created = _created(settings, region, options)
    for table in holders(settings, read, region):
        if table not in created:
            text = f"Stream of {settings.table_name(table, region)}: DescribeTable, LatestStreamArn"
            found.append(Parameter(name=f"StreamArn{logical(table)}", text=text))
    if options.kms:
        found.append(Parameter(name="KmsKeyArn", text="KMS key of this region, see README.md"))
        others = {other for table in read for other in settings.tables[table].members} - {region}
        for other in sorted(others):
            if settings.regions[other].role_arn is None:
                text = f"KMS key of the tables in {other}"
                found.append(Parameter(name=f"KmsKeyArn{logical(other)}", text=text))
    if read:
        found += _parameters_of_code(options)
    if settings.regions[region].role_arn is not None and visitors(settings, region):
        text = "Roles of the replicators of other regions that may act here"
        found.append(Parameter(name="TrustedRoleArns", text=text, many=True))
    return found


def _parameters_of_code(options: Options) -> list[Parameter]:
    """What runs, and with what."""
    if options.mode == "lambda":
        return [
            Parameter(name="CodeBucket", text="Bucket in this region with the package"),
            Parameter(name="CodeKey", text="Key of the package: each has its own, see README.md"),
            Parameter(name="ConfigFile", text="Configuration in it", default="replicator.toml"),
        ]
    found = [
        Parameter(name="Image", text="Container image, by digest: each has its own"),
        Parameter(name="ClusterArn", text="ECS cluster"),
        Parameter(name="ExecutionRoleArn", text="ECS role that pulls the image, writes logs"),
        Parameter(name="Subnets", text="Private subnets with a way to DynamoDB", many=True),
        Parameter(
            name="SecurityGroups",
            text="Port 443 outwards; the page's inwards, if read",
            many=True,
        ),
        Parameter(name="ConfigFile", text="Configuration", default="replicator.toml"),
    ]
    if options.token_apart:
        text = "Secret, or SSM parameter, whose value is the token; ExecutionRoleArn reads it"
        found.append(Parameter(name="TokenSecretArn", text=text))
    return found


def _control_table(settings: Settings, options: Options) -> Resource:
    properties: dict[str, Any] = {
        "name": settings.control_table,
        "keys": {name: kind for name, (_, kind) in CONTROL_KEY_SCHEMA.items()},
        "ttl": CONTROL_TTL_ATTRIBUTE,
        "stream": None,
        "kms": options.key,
    }
    return Resource(key="ControlTable", kind="table", properties=properties)


def _created(settings: Settings, region: str, options: Options) -> Mapping[str, Mapping[str, str]]:
    """The keys of the tables that are to be made in a region, by their holders."""
    found: dict[str, Mapping[str, str]] = {}
    for table, keys in options.create.items():
        if region not in settings.tables[table].members:
            continue
        first = found.setdefault(holder(settings, table, region), keys)
        if [*first.items()] != [*keys.items()]:
            name = settings.table_name(table, region)
            text = f"{name} in {region} is asked for with two keys; state the same for every entry"
            raise ConfigurationError(f'--create: "{table}": {text}')
    return found


def _tables(settings: Settings, region: str, options: Options) -> list[Resource]:
    """Tables that were asked for, in the regions that have them, with the stream of their mode."""
    return [
        Resource(
            key=f"Table{logical(table)}",
            kind="table",
            properties={
                "name": settings.table_name(table, region),
                "keys": dict(keys),
                "ttl": None,
                "stream": "NEW_AND_OLD_IMAGES",
                "kms": options.key,
            },
        )
        for table, keys in _created(settings, region, options).items()
    ]


def _queue(region: str, options: Options) -> Resource:
    """What the mappings give up; in every stack, as the control table is: a region that is no
    source any more may hold some of it still, and one that becomes a source again finds it."""
    properties = {
        "name": f"replicator-{region}-failures",
        "hidden_s": QUEUE_HIDDEN_S,
        "kms": options.key,
    }
    return Resource(key="Failures", kind="queue", properties=properties)


def _lambda(region: str, tables: Sequence[str], options: Options) -> list[Resource]:
    name = f"replicator-{region}"
    function = {
        "name": name,
        "handler": HANDLER,
        "runtime": RUNTIME,
        "architecture": "arm64",
        "memory_mb": 1_769,
        "timeout_s": FUNCTION_TIMEOUT_S,
        "bucket": "${param.CodeBucket}",
        "object": "${param.CodeKey}",
        "environment": {
            "REPLICATOR_CONFIG": "${param.ConfigFile}",
            "REPLICATOR_SOURCE": region,
        },
    }
    mappings = [
        Resource(
            key=f"Mapping{logical(table)}",
            kind="mapping",
            properties={"stream": f"${{stream.{table}}}", "settings": MAPPING},
        )
        for table in tables
    ]
    return [
        _logs(f"/aws/lambda/{name}", options),
        Resource(key="Function", kind="function", properties=function),
        *mappings,
        Resource(
            key="MappingFailures",
            kind="queue_mapping",
            properties={"queue": "${arn.Failures}", "batch_size": QUEUE_BATCH_SIZE},
        ),
    ]


def _service(settings: Settings, region: str, options: Options) -> list[Resource]:
    name = f"replicator-{region}"
    task = {
        "name": name,
        "image": "${param.Image}",
        "command": [
            *("run", "--config", "${param.ConfigFile}"),
            *("--source", region, "--log-json", "--tolerate-outage"),
            *("--port", str(settings.http.port)),  # the one that is asked below
        ],
        "environment": TOLD_TO_CLOUDWATCH,
        "secrets": {TOKEN: "${param.TokenSecretArn}"} if options.token_apart else {},
        "asked": ["CMD", "python", "-c", _ask(settings)],
        "liveness": LIVENESS,
        "cpu": "1024",
        "memory": "2048",
    }
    return [
        _logs(f"/replicator/{name}", options),
        Resource(key="Task", kind="task", properties=task),
        Resource(key="Service", kind="service", properties={"name": name}),
    ]


def _logs(name: str, options: Options) -> Resource:
    return Resource(key="Logs", kind="logs", properties={"name": name, "kms": options.key})


def _ask(settings: Settings) -> str:
    """The check's program; where the page is bound to every address, loopback is one of them."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http.host, settings.http.host)  # noqa: S104
    return ASK.format(host=host, port=settings.http.port)


def _role(region: str, mode: str, statements: Sequence[Statement]) -> Resource:
    principal = "lambda.amazonaws.com" if mode == "lambda" else "ecs-tasks.amazonaws.com"
    properties = {
        "name": f"replicator-{region}",
        "path": "/",
        "service": principal,
        "trusted": (),
        "statements": statements,
    }
    return Resource(key="Role", kind="role", properties=properties)


def _access_role(settings: Settings, region: str, *, kms: bool) -> Resource:
    """The role by which replicators act in this region: those of others, and its own."""
    own = any(region in table.sources for table in settings.tables.values())
    trusted: tuple[str, ...] = ("${arn.Role}",) if own else ()
    if visitors(settings, region):
        trusted += ("${param.TrustedRoleArns}",)
    # All that follows `role` is the path but the last word, and is part of the ARN.
    path, _, name = str(settings.regions[region].role_arn).partition(":role")[2].rpartition("/")
    properties = {
        "name": name,
        "path": f"{path}/",
        "service": None,
        "trusted": trusted,
        "statements": access_statements(settings, region, kms=kms),
    }
    return Resource(key="AccessRole", kind="role", properties=properties)
