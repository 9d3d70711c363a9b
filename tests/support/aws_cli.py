"""As much of the AWS command line as runbooks use, against an emulator: `aws SERVICE OPERATION …`.

Options are those of the operation, by botocore's own description of it, and `--query`. A service of
ECS is not emulated: that one was asked to start over is written to $RESTARTS for the test to do.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3
import jmespath  # type: ignore[import-untyped]
from botocore import xform_name


def main(arguments: list[str]) -> int:
    """Make the call and print what it answers."""
    service, operation, *rest = arguments
    options = _options(rest)
    if (service, operation) == ("ecs", "update-service"):
        assert "force-new-deployment" in options
        with Path(os.environ["RESTARTS"]).open("a", encoding="utf-8") as file:
            file.write(f"{options['service']}\n")
        return 0
    query, region = options.pop("query", None), options.pop("region")
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
    sys.stdout.write(f"{json.dumps(found, default=str)}\n")
    return 0


def _options(rest: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    name = ""
    for word in rest:
        if word.startswith("--"):
            name = word[2:]
            found[name] = None
        else:
            found[name] = word
    return found


def _value(kind: str, text: str | None) -> object:
    if kind == "boolean":
        return text is None
    assert text is not None
    return json.loads(text) if kind in ("structure", "list", "map") else text


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
