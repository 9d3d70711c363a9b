"""Regions of several accounts: every region is entered by a role that its own stack makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.cloudformation import template
from infra.definition import MODES, Options, stack_of
from infra.generate import files, main
from infra.permissions import STREAM
from infra.terraform import module
from replicator.settings import RegionSettings, Settings, TableSettings
from support.infra_reading import from_module, from_template

HOME, AWAY = "us-east-1", "eu-west-1"
ROLES = {HOME: "arn:aws:iam::111111111111:role/enter", AWAY: "arn:aws:iam::222222222222:role/enter"}


def settings_of(roles: dict[str, str], **tables: TableSettings) -> Settings:
    """Two regions, with the roles that are given."""
    regions = {
        name: RegionSettings(aws_region=name, role_arn=roles.get(name)) for name in (HOME, AWAY)
    }
    every = {"orders": TableSettings(regions=(HOME, AWAY))}
    return Settings(regions=regions, tables=tables or every)


def may(statements: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Every action with every resource."""
    return {(a, r) for s in statements for a in s["Action"] for r in s["Resource"]}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("region", "other"), [(HOME, AWAY), (AWAY, HOME)])
def test_a_source_in_another_account_is_entered_by_its_own_role(
    mode: str, region: str, other: str
) -> None:
    """Its replicator assumes both roles, as it opens both regions. Its own role has the tables and
    the control table of that region, streams included, and nobody is granted the other's."""
    stack = stack_of(settings_of(ROLES), region, Options(mode=mode))
    said = from_template(template(stack))
    assert said == from_module(module(stack))
    own, entered = may(said["roles"][f"replicator-{region}"]), may(said["roles"]["enter"])
    assert {r for a, r in own if a == "sts:AssumeRole"} == {*ROLES.values()}
    assert not {r for _, r in own | entered if f":{other}:" in r}
    place = f"arn:<partition>:dynamodb:{region}:<account>:table/"
    for table in ("orders", "replicator-control"):
        assert {("dynamodb:PutItem", place + table), ("dynamodb:UpdateItem", place + table)} <= (
            entered
        )
    streams = {(action, "<stream_arn_orders>") for action in STREAM}
    assert streams <= entered
    assert streams & own == (streams if mode == "lambda" else set())
    assert said["trust"]["enter"] == (
        "sts:AssumeRole by AWS <role.arn>; sts:AssumeRole by AWS <trusted_role_arns>"
    )


def test_a_mapping_reads_a_stream_whose_key_its_role_may_use() -> None:
    """The function's own role reads it, whatever role the function enters the tables by."""
    said = from_template(template(stack_of(settings_of(ROLES), AWAY, Options(mode="lambda"))))
    own = may(said["roles"][f"replicator-{AWAY}"])
    assert ("kms:Decrypt", "<kms_key_arn>") in own
    service = from_template(template(stack_of(settings_of(ROLES), AWAY, Options(mode="service"))))
    assert not any("kms" in action for action, _ in may(service["roles"][f"replicator-{AWAY}"]))


@pytest.mark.parametrize("path", ["/", "/team/", "/team/data/"])
def test_a_role_has_the_arn_that_the_configuration_says(path: str) -> None:
    """Its path is part of the ARN that is assumed, and that the policies of others grant."""
    arn = f"arn:aws:iam::222222222222:role{path}enter"
    stack = stack_of(settings_of({**ROLES, AWAY: arn}), AWAY, Options())
    said = from_template(template(stack))
    assert said["paths"] == {f"replicator-{AWAY}": "/", "enter": path}
    assert said == from_module(module(stack))
    assert arn in {r for _, r in may(said["roles"][f"replicator-{AWAY}"])}


def test_a_role_that_no_other_region_uses_trusts_its_own_alone() -> None:
    """Then there is nobody to be named, and no parameter that asks for it."""
    one_way = TableSettings(source=HOME, targets=(AWAY,))
    stack = stack_of(settings_of(ROLES, ledger=one_way), HOME, Options())
    said = from_template(template(stack))
    assert said["trust"]["enter"] == "sts:AssumeRole by AWS <role.arn>"
    assert "trusted_role_arns" not in said["parameters"]
    assert said == from_module(module(stack))


