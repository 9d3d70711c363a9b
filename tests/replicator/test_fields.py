"""The status document is documented: each field, and nothing that is not there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import readme
from replicator import fields
from replicator.clock import SystemClock
from replicator.control import ControlTable
from replicator.exporting import PushStats
from replicator.ledger import Ledger, Secret
from replicator.records import Gap
from replicator.run import _snapshot
from replicator.telemetry import PipelineStats
from support.ledgers import MemoryControl


def full_document() -> dict[str, Any]:
    """A status document with nothing left out, as `run` puts it together."""
    stats = PipelineStats(table="orders", source="us", mode="multi-writer", targets=("eu", "ap"))
    stats.gap = Gap(table="t", source="us", stream_arn="a", shard="s", since_us=1, reason="x")
    control = ControlTable(api=MemoryControl(), name="control")
    ledger = Ledger(
        region="us",
        control=control,
        secret=Secret(control, None),
        clock=SystemClock(),
        sleep=asyncio.sleep,
    )
    document = _snapshot([stats], {"us": ledger}, SystemClock())()
    push = PushStats(endpoint="http://127.0.0.1:4318")
    telemetry = {name: getattr(push, name) for name in ("endpoint", "pushed", "failed", "error")}
    return {**document, "telemetry": {"otlp": telemetry}}


def test_every_field_is_documented_and_every_documented_field_is_there() -> None:
    """A reader of the JSON can rely on the list."""
    assert fields.paths(full_document()) == fields.documented()


def test_the_document_is_json() -> None:
    """As it stands, in plain values."""
    document = full_document()
    assert json.loads(json.dumps(document)) == document


def test_the_table_in_the_readme_is_the_list() -> None:
    """README.md shows what the code gives."""
    shown = readme.section(readme.README.read_text(encoding="utf-8"), "status-fields")
    assert shown == fields.table() + "\n", f"refresh it: {readme.REFRESH}"


def test_a_field_is_documented_once() -> None:
    """Two meanings would be none."""
    names = [prefix + name for prefix, told, _ in fields.FIELDS for name in told.split(", ")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"a": 1, "b": None}, {"a", "b"}),
        ({"a": {"b": [{"c": 1}, {"d": 2}]}}, {"a.b[].c", "a.b[].d"}),
        ({"exposure": {"us": {"x": 1}, "eu": {"x": 2}}}, {"exposure.REGION.x"}),
        ({"exposure": {}}, set()),
    ],
)
def test_paths_are_told_of_values_alone(document: dict[str, Any], found: set[str]) -> None:
    """What holds others is no field; regions' names are data."""
    assert fields.paths(document) == found
