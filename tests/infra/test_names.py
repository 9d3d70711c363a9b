"""No two things of a stack are called the same: a second one would take the first one's place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from infra.generate import main

HOME, AWAY = "us-east-1", "eu-west-1"


def config(regions: list[str], *tables: str) -> str:
    """Tables that all of these regions write, which may be called as one likes."""
    entry = '[regions."{0}"]\naws_region = "us-east-1"\nprofile = "{0}"\n'
    text = "".join(entry.format(name) for name in regions)
    members = json.dumps(regions)
    return text + "".join(f'[tables."{name}"]\nregions = {members}\n' for name in tables)


def generated(text: str, place: Path, mode: str = "lambda", create: Iterable[str] = ()) -> int:
    """The exit status of generating the templates of a configuration."""
    file = place / "replicator.toml"
    file.write_text(text)
    made = [word for table in create for word in ("--create", f"{table}=id:S")]
    return main(["--config", str(file), "--out", str(place / "out"), "--mode", mode, *made])


@pytest.mark.parametrize("mode", ["lambda", "service"])
@pytest.mark.parametrize("other", ["orders_v1", "orders.v1", "OrdersV1", "Orders-V1", "ordersV1"])
def test_tables_that_a_template_cannot_tell_apart_are_refused(
    other: str, mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By signs or capitals alone, in either language: exit status 2, both names and the remedy in
    one line, nothing written."""
    first = "orders-v1"
    assert generated(config([HOME, AWAY], first, other), tmp_path, mode) == 2
    said = capsys.readouterr().err
    assert f'tables: "{first}" and "{other}" would be called the same in the stack of ' in said
    assert "give one of them another name" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (config(["a.b", "a-b"], "orders"), 'regions: "a.b" and "a-b" would be called the same'),
        (
            config(["us", "eu"], "home-orders", "orders-eu"),
            "the alarm replicator-us-quarantine-home-orders-eu and the alarm replicator-us-",
        ),
        (
            config([HOME, AWAY], "failures"),
            "a mapping and a queue mapping would both be called MappingFailures",
        ),
    ],
    ids=["regions", "alarms", "queue"],
)
def test_whatever_would_take_anothers_place_is_refused(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a table's name begins as that of a kind ends, or is that of something else."""
    assert generated(text, tmp_path) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_tables_of_different_stacks_may_be_called_alike(tmp_path: Path) -> None:
    """They never meet."""
    text = config([HOME, AWAY], "orders-v1")
    far = config(["ap-south-1", "ap-east-1"], "orders_v1")
    assert generated(text + far, tmp_path) == 0


BOTH_WAYS = f"""[regions.{HOME}]
[regions.{AWAY}]
[tables.orders]
source = "{HOME}"
targets = ["{AWAY}"]
[tables.Orders]
source = "{AWAY}"
targets = ["{HOME}"]
"""


def test_a_target_is_not_named_in_its_stack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what is read there is, so that tables which go opposite ways may be called alike. After
    an unplanned failover both are read in both, which is told."""
    assert generated(BOTH_WAYS, tmp_path) == 0
    said = capsys.readouterr().err
    assert "warning: mend this now, for after an unplanned failover" in said
    assert 'tables: "orders" and "Orders" would be called the same in the stack of ' in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("create", [["Orders"], ["orders", "Orders"]])
def test_a_target_that_is_made_is_named_in_its_stack(
    create: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside what is read or made there."""
    assert generated(BOTH_WAYS, tmp_path, create=create) == 2
    said = capsys.readouterr().err
    assert f"would be called the same in the stack of {HOME}, where" in said
    assert said.count("\n") == 1


def test_a_target_does_not_name_the_regions_that_write_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may be called alike until it is a source itself."""
    text = f"[regions.{AWAY}]\n"
    for region, table in (("us-1", "orders"), ("us_1", "ledger")):
        text += f'[regions.{region}]\naws_region = "us-east-1"\nprofile = "{region}"\n'
        text += f'[tables.{table}]\nsource = "{region}"\ntargets = ["{AWAY}"]\n'
    assert generated(text, tmp_path) == 0
    assert 'regions: "us-1" and "us_1" would be called the same' in capsys.readouterr().err
