"""What holds data outlives its stack, and is not in the way of the next one."""

from __future__ import annotations

from typing import Any

import pytest

from infra.cloudformation import template
from infra.definition import MODES, Options, Stack, stack_of
from infra.terraform import module
from replicator.settings import RegionSettings, Settings, TableSettings
from support.infra_reading import from_module, from_template

HOME, AWAY = "us-east-1", "eu-west-1"


def stack(source: str, mode: str = "lambda") -> Stack:
    """That of HOME, while this region is the source."""
    target = AWAY if source == HOME else HOME
    settings = Settings(
        regions={name: RegionSettings(aws_region=name) for name in (HOME, AWAY)},
        tables={"ledger": TableSettings(source=source, targets=(target,))},
    )
    return stack_of(settings, HOME, Options(mode=mode, create={"ledger": {"id": "S"}}))


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """The resources that have a policy for when they leave the stack, those of logs left out."""
    found = {k: r for k, r in document["Resources"].items() if "DeletionPolicy" in r}
    return {k: r for k, r in found.items() if r["DeletionPolicy"] != "Delete"}


def test_a_region_that_is_no_source_any_more_keeps_its_queue() -> None:
    """It is the same resource after a failover and after the failback: a queue that had left the
    stack would be in the way of the one that is made then."""
    before, after = kept(template(stack(HOME))), kept(template(stack(AWAY)))
    assert before["Failures"] == after["Failures"]
    assert "Function" not in template(stack(AWAY))["Resources"]
    queues = [module(stack(source))["resource"]["aws_sqs_queue"] for source in (HOME, AWAY)]
    assert queues[0] == queues[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", [HOME, AWAY])
def test_tables_and_losses_are_kept(mode: str, source: str) -> None:
    """In both languages; when they are replaced, too."""
    said = from_template(template(stack(source, mode)))
    assert said["kept"] == sorted(
        ["control_table", "table_ledger", *(["failures"] if mode == "lambda" else [])]
    )
    assert said == from_module(module(stack(source, mode)))


def test_a_first_deploy_that_is_rolled_back_takes_its_queue_along() -> None:
    """It is empty, and CloudFormation can take in a table that is there, but no queue. A table is
    protected against deletion, at which such a roll-back would fail."""
    made = template(stack(HOME))["Resources"]
    assert made["Failures"]["DeletionPolicy"] == "RetainExceptOnCreate"
    for key in ("ControlTable", "TableLedger"):
        assert made[key]["DeletionPolicy"] == "Retain"
        assert made[key]["Properties"]["DeletionProtectionEnabled"] is True