@pytest.mark.parametrize(
    ("away", "home", "text"),
    [
        (ROLES[AWAY], "", f"regions.{HOME}: has no role_arn"),
        (ROLES[HOME], ROLES[HOME], f"regions.{AWAY}.role_arn: is that of {HOME} too"),
        (
            ROLES[HOME].replace("role/", "role/team/"),
            ROLES[HOME],
            f"regions.{AWAY}.role_arn: is that of {HOME} too",
        ),
    ],
)
def test_roles_that_cannot_work_are_refused_in_one_line(
    away: str, home: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A region without a role would be sought in the account of whoever opens it; and two stacks
    cannot make one role. Exit status 2, the remedy, nothing written."""
    config = tmp_path / "replicator.toml"
    config.write_text(
        f"[regions.{HOME}]\n"
        + (f'role_arn = "{home}"\n' if home else "")
        + f'[regions.{AWAY}]\nrole_arn = "{away}"\n'
        + f'[tables.orders]\nregions = ["{HOME}", "{AWAY}"]\n'
    )
    assert main(["--config", str(config), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert "give " in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def of_one_way(place: Path, home: str, ledger: str = "") -> list[str]:
    """The arguments for a table with a copy in another account."""
    config = place / "replicator.toml"
    config.write_text(
        f'[regions.{HOME}]\n{home}\n[regions.{AWAY}]\nrole_arn = "{ROLES[AWAY]}"\n'
        f'[tables.ledger]\nsource = "{HOME}"\ntargets = ["{AWAY}"]\n{ledger}\n'
    )
    return ["--config", str(config), "--out", str(place / "out")]


def test_a_role_of_whoever_generates_is_not_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it he enters a region with his own commands, whether or not it has one in the file. What
    else he sets counts."""
    arguments, out = of_one_way(tmp_path, ""), tmp_path / "out"
    assert main(arguments) == 0
    made = {place: place.read_text(encoding="utf-8") for place in out.rglob("*.json")}
    for name, operator in (("US_EAST_1__ROLE_ARN", "a"), ("eu_west_1__role_arn", "b")):
        role = f"arn:aws:iam::333333333333:role/{operator}"
        monkeypatch.setenv(f"REPLICATOR_REGIONS__{name}", role)
    assert main(arguments) == 0
    assert {place: place.read_text(encoding="utf-8") for place in out.rglob("*.json")} == made
    monkeypatch.setenv("REPLICATOR_CONTROL_TABLE", "other-control")
    assert main(arguments) == 0
    assert "other-control" in (out / HOME / "template.json").read_text(encoding="utf-8")


def test_what_an_unplanned_failover_will_ask_for_is_told_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every member writes then, and a refusal would come when stacks are needed most. One line with
    the region, the table and the remedy; what is asked for now is written."""
    assert main(of_one_way(tmp_path, "")) == 0
    said = capsys.readouterr()
    assert said.err.startswith(
        "infra.generate: warning: mend this now, for after an unplanned fail"
    )
    assert f"regions.{HOME}: has no role_arn, and the replicator of {AWAY}, which" in said.err
    assert said.err.endswith("opens it for tables.ledger; give it one too\n")
    assert said.err.count("\n") == 1
    assert len([*(tmp_path / "out").rglob("*.json")]) == len(said.out.splitlines()) == 4


@pytest.mark.parametrize(
    ("home", "ledger"),
    [(f'role_arn = "{ROLES[HOME]}"', ""), ("", 'without = ["note"]')],
    ids=["with a role", "never handed over"],
)
def test_nothing_is_told_where_an_unplanned_failover_asks_for_nothing(
    home: str, ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the role, or where the copies hold too little to take the source's place."""
    assert main(of_one_way(tmp_path, home, ledger)) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("mode", MODES)
def test_the_example_is_told_nothing(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is shipped can be failed over."""
    config = Path(__file__).parents[2] / "infra" / "example" / "replicator.toml"
    assert main(["--config", str(config), "--out", str(tmp_path), "--mode", mode]) == 0
    assert capsys.readouterr().err == ""


def test_a_target_alone_may_be_in_another_account() -> None:
    """Nobody reads there, so that its stack has the role and nothing that would open a region."""
    one_way = TableSettings(source=HOME, targets=(AWAY,))
    settings = settings_of({AWAY: ROLES[AWAY]}, ledger=one_way)
    assert files(settings, Options())
    said = from_template(template(stack_of(settings, AWAY, Options())))
    assert said["trust"] == {"enter": "sts:AssumeRole by AWS <trusted_role_arns>"}
    assert not any(action in STREAM for action, _ in may(said["roles"]["enter"]))
