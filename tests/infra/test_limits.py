"""What AWS would refuse is refused here: limits are counted in what is rendered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from infra import limits
from infra.definition import MODES, Options, stack_of
from infra.generate import files, main
from infra.limits import POLICY_CHARACTERS_MAX, counted
from infra.terraform import module
from replicator.errors import ConfigurationError
from replicator.settings import RegionSettings, Settings, TableSettings
from support.infra_reading import from_module

README = Path(__file__).parents[2] / "infra" / "README.md"
HOME, AWAY = "us-east-1", "eu-west-1"
ARNS = {
    "partition": "aws",
    "account": "123456789012",
    "failures.arn": f"arn:aws:sqs:{HOME}:123456789012:replicator-{HOME}-failures",
    "logs.arn": f"arn:aws:logs:{HOME}:123456789012:log-group:/aws/lambda/replicator-{HOME}",
    "kms_key_arn": f"arn:aws:kms:{HOME}:123456789012:key/{'0' * 8}-0000-0000-0000-{'0' * 12}",
    "kms_key_arn_eu_west1": f"arn:aws:kms:{AWAY}:123456789012:key/mrk-{'0' * 32}",
}


def settings_of(tables: int, *, roles: bool = False) -> Settings:
    """That many tables, which two regions write."""
    accounts = {HOME: "1" * 12, AWAY: "2" * 12}
    return Settings(
        regions={
            name: RegionSettings(
                aws_region=name, role_arn=f"arn:aws:iam::{account}:role/enter" if roles else None
            )
            for name, account in accounts.items()
        },
        tables={f"table-{n:03}": TableSettings(regions=(HOME, AWAY)) for n in range(tables)},
    )


def characters(settings: Settings, mode: str) -> int:
    """Of the policy of HOME's service as it is deployed, read from the module: with real ARNs."""
    found = from_module(module(stack_of(settings, HOME, Options(mode=mode))))
    arns = ARNS | {
        f"stream_arn_{name.replace('-', '')}": (
            f"arn:aws:dynamodb:{HOME}:123456789012:table/{name}/stream/2026-11-27T00:00:00.000"
        )
        for name in settings.tables
    }
    policy = {"Version": "2012-10-17", "Statement": found["roles"][f"replicator-{HOME}"]}
    text = re.sub(r"<([\w.]+)>", lambda name: arns[name.group(1)], json.dumps(policy))
    return len("".join(text.split()))


@pytest.mark.parametrize("tables", [1, 20])
@pytest.mark.parametrize("mode", MODES)
def test_a_policy_is_counted_as_iam_will_see_it(mode: str, tables: int) -> None:
    """With ARNs in the place of what stands for them; by a few characters too many at most."""
    settings = settings_of(tables)
    (what, count, limit), *_ = counted(settings, stack_of(settings, HOME, Options(mode=mode)), "")
    assert what.endswith(f"in the role replicator-{HOME}")
    assert limit == POLICY_CHARACTERS_MAX
    assert 0 <= count - characters(settings, mode) <= 20


