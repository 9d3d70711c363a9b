"""As much of the AWS command line as runbooks use, against an emulator: `aws SERVICE OPERATION …`.

Options are those of the operation, by botocore's own description of it, `--query` and `--output`.
CloudFormation, ECS and S3 are not emulated: what is deployed stands below $STACKS
(runbook_stacks.py), what is uploaded below $BUCKETS, and the address of each region's task in
$TASKS; and whose service was asked to start over, or got another task by a deployment, is written
to $RESTARTS for the test to do.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from support.runbook_images import ACCOUNT
from support.runbook_stacks import NotDeployed, Stacks

SERVICE_PREFIX = "replicator-"
REFUSED = 254
"""Source: AWS CLI, "Return codes": the service answered with an error."""

FAILED = 255
"""Source: the same: the command failed in a way that has no code of its own."""

TEMPLATE_BYTES_MAX = 51_200
"""Source: aws-cli, customizations/cloudformation/deploy.py: above it `--s3-bucket` is required."""


def main(arguments: list[str]) -> int:
    """Make the call and print what it answers."""
    service, operation, *rest = arguments
    options = _options(rest)
    region = options.pop("region")
    match service, operation:
        case "ecs", _:
            return _ecs(operation, region, options)
        case "cloudformation", "deploy":
            return _deploy(region, options)
        case "cloudformation", "describe-stacks":
            return _show(_described(region, options.pop("stack-name")), options)
        case "ecr", "get-login-password":
            return _show("password", {"output": "text"})
        case "s3", "cp":
            return _upload(region, *options[""].split())
        case "dynamodb", "wait":
            return _wait(region, options.pop("").replace("-", "_"), options["table-name"])
        case "dynamodb", "list-backups":  # the engine knows no types
            assert options["backup-type"] == "SYSTEM", "a user's are listed unless it says so"
    return _call(service, operation, region, options)


def _stacks() -> Stacks:
    return Stacks(Path(os.environ["STACKS"]), os.environ["AWS_EMULATOR_URL"])


def _ecs(operation: str, region: str, options: dict[str, Any]) -> int:
    assert options["cluster"] == "replicator"
    if operation == "describe-tasks":
        return _show(_addresses(options["tasks"].split()), options)
    name = options["service" if operation == "update-service" else "service-name"]
    if _stacks().service(region) is None or name != f"{SERVICE_PREFIX}{region}":
        sys.stderr.write(f"ServiceNotFoundException: {name} in {region}\n")
        return REFUSED
    if operation == "list-tasks":
        return _show({"taskArns": _tasks(region)}, options)
    assert operation == "update-service"
    assert "force-new-deployment" in options
    _started_over(region)
    return 0


def _started_over(region: str) -> None:
    with Path(os.environ["RESTARTS"]).open("a", encoding="utf-8") as file:
        file.write(f"{region}\n")


def _tasks(region: str) -> list[str]:
    task = f"arn:aws:ecs:{region}:{ACCOUNT}:task/replicator/{region}"
    return [task] if region in json.loads(os.environ["TASKS"]) else []


def _addresses(tasks: list[str]) -> dict[str, Any]:
    """With ports, for all tasks are on one machine."""
    address = json.loads(os.environ["TASKS"])
    details = [
        [
            {"name": "subnetId", "value": "subnet"},
            {"name": "privateIPv4Address", "value": address[task.rpartition("/")[2]]},
        ]
        for task in tasks
    ]
    return {"tasks": [{"attachments": [{"details": found}]} for found in details]}


def _deploy(region: str, options: dict[str, Any]) -> int:
    assert options["stack-name"] == "replicator"
    assert options["capabilities"] == "CAPABILITY_NAMED_IAM", "its roles have names"
    file, bucket = Path(options["template-file"]), options.get("s3-bucket")
    if file.stat().st_size > TEMPLATE_BYTES_MAX and bucket is None:
        sys.stderr.write(
            "Templates with a size greater than 51,200 bytes must be deployed via S3\n"
        )
        return FAILED
    assert bucket in (None, _bucket(region)), "a bucket of another region"
    template = json.loads(file.read_text(encoding="utf-8"))
    given = dict(pair.split("=", 1) for pair in options.get("parameter-overrides", "").split())
    try:
        if _stacks().deploy(region, template, given):
            _started_over(region)
    except NotDeployed as error:
        sys.stderr.write(f"ValidationError: {error}\n")
        return REFUSED
    return 0


def _described(region: str, name: str) -> dict[str, Any]:
    pairs = _stacks().parameters(region).items()
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in pairs]
    return {"Stacks": [{"StackName": name, "Parameters": given}]}


def _bucket(region: str) -> str:
    return f"{os.environ['TEMPLATES']}-{region}"


def _upload(region: str, file: str, to: str) -> int:
    assert to.startswith(f"s3://{_bucket(region)}/")
    place = Path(os.environ["BUCKETS"], to.removeprefix("s3://"))
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)
    return 0


def _wait(region: str, state: str, table: str) -> int:
    _client("dynamodb", region).get_waiter(state).wait(TableName=table)
    return 0


def _client(service: str, region: str) -> Any:
    import boto3  # noqa: PLC0415 - heavier than the others need

    return boto3.client(  # type: ignore[call-overload]
        service, region_name=region, endpoint_url=os.environ["AWS_EMULATOR_URL"]
    )


def _call(service: str, operation: str, region: str, options: dict[str, Any]) -> int:
    from botocore import xform_name  # noqa: PLC0415 - heavier than the others need

    client = _client(service, region)
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(
        client.meta.method_to_api_mapping[method]
    ).input_shape
    members = {xform_name(name).replace("_", "-"): name for name in shape.members}
    shown = {name: options.pop(name) for name in list(options) if name in ("query", "output")}
    request = {
        members[option]: _value(shape.members[members[option]].type_name, text)
        for option, text in options.items()
    }
    answer = getattr(client, method)(**request)
    del answer["ResponseMetadata"]
    return _show(answer, shown)


def _show(answer: Any, options: dict[str, Any]) -> int:
    import jmespath  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    answer = json.loads(json.dumps(answer, default=str))
    found = jmespath.search(options["query"], answer) if "query" in options else answer
    if options.get("output") != "text":
        found = json.dumps(found)
    elif isinstance(found, list):
        found = "\t".join(found)
    sys.stdout.write(f"{found}\n")
    return 0


def _options(rest: list[str]) -> dict[str, Any]:
    """Each option's words, with blanks between them where it has several; None without any.

    What stands before the first option has no name.
    """
    found: dict[str, Any] = {"": None}
    name = ""
    for word in rest:
        if word.startswith("--"):
            name = word[2:]
            found[name] = None
        else:
            found[name] = word if found[name] is None else f"{found[name]} {word}"
    return {name: words for name, words in found.items() if name or words is not None}


def _value(kind: str, text: str | None) -> object:
    if kind == "boolean":
        return text is None
    assert text is not None
    return json.loads(text) if kind in ("structure", "list", "map") else text


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
