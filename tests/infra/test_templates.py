"""The templates: what is committed is what is generated, both languages say the same, no `*`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra import cloudformation
from infra.alarms import NAMESPACE, RULES, alarms_of
from infra.definition import MODES, Options, stack_of
from infra.generate import files, main
from infra.names import snake
from replicator import emf
from replicator.configuration import load
from replicator.metrics import BY_NAME, DIMENSIONS
from replicator.settings import RegionSettings
from support.infra_reading import from_module, from_template, module, template

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "infra" / "example"
SETTINGS = load(EXAMPLE / "replicator.toml", {})
PLACES = [(mode, region) for mode in MODES for region in SETTINGS.regions]
OURS = ("us-east-1", "eu-west-1")
WITH_WILDCARD = re.compile(r"^<logs\.arn>:log-stream:\*$")
"""The one exception: the names of log streams are Lambda's to give."""

NEVER = re.compile(r"dynamodb:(?!Delete(Item)$)(Create|Delete|Update(?!Item$)|Import|Restore|Tag)")
REQUIRED = {
    "lag", "backlog-4h", "backlog-12h", "backlog-20h", "heartbeat", "gap", "quarantine",
    "conflict-storm", "throttles", "iterator-age", "clock-skew",
}  # fmt: skip


def places(mode: str, region: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two documents of a region."""
    directory = EXAMPLE / mode / region
    return template(directory / "template.json"), module(directory / "main.tf.json")


@pytest.mark.parametrize("mode", MODES)
def test_what_is_committed_is_what_is_generated(mode: str) -> None:
    """Mended by `python -m infra.generate`, see infra/README.md."""
    made = files(SETTINGS, Options(mode=mode))
    there = {path.relative_to(EXAMPLE / mode) for path in (EXAMPLE / mode).rglob("*.json")}
    assert there == set(made)
    for path, text in made.items():
        assert (EXAMPLE / mode / path).read_text(encoding="utf-8") == text, path


@pytest.mark.parametrize(("mode", "region"), PLACES)
def test_both_languages_say_the_same(mode: str, region: str) -> None:
    """Actions, ARNs, conditions, settings, alarms and tables, as read from the files."""
    cfn, tf = places(mode, region)
    said, also = from_template(cfn), from_module(tf)
    for part in said:
        assert said[part] == also[part], part


def test_the_comparison_would_notice(tmp_path: Path) -> None:
    """One action, one threshold or one setting changed in one file is a difference."""
    _, tf = places("lambda", "us-east-1")
    model = from_module(tf)
    for old, new in (
        ("dynamodb:GetRecords", "dynamodb:ListStreams"),
        ('"threshold": 300', '"threshold": 301'),
        ('"maximum_retry_attempts": -1', '"maximum_retry_attempts": 3'),
    ):
        text = json.dumps(tf)
        assert old in text
        assert from_module(json.loads(text.replace(old, new))) != model


@pytest.mark.parametrize(("mode", "region"), PLACES)
def test_exact_actions_on_exact_arns(mode: str, region: str) -> None:
    """No `*`, nothing that makes or changes a table, keys only through DynamoDB."""
    for name, statements in from_template(places(mode, region)[0])["roles"].items():
        for statement in statements:
            assert statement["Effect"] == "Allow"
            for action in statement["Action"]:
                assert "*" not in action, name
                assert not NEVER.match(action), action
            for resource in statement["Resource"]:
                assert "*" not in resource or WITH_WILDCARD.match(resource), resource
            if any(action.startswith("kms:") for action in statement["Action"]):
                assert "kms:ViaService" in statement["Condition"]["StringEquals"]


@pytest.mark.parametrize("mode", MODES)
def test_a_one_way_source_is_only_read(mode: str) -> None:
    """And only the table of that name; its copies are written and read. By roles or without."""
    by_roles = [
        from_template(places(mode, region)[0])["roles"][f"replicator-access-{region}"]
        for region in OURS
    ]
    regions = {name: RegionSettings(aws_region=name) for name in SETTINGS.regions}
    plain = SETTINGS.model_copy(update={"regions": regions})
    stack = stack_of(plain, "us-east-1", Options(mode=mode))
    (directly,) = from_template(cloudformation.template(stack))["roles"].values()
    for statements in (by_roles[0] + by_roles[1], directly):
        only_reads_its_source(statements)


def only_reads_its_source(statements: list[dict[str, Any]]) -> None:
    """What is granted on a ledger, one way from us-east-1 to eu-west-1."""
    may: dict[str, set[str]] = {}
    for statement in statements:
        for resource in statement["Resource"]:
            may.setdefault(resource, set()).update(statement["Action"])
    source = may["arn:<partition>:dynamodb:us-east-1:<account>:table/ledger"]
    copy = may["arn:<partition>:dynamodb:eu-west-1:<account>:table/ledger"]
    writes = {"dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:UpdateItem"}
    assert not source & writes
    assert copy & writes == writes - {"dynamodb:UpdateItem"}


def test_a_region_is_entered_by_its_role_alone() -> None:
    """The service may assume those roles; what it may do there stands in each region's stack."""
    home = from_template(places("lambda", "us-east-1")[0])["roles"]["replicator-us-east-1"]
    assumed = [s["Resource"] for s in home if s["Action"] == ["sts:AssumeRole"]]
    assert assumed == [
        ["arn:aws:iam::111111111111:role/replicator-access-us-east-1"],
        ["arn:aws:iam::111111111111:role/replicator-access-eu-west-1"],
        ["arn:aws:iam::222222222222:role/replicator-access"],
    ]
    assert not any(":table/" in r for s in home for r in s["Resource"])
    there = from_template(places("lambda", "ap-southeast-2")[0])
    assert there["trust"] == {"replicator-access": "sts:AssumeRole by AWS <trusted_role_arns>"}
    arn = "arn:<partition>:dynamodb:ap-southeast-2:<account>:table/ledger-copy"
    assert any(arn in statement["Resource"] for statement in there["roles"]["replicator-access"])


def test_mappings_are_set_as_the_readme_says() -> None:
    """Partial batch responses are on, no number of attempts drops a record, failures have a
    destination: the table in README.md gives value and reason of each."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", readme, re.MULTILINE))
    cfn, _ = places("lambda", "us-east-1")
    mappings = [
        r["Properties"]
        for r in cfn["Resources"].values()
        if r["Type"] == "AWS::Lambda::EventSourceMapping" and "StartingPosition" in r["Properties"]
    ]
    assert len(mappings) == 2
    for mapping in mappings:
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["BisectBatchOnFunctionError"] is True
        assert mapping["StartingPosition"] in told["StartingPosition"]
        assert mapping["DestinationConfig"]["OnFailure"]["Destination"]
        for name in (
            "BatchSize",
            "MaximumBatchingWindowInSeconds",
            "ParallelizationFactor",
            "MaximumRetryAttempts",
            "MaximumRecordAgeInSeconds",
        ):
            number = re.match(r"-?[\d,]+", told[name])
            assert number is not None, name
            assert mapping[name] == int(number.group().rstrip(",").replace(",", "")), name


@pytest.mark.parametrize(("mode", "name"), [("lambda", "CodeKey"), ("service", "Image")])
def test_a_new_package_is_deployed_by_its_name(mode: str, name: str) -> None:
    """A deploy sees no more of it, so that whoever deploys is told to give each its own: where the
    parameter is asked for, and with the commands. None is taken without being named."""
    readme = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
    cfn, tf = places(mode, "us-east-1")
    for asked in (cfn["Parameters"][name], tf["variable"][snake(name)]):
        assert "each has its own" in asked.get("Description", asked.get("description"))
        assert not {"Default", "default"} & set(asked)
    assert f"{name}=${snake(name).upper()}" in readme
    assert f"`{snake(name)}`" in readme


def test_what_mappings_give_up_comes_back_to_the_function() -> None:
    """The queue has a mapping of its own, whose unread messages stay; it hides them for longer than
    an invocation lasts, and the role may read and delete them."""
    cfn, _ = places("lambda", "us-east-1")
    (mapping,) = (
        r["Properties"]
        for r in cfn["Resources"].values()
        if r["Type"] == "AWS::Lambda::EventSourceMapping"
        and "StartingPosition" not in r["Properties"]
    )
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["Failures", "Arn"]}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    timeout_s = cfn["Resources"]["Function"]["Properties"]["Timeout"]
    assert cfn["Resources"]["Failures"]["Properties"]["VisibilityTimeout"] >= 6 * timeout_s
    role = from_template(cfn)["roles"]["replicator-us-east-1"]
    may = {action for s in role if s["Resource"] == ["<failures.arn>"] for action in s["Action"]}
    assert may == {f"sqs:{name}Message" for name in ("Send", "Receive", "Delete")} | {
        "sqs:GetQueueAttributes"
    }


def test_a_table_that_is_written_to_and_not_read_is_told_under_lambda() -> None:
    """By AWS's count of its writes, under its name there, and by what the function read."""
    found = [a for a in alarms_of(SETTINGS, "us-east-1", "lambda") if a.kind == "heartbeat"]
    assert {a.written for a in found} == {"orders", "ledger"}
    for alarm in found:
        read, writes = alarm.inputs["read"], alarm.inputs["writes"]
        assert dict(read.dimensions) == {"table": alarm.dimensions["table"], "source": "us-east-1"}
        assert writes.metric == "ConsumedWriteCapacityUnits"
        assert dict(writes.dimensions) == {"TableName": alarm.written}
    cfn, _ = places("lambda", "us-east-1")
    (properties,) = (
        r["Properties"]
        for r in cfn["Resources"].values()
        if r["Properties"].get("AlarmName") == "replicator-us-east-1-heartbeat-orders"
    )
    assert [q["Id"] for q in properties["Metrics"] if q["ReturnData"]] == ["watched"]
    assert not {"MetricName", "Namespace", "Period"} & set(properties)


def test_every_alarm_names_a_runbook_that_is_there() -> None:
    """None is missing that the issue asks for, each mode has all that it can have."""
    for rule in RULES:
        assert (ROOT / "runbooks" / f"{rule.runbook}.md").is_file(), rule.kind
    assert {rule.kind for rule in RULES} >= REQUIRED
    for mode, region in PLACES[:2]:
        alarms = from_template(places(mode, region)[0])["alarms"]
        for name, (description, *_) in alarms.items():
            (named,) = re.findall(r"Runbook: (runbooks/[a-z-]+\.md)$", description)
            assert (ROOT / named).is_file(), name


@pytest.mark.parametrize("mode", MODES)
def test_alarms_watch_metrics_that_there_are(mode: str) -> None:
    """By the one list of metrics, under the names and dimensions that CloudWatch is told; an
    outcome is part of a name."""
    told = {
        ".".join((name, outcome) if outcome else (name,)): set(DIMENSIONS[metric.scope])
        for name, metric in BY_NAME.items()
        for outcome in (metric.by[1] if metric.by else (None,))
    }
    for region in OURS:
        for alarm in alarms_of(SETTINGS, region, mode):
            if alarm.namespace == NAMESPACE:
                assert told[alarm.metric] == set(alarm.dimensions), alarm.name
            else:
                assert alarm.namespace in ("AWS/Lambda", "AWS/SQS")
    assert NAMESPACE == emf.NAMESPACE


def test_cfn_lint_finds_nothing() -> None:
    """Every template, by AWS's own resource specification."""
    options = ("--non-zero-exit-code", "informational")
    templates = [str(path) for path in sorted(EXAMPLE.rglob("template.json"))]
    done = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", *options, *templates],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("mode", "region"), PLACES)
def test_terraform_refers_to_what_there_is(mode: str, region: str) -> None:
    """Each variable is declared and used, each resource that is named is there."""
    _, tf = places(mode, region)
    text = json.dumps(tf["resource"])
    used = set(re.findall(r"var\.(\w+)", text))
    assert used == set(tf["variable"])
    named = set(re.findall(r"\b(aws_\w+)\.(\w+)\.\w+", text))
    data = {(kind, name) for kind, names in tf["data"].items() for name in names}
    for kind, name in named - data:
        assert name in tf["resource"][kind]


def terraform(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the binary, if there is one."""
    binary = shutil.which("terraform")
    if binary is None:
        pytest.skip("engine unavailable: terraform is not installed: its modules go unchecked")
    return subprocess.run(
        [binary, f"-chdir={directory}", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(("mode", "region"), PLACES)
def test_terraform_reads_its_modules(mode: str, region: str, tmp_path: Path) -> None:
    """The binary takes each for configuration, and finds the one provider that it asks for."""
    shutil.copy(EXAMPLE / mode / region / "main.tf.json", tmp_path)
    read = terraform(tmp_path, "providers")
    assert read.returncode == 0, read.stderr
    assert "provider[registry.terraform.io/hashicorp/aws] >= 5.60" in read.stdout


def test_terraform_validates_its_modules(tmp_path: Path) -> None:
    """By the provider's schema, where that can be fetched."""
    for mode, region in PLACES:
        directory = tmp_path / f"{mode}-{region}"
        directory.mkdir()
        shutil.copy(EXAMPLE / mode / region / "main.tf.json", directory)
        if terraform(directory, "init", "-backend=false", "-input=false").returncode != 0:
            pytest.skip(
                "engine unavailable: terraform cannot fetch its AWS provider: modules are read, "
                "and not validated by its schema"
            )
        valid = terraform(directory, "validate", "-no-color")
        assert valid.returncode == 0, valid.stdout + valid.stderr


@pytest.mark.parametrize(
    ("option", "text"),
    [("others=id:S", "is no table"), ("orders=id", "is no key"), ("orders=id:X", "is no key")],
)
def test_a_wrong_option_is_one_line(
    option: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, the thing and the remedy, nothing written."""
    config = EXAMPLE / "replicator.toml"
    arguments = ["--config", str(config), "--out", str(tmp_path / "out"), "--create", option]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_place_that_is_no_directory_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    """Exit status 2, the option and the remedy; what stands there is kept."""
    (tmp_path / "file").write_text("kept")
    config = EXAMPLE / "replicator.toml"
    assert main(["--config", str(config), "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"infra.generate: --out: {tmp_path / out}/")
    assert said.err.endswith(": not written: Not a directory; name another directory\n")
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert (tmp_path / "file").read_text() == "kept"