@pytest.mark.parametrize("mode", MODES)
def test_too_many_tables_are_refused_in_one_line(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the limit, the count and the remedy, and nothing is written; as many as infra/README.md
    says are accepted."""
    told = re.search(r"some (\d+) tables of two regions", README.read_text(encoding="utf-8"))
    assert told is not None
    files(settings_of(int(told[1])), Options(mode=mode))
    config = tmp_path / "replicator.toml"
    members = json.dumps((HOME, AWAY))
    config.write_text(
        f"[regions.{HOME}]\n[regions.{AWAY}]\n"
        + "".join(f"[tables.table-{n:03}]\nregions = {members}\n" for n in range(42))
    )
    out = tmp_path / "out"
    assert main(["--config", str(config), "--out", str(out), "--mode", mode]) == 2
    said = capsys.readouterr().err
    assert f"regions.{HOME}: characters of policy in the role replicator-{HOME}: 1" in said
    assert "and AWS takes 10,240; split the configuration into several, see infra/README" in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("RESOURCES_MAX", "resources in its template: 3"),
        ("PARAMETERS_MAX", "parameters of its template: "),
        ("TEMPLATE_BYTES_MAX", "bytes of its template: "),
    ],
)
def test_whatever_a_template_may_not_exceed_is_counted(
    limit: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the limits, made smaller here."""
    files(settings_of(2), Options())
    monkeypatch.setattr(limits, limit, 5)
    with pytest.raises(ConfigurationError) as refused:
        files(settings_of(2), Options())
    assert f"regions.{HOME}: {text}" in str(refused.value)
    assert "and AWS takes 5; split" in str(refused.value)


def named(region: str = HOME, table: str = "orders", role: str | None = None) -> Settings:
    """A table that a region, called so, writes to another."""
    entered = None if role is None else f"arn:aws:iam::111111111111:role/{role}"
    return Settings(
        regions={
            region: RegionSettings(aws_region=HOME, role_arn=entered),
            AWAY: RegionSettings(aws_region=AWAY, role_arn="arn:aws:iam::222222222222:role/enter"),
        },
        tables={table: TableSettings(source=region, targets=(AWAY,))},
    )


LONGEST_TABLE = "t" * (255 - len(f"replicator-{HOME}-backlog-12h--{AWAY}"))


@pytest.mark.parametrize(
    ("mode", "accepted", "refused", "text"),
    [
        ("lambda", {"region": "r" * 53}, {"region": "r" * 54}, 'function, "replicator-rr'),
        ("service", {"region": "r" * 53}, {"region": "r" * 54}, 'role, "replicator-rrr'),
        ("lambda", {"region": "a_b-c"}, {"region": "a.b"}, 'queue, "replicator-a.b-failures": AWS'),
        ("service", {"region": "a_b-c"}, {"region": "a.b"}, 'task, "replicator-a.b": AWS takes le'),
        ("lambda", {"table": LONGEST_TABLE}, {"table": f"{LONGEST_TABLE}t"}, "alarm, "),
        ("service", {"role": "a/b/+=,.@-_"}, {"role": "a/b/c:d"}, 'role, "c:d": AWS takes letters'),
        ("service", {"role": "r" * 64}, {"role": "r" * 65}, 'role, "rrrrr'),
        ("service", {"role": "a/b"}, {"role": "a/"}, 'role, "": AWS takes'),
    ],
)
def test_names_that_aws_refuses_are_refused_in_one_line(
    mode: str, accepted: dict[str, str], refused: dict[str, str], text: str
) -> None:
    """By length or by signs, with the thing and the remedy; the longest that AWS takes is taken."""
    options = Options(mode=mode)
    assert files(named(**accepted), options)
    with pytest.raises(ConfigurationError) as error:
        files(named(**refused), options)
    said = str(error.value)
    assert said.startswith(f"regions.{refused.get('region', HOME)}")
    assert f": the name of its {text}" in said
    assert re.search(r"AWS takes (\d+|letters, digits and .* only); (give the|name another)", said)
    assert "\n" not in said


def test_whatever_has_a_name_has_a_limit() -> None:
    """A kind that is added is looked at too: the table names each that is rendered."""
    kinds = {"alarm"}
    for mode in MODES:
        stack = stack_of(settings_of(1, roles=True), HOME, Options(mode=mode))
        kinds |= {made.kind for made in stack.resources if "name" in made.properties}
    assert kinds == {*limits.NAMES}


def test_a_role_that_others_enter_by_is_counted_too() -> None:
    """It is of all tables of its region, whoever reads them."""
    settings = settings_of(2, roles=True)
    stack = stack_of(settings, HOME, Options())
    roles = [what.rpartition(" ")[2] for what, *_ in counted(settings, stack, "") if "role" in what]
    assert roles == [f"replicator-{HOME}", "enter"]


@pytest.mark.parametrize("mode", MODES)
def test_a_split_configuration_goes_beside_the_first(mode: str) -> None:
    """Into one account and region, as infra/README.md says: nothing is made under the same name."""
    names = {f"second-{name}": name for name in (HOME, AWAY)}
    second = Settings(
        regions={name: RegionSettings(aws_region=place) for name, place in names.items()},
        tables={"more": TableSettings(regions=tuple(names))},
        control_table="second-control",
    )
    made = made_by(settings_of(2), HOME, mode), made_by(second, f"second-{HOME}", mode)
    assert len(made[0]) > len(made[1]) > 5
    assert not made[0] & made[1]


def made_by(settings: Settings, region: str, mode: str) -> set[str]:
    """The names of tables, roles, functions, queues, log groups, services, alarms, dashboards."""
    resources = module(stack_of(settings, region, Options(mode=mode)))["resource"]
    names = ("name", "function_name", "alarm_name", "dashboard_name", "family")
    return {
        f"{kind} {made[name]}"
        for kind, some in resources.items()
        if kind != "aws_iam_role_policy"  # within its role
        for made in some.values()
        for name in names
        if not made.get(name, "$").startswith("$")  # a reference to what is named elsewhere
    }
