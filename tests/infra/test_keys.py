"""The key of a region: everything that rests there is under it, and whoever uses it may."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.cloudformation import template
from infra.definition import MODES, Options, stack_of
from infra.terraform import module
from replicator.settings import RegionSettings, Settings, TableSettings
from support.infra_reading import from_module, from_template

HOME, AWAY = "us-east-1", "eu-west-1"
SETTINGS = Settings(
    regions={name: RegionSettings(aws_region=name) for name in (HOME, AWAY)},
    tables={"orders": TableSettings(regions=(HOME, AWAY))},
)
README = Path(__file__).parents[2] / "infra" / "README.md"


def said(mode: str, *, kms: bool) -> dict[str, Any]:
    """What both languages say of HOME, in a stack that makes its table too."""
    options = Options(mode=mode, kms=kms, create={"orders": {"id": "S"}})
    stack = stack_of(SETTINGS, HOME, options)
    found = from_template(template(stack))
    assert found == from_module(module(stack))
    return found


def keys_of(found: dict[str, Any]) -> set[str | None]:
    """What tables, logs and queues are encrypted with; None: with a key that AWS owns."""
    tables = {table["kms"] for table in found["tables"]}
    return tables | {logs[-1] for logs in found["logs"]} | {queue[-1] for queue in found["queues"]}


@pytest.mark.parametrize("mode", MODES)
def test_all_that_rests_is_under_the_key(mode: str) -> None:
    """Tables, logs, and what mappings give up; or nothing of it, where none was asked for."""
    found = said(mode, kms=True)
    assert keys_of(found) == {"<kms_key_arn>"}
    assert len(found["queues"]) == (1 if mode == "lambda" else 0)
    assert keys_of(said(mode, kms=False)) == {None}


def test_the_function_may_use_the_key_for_its_queue() -> None:
    """Mappings send there by its role, and it reads what they sent; the service has no queue."""
    through_queue = [
        statement
        for statement in said("lambda", kms=True)["roles"][f"replicator-{HOME}"]
        if statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService")
        == f"sqs.{HOME}.amazonaws.com"
    ]
    assert [s["Resource"] for s in through_queue] == [["<kms_key_arn>"]]
    assert {*through_queue[0]["Action"]} == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert "sqs" not in json.dumps(said("service", kms=True)["roles"])


@pytest.mark.parametrize("mode", MODES)
def test_the_readme_tells_what_the_keys_policy_has_to_allow(mode: str) -> None:
    """CloudWatch Logs uses it by the key's policy alone, for the group that the stack makes."""
    text = README.read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    statement = json.loads(block)
    assert statement["Principal"] == {"Service": "logs.REGION.amazonaws.com"}
    ((name, *_),) = said(mode, kms=True)["logs"]
    assert name.replace(HOME, "REGION") in text
    (context,) = statement["Condition"]["ArnEquals"].values()
    assert context.startswith("arn:aws:logs:REGION:ACCOUNT:log-group:/")
