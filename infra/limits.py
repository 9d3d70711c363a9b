"""What AWS takes of a stack: looked at before it is deployed, for it is refused half-way otherwise.

Source: CloudFormation, "Understand CloudFormation quotas"; IAM, "IAM and AWS STS quotas".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from infra.definition import Stack
from infra.permissions import Statement
from replicator.errors import ConfigurationError
from replicator.settings import Settings

POLICY_CHARACTERS_MAX = 10_240
"""Of all policies within one role; white space is not counted."""

RESOURCES_MAX = 500
PARAMETERS_MAX = 200
TEMPLATE_BYTES_MAX = 1_000_000
"""From a bucket; of what a request itself carries, 51,200."""

REMEDY = "split the configuration into several, see infra/README.md"

NAMES: Mapping[str, tuple[int, str]] = {
    "alarm": (255, "-_."),
    "dashboard": (255, "-_"),
    "function": (64, "-_"),
    "logs": (512, "-_./#"),
    "queue": (80, "-_"),
    "role": (64, "-_.+=,@"),
    "service": (255, "-_"),
    "table": (255, "-_."),
    "task": (255, "-_"),
}
"""How many characters a name has at most, and which beside letters and digits. An alarm may have
others too, of which no table or region has any. Source: CloudWatch, API_PutMetricAlarm,
API_PutDashboard; Lambda, API_CreateFunction; CloudWatch Logs, API_CreateLogGroup; SQS,
API_CreateQueue; IAM, API_CreateRole; ECS, API_CreateService, API_RegisterTaskDefinition; DynamoDB,
API_CreateTable."""

PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
LONGEST_REGION = "ap-southeast-2"
_TOKEN = re.compile(r"\$\{(\w+)(?:\.([^}]+))?\}")


def check_limits(settings: Settings, stack: Stack, template: str) -> None:
    """Whether AWS takes the stack, as this template or as a module.

    Raises: ConfigurationError with the limit, the count and the remedy.
    """
    _check_names(stack)
    for what, count, limit in counted(settings, stack, template):
        if count > limit:
            raise ConfigurationError(
                f"regions.{stack.region}: {what}: {count:,}, and AWS takes {limit:,}; {REMEDY}"
            )


def _check_names(stack: Stack) -> None:
    region = f"regions.{stack.region}"
    another = "give the region another name, its aws_region beside it"
    for made in stack.resources:
        if made.key == "AccessRole":
            _check_name(f"{region}.role_arn", made.kind, made.properties["name"], "name another")
        elif "name" in made.properties:
            _check_name(region, made.kind, made.properties["name"], another)
    shorter = "give the table a shorter name, and that of its table in names"
    for alarm in stack.alarms:
        _check_name(region, "alarm", alarm.name, shorter)


def _check_name(where: str, kind: str, name: str, remedy: str) -> None:
    limit, signs = NAMES[kind]
    if len(name) > limit:
        wrong = f"{len(name):,} characters, and AWS takes {limit:,}"
    elif re.fullmatch(f"[A-Za-z0-9{re.escape(signs)}]+", name) is None:
        wrong = f"AWS takes letters, digits and {' '.join(signs)} only"
    else:
        return
    raise ConfigurationError(f'{where}: the name of its {kind}, "{name}": {wrong}; {remedy}')


def counted(settings: Settings, stack: Stack, template: str) -> Iterator[tuple[str, int, int]]:
    """What is limited, with its count and its limit."""
    for role in (resource for resource in stack.resources if resource.kind == "role"):
        characters = _characters(role.properties["statements"], settings, stack)
        what = f"characters of policy in the role {role.properties['name']}"
        yield what, characters, POLICY_CHARACTERS_MAX
    made = len(stack.resources) + len(stack.alarms)
    yield "resources in its template", made, RESOURCES_MAX
    yield "parameters of its template", len(stack.parameters), PARAMETERS_MAX
    yield "bytes of its template", len(template.encode()), TEMPLATE_BYTES_MAX


def _characters(statements: Sequence[Statement], settings: Settings, stack: Stack) -> int:
    """Of a policy as IAM is given it: with the ARNs, not with what stands for them."""
    said = [
        {
            "Sid": statement.sid,
            "Effect": "Allow",
            "Action": statement.actions,
            "Resource": statement.resources,
            **({"Condition": statement.conditions} if statement.conditions else {}),
        }
        for statement in statements
    ]
    text = json.dumps({"Version": "2012-10-17", "Statement": said}, separators=(",", ":"))
    return len(_TOKEN.sub(lambda found: _arn(found, settings, stack), text))


def _arn(found: re.Match[str], settings: Settings, stack: Stack) -> str:
    """What will stand there, or as long a text."""
    kind, of = found.groups()
    partition = _partition(stack.aws_region)
    arn = f"arn:{partition}:{{}}:{stack.aws_region}:{'0' * 12}:{{}}"
    match kind, of:
        case "partition", _:
            return partition
        case "account", _:
            return "0" * 12
        case "stream", table:
            name = settings.table_name(table, stack.region)
            return arn.format("dynamodb", f"table/{name}/stream/2026-01-01T00:00:00.000")
        case "arn", "Failures":
            return arn.format("sqs", f"replicator-{stack.region}-failures")
        case "arn", _:
            return arn.format("logs", f"log-group:/aws/lambda/replicator-{stack.region}")
        case _:  # a key, in whatever region
            return f"arn:{partition}:kms:{LONGEST_REGION}:{'0' * 12}:key/{'0' * 36}"


def _partition(aws_region: str) -> str:
    found = (name for start, name in PARTITIONS.items() if aws_region.startswith(start))
    return next(found, "aws")
