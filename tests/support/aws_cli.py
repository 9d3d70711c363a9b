"""As much of the AWS command line as runbooks use, against an emulator: `aws SERVICE OPERATION …`.

Options are those of the operation, by botocore's own description of it, `--query` and `--output`.
CloudFormation and ECS are not emulated: what is deployed stands below $STACKS (runbook_stacks.py),
and whose service was asked to start over is written to $RESTARTS for the test to do.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

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
        case "ecs", "update-service":
            return _start_over(region, options)
        case "cloudformation", "deploy":
            return _deploy(region, options)
    return _call(service, operation, region, options)


def _start_over(region: str, options: dict[str, Any]) -> int:
    assert options["cluster"] == "replicator"
    assert "force-new-deployment" in options
    deployed = Stacks(Path(os.environ["STACKS"])).service(region) is not None
    if not deployed or options["service"] != f"{SERVICE_PREFIX}{region}":
        sys.stderr.write(f"ServiceNotFoundException: {options['service']} in {region}\n")
        return REFUSED
    with Path(os.environ["RESTARTS"]).open("a", encoding="utf-8") as file:
        file.write(f"{region}\n")
    return 0


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
        Stacks(Path(os.environ["STACKS"])).deploy(region, template, given)
    except NotDeployed as error:
        sys.stderr.write(f"ValidationError: {error}\n")
        return REFUSED
    return 0


def _bucket(region: str) -> str:
    return f"{os.environ['TEMPLATES']}-{region}"


def _call(service: str, operation: str, region: str, options: dict[str, Any]) -> int:
    import boto3  # noqa: PLC0415 - heavier than the others need
    import jmespath  # type: ignore[import-untyped]  # noqa: PLC0415
    from botocore import xform_name  # noqa: PLC0415

    query, output = options.pop("query", None), options.pop("output", "json")
    client = boto3.client(  # type: ignore[call-overload]
        service, region_name=region, endpoint_url=os.environ["AWS_EMULATOR_URL"]
    )
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(
        client.meta.method_to_api_mapping[method]
    ).input_shape
    members = {xform_name(name).replace("_", "-"): name for name in shape.members}
    request = {
        members[option]: _value(shape.members[members[option]].type_name, text)
        for option, text in options.items()
    }
    answer = getattr(client, method)(**request)
    del answer["ResponseMetadata"]
    found = answer if query is None else jmespath.search(query, answer)
    text = found if output == "text" else json.dumps(found, default=str)
    sys.stdout.write(f"{text}\n")
    return 0


def _options(rest: list[str]) -> dict[str, Any]:
    """Each option's words, with blanks between them where it has several; None without any."""
    found: dict[str, Any] = {}
    name = ""
    for word in rest:
        if word.startswith("--"):
            name = word[2:]
            found[name] = None
        else:
            found[name] = word if found[name] is None else f"{found[name]} {word}"
    return found


def _value(kind: str, text: str | None) -> object:
    if kind == "boolean":
        return text is None
    assert text is not None
    return json.loads(text) if kind in ("structure", "list", "map") else text


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
