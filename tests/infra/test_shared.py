"""Entries that read one table: its stream, its mapping and the table itself are there once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from infra.cloudformation import template
from infra.definition import MODES, Options, stack_of
from infra.generate import main
from infra.permissions import STREAM
from infra.terraform import module
from replicator.settings import RegionSettings, Settings, TableSettings
from support.infra_reading import from_module, from_template

HOME, AWAY, FAR = "us-east-1", "eu-west-1", "ap-southeast-2"
SETTINGS = Settings(
    regions={name: RegionSettings(aws_region=name) for name in (HOME, AWAY, FAR)},
    tables={
        "orders": TableSettings(regions=(HOME, AWAY)),
        "archive": TableSettings(source=HOME, targets=(FAR,), names={HOME: "orders"}),
        "open": TableSettings(
            source=HOME, targets=(AWAY,), names={HOME: "orders"}, where="status = 'open'"
        ),
        "ledger": TableSettings(source=HOME, targets=(AWAY,)),
    },
)


def said(mode: str, region: str = HOME, create: Iterable[str] = ()) -> dict[str, Any]:
    """What both languages say of a region."""
    options = Options(mode=mode, create={table: {"id": "S"} for table in create})
    stack = stack_of(SETTINGS, region, options)
    found = from_template(template(stack))
    assert found == from_module(module(stack))
    return found


def test_a_stream_has_one_mapping_whoever_reads_it() -> None:
    """A second one for the function would be refused, and the stack with it."""
    streams = [mapping[0] for mapping in said("lambda")["mappings"]]
    assert sorted(streams) == ["<failures.arn>", "<stream_arn_ledger>", "<stream_arn_orders>"]


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_is_asked_for_and_granted_once(mode: str) -> None:
    """By the first entry that reads it, and so is the table; alarms are of every entry."""
    found = said(mode)
    asked = [name for name in found["parameters"] if name.startswith("stream_arn")]
    assert asked == ["stream_arn_ledger", "stream_arn_orders"]
    statements = found["roles"][f"replicator-{HOME}"]
    (streams,) = (s["Resource"] for s in statements if set(STREAM) <= {*s["Action"]})
    assert streams == ["<stream_arn_orders>", "<stream_arn_ledger>"]
    for statement in statements:
        assert len({*statement["Resource"]}) == len(statement["Resource"])
    for table in SETTINGS.tables:
        assert any(name.endswith(f"-gap-{table}") for name in found["alarms"])


@pytest.mark.parametrize("create", ["orders", "archive"])
def test_a_table_is_made_once(create: str) -> None:
    """Whichever entry asks for it; what reads it takes the stream that is made with it."""
    found = said("lambda", create=[create])
    assert [table["name"] for table in found["tables"]] == ["orders", "replicator-control"]
    assert "stream_arn_orders" not in found["parameters"]
    assert "<table_orders.stream_arn>" in [mapping[0] for mapping in found["mappings"]]
    both = said("lambda", create=["orders", "open"])
    assert both == said("lambda", create=["orders"])


def test_a_copy_is_a_table_of_its_own() -> None:
    """One table in one region, several in another."""
    names = [table["name"] for table in said("lambda", AWAY, ["orders", "open"])["tables"]]
    assert names == ["open", "orders", "replicator-control"]


def test_two_keys_for_one_table_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, the table and the remedy, nothing written."""
    config = tmp_path / "replicator.toml"
    config.write_text(
        f"[regions.{HOME}]\n[regions.{AWAY}]\n"
        f'[tables.orders]\nregions = ["{HOME}", "{AWAY}"]\n'
        f'[tables.open]\nsource = "{HOME}"\ntargets = ["{AWAY}"]\nnames = {{ {HOME} = "orders" }}\n'
    )
    arguments = ["--config", str(config), "--out", str(tmp_path / "out")]
    keys = ["--create", "orders=id:S", "--create", "open=id:N"]
    assert main([*arguments, *keys]) == 2
    error = capsys.readouterr().err
    assert f'--create: "open": orders in {HOME} is asked for with two keys; state ' in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
