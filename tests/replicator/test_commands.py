"""The commands where a region does not answer: what is left undone is told, the rest is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replicator.cli import main
from replicator.commands import tables, watching
from replicator.errors import Transient
from replicator.ports import Api
from replicator.settings import Settings
from support.ledgers import MemoryControl
from support.scripted_api import ScriptedApi

HOME, AWAY = "us-east-1", "eu-west-1"
DOWN = Transient("PutItem: no answer")
TEXT = f"""[regions.{HOME}]
[regions.{AWAY}]
[tables.orders]
regions = ["{HOME}", "{AWAY}"]
"""

Opened = Callable[[dict[str, Api]], None]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Put these in the place of the regions of a configuration."""
    monkeypatch.chdir(tmp_path)
    Path("replicator.toml").write_text(TEXT)

    def put(apis: dict[str, Api]) -> None:
        @contextmanager
        def regions(_: Settings) -> Iterator[Callable[[str], Api]]:
            yield apis.__getitem__

        for room in (tables, watching):
            monkeypatch.setattr(room, "opened_regions", regions)

    return put


@pytest.mark.parametrize(
    ("command", "done", "undone"),
    [("pause", "paused", "not paused"), ("resume", "resumed", "not resumed")],
)
def test_each_link_is_told_though_a_region_is_down(
    opened: Opened, capsys: pytest.CaptureFixture[str], command: str, done: str, undone: str
) -> None:
    """As text and as JSON; the failure is a line with a remedy, and the exit status 1."""
    for flags in ([], ["--json"]):
        opened({HOME: ScriptedApi(DOWN), AWAY: ScriptedApi({})})
        assert main([command, "--table", "orders", *flags]) == 1
        said = capsys.readouterr()
        error = f"{DOWN}; check endpoint_url, aws_region and the network"
        complaint = f"replicator: orders, {HOME} → {AWAY}: {error}"
        assert complaint in said.err.splitlines()
        if flags:
            rows = {row["source"]: (row["result"], row["error"]) for row in json.loads(said.out)}
            assert rows == {HOME: (undone, error), AWAY: (done, None)}
        else:
            ways = [f"orders, {HOME} → {AWAY}: {undone}", f"orders, {AWAY} → {HOME}: {done}"]
            assert said.out.splitlines() == ways


def down() -> MemoryControl:
    """A region that does not answer."""
    api = MemoryControl()
    api.error = Transient("Query: no answer")
    return api


def test_conflicts_that_nobody_could_read_are_not_none(
    opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many there are is unknown with one region down as with all."""
    for apis in ({HOME: down(), AWAY: down()}, {HOME: down(), AWAY: MemoryControl()}):
        opened({**apis})
        assert main(["conflicts", "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert (document["total"], document["conflicts"]) == (None, [])
        assert main(["conflicts"]) == 1
        assert capsys.readouterr().out == "at least 0 conflicts\n"
    opened({HOME: MemoryControl(), AWAY: MemoryControl()})
    assert main(["conflicts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 0


def test_an_export_of_nothing_read_leaves_the_file(
    opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an earlier one wrote may be all that is left; what was read is written."""
    path = Path("out.jsonl")
    path.write_text("{}\n")
    opened({HOME: down(), AWAY: down()})
    assert main(["conflicts", "--export", str(path)]) == 1
    assert path.read_text() == "{}\n"
    assert "replicator: --export: out.jsonl: not written, since no" in capsys.readouterr().err
    opened({HOME: MemoryControl(), AWAY: MemoryControl()})
    assert main(["conflicts", "--export", str(path)]) == 0
    assert path.read_text() == ""


def test_what_is_parked_where_nobody_answers_is_not_none(
    opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list says that it is not whole."""
    opened({HOME: down(), AWAY: MemoryControl()})
    assert main(["quarantine", "list"]) == 1
    said = capsys.readouterr()
    assert said.out == "at least 0 parked\n"
    assert f"replicator: region {HOME}: Query: no answer; check endpoint_url" in said.err
    opened({HOME: MemoryControl(), AWAY: MemoryControl()})
    assert main(["quarantine", "list"]) == 0
    assert capsys.readouterr().out == "0 parked\n"
