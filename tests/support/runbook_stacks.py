"""What stands for CloudFormation and ECS where runbooks are run: one stack for each region, a file.

A stack is the template that was deployed and its parameters. aws_cli.py deploys it, as
`aws cloudformation deploy` would; a region has the service that its stack names, which runs the
stack's image (runbook_images.py), and the service may do what the stack's policy allows: `refused`
tells what it lacks of what a configuration takes. The control table of a region comes with its
first stack, on the emulator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator.control import create_control_table_request, time_to_live_request


class NotDeployed(Exception):
    """CloudFormation or ECS refuses, in words like theirs."""


@dataclass(frozen=True)
class Stacks:
    """The stacks of all regions, below a directory, and the engine that their tables are on."""

    directory: Path
    engine_url: str

    def deploy(self, region: str, made: Mapping[str, Any], given: Mapping[str, str]) -> bool:
        """Deploy a template. What is not given keeps its value, and what it does not know is left
        out, as `deploy` has it. Returns whether a service that was there has another task now.

        Raises: NotDeployed where a parameter has no value, or a table is there already.
        """
        before = self._load(region)
        names = made["Parameters"]
        values = {
            name: given.get(name, before["Parameters"].get(name, entry.get("Default")))
            for name, entry in names.items()
        }
        lacking = sorted(name for name, value in values.items() if value is None)
        if lacking:
            raise NotDeployed(f"{region}: Parameters: {lacking} must have values")
        if not before["Template"]["Resources"]:
            self._make_control_table(region, made)
        self.directory.mkdir(exist_ok=True)
        document = {"Template": made, "Parameters": values}
        self._path(region).write_text(json.dumps(document), encoding="utf-8")
        tasks = [_task(before), _task(document)]
        return None not in tasks and tasks[0] != tasks[1]

    def _make_control_table(self, region: str, made: Mapping[str, Any]) -> None:
        name = made["Resources"]["ControlTable"]["Properties"]["TableName"]
        from support.tables import client  # noqa: PLC0415 - heavier than most calls need

        there = client(self.engine_url, region)
        if name in there.list_tables()["TableNames"]:
            raise NotDeployed(f"{region}: {name} already exists")
        there.create_table(**create_control_table_request(name))
        there.update_time_to_live(**time_to_live_request(name))

    def parameters(self, region: str) -> dict[str, str]:
        """What the stack was given."""
        found: dict[str, str] = self._load(region)["Parameters"]
        return found

    def image(self, region: str) -> str:
        """What the region's service runs."""
        return self.parameters(region)["Image"]

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


def _task(stack: Mapping[str, Any]) -> object:
    """The task's definition, with the values that it has from parameters."""
    task = stack["Template"]["Resources"].get("Task")
    if task is None:
        return None
    given = set(re.findall(r'"Ref": "(\w+)"', json.dumps(task)))
    return task, {name: stack["Parameters"].get(name) for name in sorted(given)}


def _policies(template: Mapping[str, Any]) -> object:
    role = template["Resources"].get("Role")
    return None if role is None else role["Properties"]["Policies"]
