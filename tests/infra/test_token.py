"""The page's token reaches the service without standing in the file that its image holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.generate import main
from replicator.configuration import load
from replicator.errors import ConfigurationError
from support.infra_reading import from_module, from_template, module, template

HOME, AWAY = "us-east-1", "eu-west-1"
TOKEN = "REPLICATOR_HTTP__TOKEN"  # noqa: S105 - a variable's name
SECRET = "s" * 32


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever generates need not know it."""
    monkeypatch.delenv(TOKEN, raising=False)


def config_of(place: Path, http: str) -> Path:
    """A configuration with this section."""
    config = place / "replicator.toml"
    config.write_text(
        f"[regions.{HOME}]\n[regions.{AWAY}]\n[http]\n{http}\n"
        f'[tables.ledger]\nsource = "{HOME}"\ntargets = ["{AWAY}"]\n'
    )
    return config


def said(config: Path, region: str = HOME) -> dict[str, Any]:
    """What both languages say of a region that is generated as a service."""
    out = config.parent / "out"
    arguments = ["--config", str(config), "--out", str(out), "--mode", "service"]
    assert main(arguments) == 0
    found = from_template(template(out / region / "template.json"))
    assert found == from_module(module(out / region / "main.tf.json"))
    return found


def test_a_token_that_the_file_does_not_state_is_taken_as_a_secret(tmp_path: Path) -> None:
    """The file alone is refused; with what the task is given beside it, the service starts."""
    config = config_of(tmp_path, 'host = "0.0.0.0"')
    with pytest.raises(ConfigurationError, match=r"http\.token"):
        load(config, {})
    found = said(config)
    assert "token_secret_arn" in found["parameters"]
    (task,) = found["tasks"]
    assert task["secrets"] == {TOKEN: "<token_secret_arn>"}
    given = {**task["environment"], **dict.fromkeys(task["secrets"], SECRET)}
    assert load(config, given).http.secret == SECRET


def test_who_generates_may_have_a_token_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task does not get it from his environment."""
    monkeypatch.setenv(TOKEN.lower(), SECRET)
    config = config_of(tmp_path, 'host = "0.0.0.0"')
    assert "token_secret_arn" in said(config)["parameters"]
    assert SECRET not in (config.parent / "out" / HOME / "template.json").read_text()


@pytest.mark.parametrize("http", ["", f'host = "0.0.0.0"\ntoken = "{SECRET}"'])
def test_nothing_is_asked_for_where_nothing_is_missing(tmp_path: Path, http: str) -> None:
    """A page on loopback needs none, and a file may state it."""
    found = said(config_of(tmp_path, http))
    assert "token_secret_arn" not in found["parameters"]
    assert [task["secrets"] for task in found["tasks"]] == [{}]


def test_a_region_without_a_service_needs_none(tmp_path: Path) -> None:
    """A target has tables alone."""
    found = said(config_of(tmp_path, 'host = "0.0.0.0"'), AWAY)
    assert "token_secret_arn" not in found["parameters"]


@pytest.mark.parametrize(
    ("http", "mode", "text"),
    [
        ('host = "0.0.0.0"', "lambda", 'http.host: "0.0.0.0" needs a token, and a function'),
        ('host = "0.0.0.0"\nport = 0', "service", "http.port: "),
    ],
)
def test_what_would_not_start_is_refused_in_one_line(
    http: str, mode: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A function serves no page and is given no token; other mistakes stay mistakes."""
    config, out = config_of(tmp_path, http), tmp_path / "out"
    assert main(["--config", str(config), "--out", str(out), "--mode", mode]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not out.exists()
