"""What stands for CloudFormation and ECS where runbooks are run: one stack for each region, a file.

A stack is the template that was deployed and its parameters. aws_cli.py deploys it, as
`aws cloudformation deploy` would; a region has the service that its stack names, and the service
may do what the stack's policy allows: `refused` tells what it lacks of what a configuration takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotDeployed(Exception):
    """CloudFormation or ECS refuses, in words like theirs."""


@dataclass(frozen=True)
class Stacks:
    """The stacks of all regions, below a directory."""

    directory: Path

    def deploy(self, region: str, made: Mapping[str, Any], given: Mapping[str, str]) -> None:
        """Deploy a template. What is not given keeps its value, as `deploy` has it.

        Raises: NotDeployed where a parameter has no value.
        """
        before = self._load(region)["Parameters"]
        names = made["Parameters"]
        values = {
            name: given.get(name, before.get(name, entry.get("Default")))
            for name, entry in names.items()
        }
        lacking = sorted(name for name, value in values.items() if value is None)
        if lacking:
            raise NotDeployed(f"{region}: Parameters: {lacking} must have values")
        self.directory.mkdir(exist_ok=True)
        document = {"Template": made, "Parameters": values}
        self._path(region).write_text(json.dumps(document), encoding="utf-8")

    def service(self, region: str) -> list[str] | None:
        """The arguments of the region's task, None where it has no service."""
        stack = self._load(region)
        resources = stack["Template"]["Resources"]
        if not any(found["Type"] == "AWS::ECS::Service" for found in resources.values()):
            return None
        (container,) = resources["Task"]["Properties"]["ContainerDefinitions"]
        return [
            word if isinstance(word, str) else stack["Parameters"][word["Ref"]]
            for word in container["Command"]
        ]

    def refused(
        self, region: str, needed: Mapping[str, Any], stream_arns: Mapping[str, str]
    ) -> str | None:
        """What the region's service may not do that its configuration takes, None if it may all.

        `needed`: the template of that configuration. `stream_arns`: the stream of each table.
        """
        stack = self._load(region)
        if _policies(stack["Template"]) != _policies(needed):
            return f"AccessDenied: the stack of {region} was made from another configuration"
        for table, arn in stream_arns.items():
            name = f"StreamArn{table.title()}"
            if stack["Parameters"].get(name, arn) != arn:
                return f"AccessDenied: {name} of the stack of {region} is a stream of the past"
        return None

    def _load(self, region: str) -> dict[str, Any]:
        path = self._path(region)
        if not path.exists():
            return {"Template": {"Resources": {}}, "Parameters": {}}
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document

    def _path(self, region: str) -> Path:
        return self.directory / f"{region}.json"


def _policies(template: Mapping[str, Any]) -> object:
    role = template["Resources"].get("Role")
    return None if role is None else role["Properties"]["Policies"]
