"""The files of a hand-over: refused before anything is done, else their owner's alone."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest

from conflict.operations import Key
from replicator.cli import main
from replicator.configuration import load
from replicator.errors import ConfigurationError
from replicator.handover import command
from replicator.handover.exposure import Exposure
from replicator.handover.plan import Kind, Request
from replicator.handover.section import Members
from replicator.handover.steps import Outcome, Steps

HOME, AWAY = "us-east-1", "eu-west-1"
BEARER = "t0ken-of-sixteen-characters"
TEXT = f"""[http]
token = "{BEARER}"
[regions.{HOME}]
[regions.{AWAY}]
[tables.orders]
source = "{HOME}"
targets = ["{AWAY}"]
"""
KEY = "patient-4711"
REQUEST = Request(kind=Kind.PLANNED, table="orders", source=HOME, target=AWAY)


class HandOver:
    """A hand-over that goes well and leaves one key behind, without its regions."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "replicator.toml"
        self.config.write_text(TEXT)
        self.carried_out = False
        self.meanwhile: Callable[[], object] = lambda: None

    async def carry_out(self, _: object, outcomes: Sequence[Outcome]) -> None:
        """Take the place of the steps."""
        (outcome,) = outcomes
        outcome.done = self.carried_out = True
        outcome.members = Members(source=AWAY, targets=(HOME,))
        behind = Exposure(
            table="orders",
            source=HOME,
            target=AWAY,
            basis="stream",
            seconds=1.0,
            records=1,
            keys=1,
            missing=(Key({"id": {"S": KEY}}, KEY),),
        )
        outcome.exposures.append(behind)
        self.meanwhile()

    def run(
        self, *, write: Path | None = None, keys: Path | None = None, as_json: bool = False
    ) -> int:
        """Run the command."""
        return command.run_handover(
            load(self.config, {}),
            REQUEST,
            connect=lambda region: pytest.fail(f"connects to {region}"),
            statuses=(),
            config=self.config,
            write=write,
            keys=keys,
            as_json=as_json,
        )


@pytest.fixture
def hand_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandOver]:
    """Give a hand-over where new files are everybody's to read, as on most machines."""
    made = HandOver(tmp_path)
    monkeypatch.setattr(command, "carry_out", made.carry_out)
    monkeypatch.setattr(command, "_scenes", lambda *_: [])
    before = os.umask(0o022)
    yield made
    os.umask(before)


def mode_of(path: Path) -> int:
    """Tell who may read and write."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_changed_configuration_with_its_token_is_its_owners_alone(
    hand_over: HandOver, tmp_path: Path
) -> None:
    """It is a copy of all that the configuration holds."""
    written = tmp_path / "after.toml"
    assert hand_over.run(write=written) == 0
    assert BEARER in written.read_text()
    assert load(written, {}).tables["orders"].source == AWAY
    assert mode_of(written) == 0o600


def test_the_configuration_itself_keeps_its_mode(hand_over: HandOver) -> None:
    """The replicator that is to be started with it may run as another user."""
    hand_over.config.chmod(0o640)
    assert hand_over.run(write=hand_over.config) == 0
    assert load(hand_over.config, {}).tables["orders"].source == AWAY
    assert mode_of(hand_over.config) == 0o640


def test_keys_in_clear_are_their_owners_alone(hand_over: HandOver, tmp_path: Path) -> None:
    """Also in a file that was there and open to others."""
    keys = tmp_path / "keys.jsonl"
    keys.touch(0o644)
    assert hand_over.run(keys=keys) == 0
    assert KEY in keys.read_text()
    assert mode_of(keys) == 0o600


@pytest.mark.parametrize("option", ["write", "keys"])
@pytest.mark.parametrize("place", ["no/where", "."])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_done(
    hand_over: HandOver, tmp_path: Path, option: str, place: str
) -> None:
    """A missing folder, a directory: nothing is handed over."""
    path = tmp_path / place
    places: dict[str, Any] = {option: path}
    with pytest.raises(ConfigurationError, match=f"^--{option}: {path}: not written: "):
        hand_over.run(**places)
    assert not hand_over.carried_out
    assert hand_over.config.read_text() == TEXT


@pytest.mark.parametrize("write", [None, "after.toml"])
def test_keys_are_not_written_over_a_configuration(
    hand_over: HandOver, tmp_path: Path, write: str | None
) -> None:
    """Neither over the one that is read nor over the changed one; nothing is handed over."""
    after = None if write is None else tmp_path / write
    keys = after or hand_over.config
    with pytest.raises(ConfigurationError, match=r"^--keys: .* would be overwritten by keys"):
        hand_over.run(write=after, keys=keys)
    assert not hand_over.carried_out
    assert hand_over.config.read_text() == TEXT


@pytest.mark.parametrize("option", ["--write", "--keys"])
def test_a_command_that_cannot_write_is_wrong_usage(
    hand_over: HandOver, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """One line and exit status 2, as for any other wrong usage."""
    where = ("--config", str(hand_over.config), option, "/no/such/place")
    asked = ("failover", "--planned", "--table", "orders", "--from", HOME, "--to", AWAY)
    assert main((*asked, *where)) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"replicator: {option}: /no/such/place: not written: ")
    assert (said.out, hand_over.carried_out) == ("", False)


def test_what_is_there_stays_until_the_end(hand_over: HandOver, tmp_path: Path) -> None:
    """The check empties nothing: `--write` may be the configuration itself."""
    keys = tmp_path / "keys.jsonl"
    keys.write_text("of a former run\n")
    seen: list[str] = []
    hand_over.meanwhile = lambda: seen.extend((keys.read_text(), hand_over.config.read_text()))
    assert hand_over.run(write=hand_over.config, keys=keys) == 0
    assert seen == ["of a former run\n", TEXT]


def test_a_check_leaves_no_file_behind(hand_over: HandOver, tmp_path: Path) -> None:
    """Else the second try would be refused, since `--write` is there already."""
    seen: list[bool] = []
    written = tmp_path / "after.toml"
    hand_over.meanwhile = lambda: seen.append(written.exists())
    assert hand_over.run(write=written) == 0
    assert seen == [False]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "JSON"])
@pytest.mark.parametrize("option", ["write", "keys"])
def test_an_outcome_is_told_even_where_its_files_cannot_be_written_any_more(
    hand_over: HandOver,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    *,
    as_json: bool,
) -> None:
    """The folder goes while the hand-over is under way; what to do next is known all the same."""
    folder = tmp_path / "folder"
    folder.mkdir()
    hand_over.meanwhile = folder.rmdir
    places: dict[str, Any] = {option: folder / "file"}
    with pytest.raises(ConfigurationError, match=f"^--{option}: "):
        hand_over.run(**places, as_json=as_json)
    said = capsys.readouterr().out
    if as_json:
        (table,) = json.loads(said)["tables"]
        assert (table["done"], table["members"]["source"]) == (True, AWAY)
    else:
        assert f'  source = "{AWAY}"' in said.splitlines()


def test_a_configuration_with_a_mark_is_handed_over(hand_over: HandOver) -> None:
    """The mark that some editors put before UTF-8 stays where it was."""
    hand_over.config.write_text(TEXT, encoding="utf-8-sig")
    assert hand_over.run(write=hand_over.config) == 0
    assert hand_over.config.read_bytes().startswith(b"\xef\xbb\xbf[http]")
    assert load(hand_over.config, {}).tables["orders"].source == AWAY


def unread(name: str, monkeypatch: pytest.MonkeyPatch) -> TextIO:
    """Make a standard stream one that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, name, stream)
    return stream


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "JSON"])
@pytest.mark.parametrize(("done", "status"), [(True, 141), (False, 1)], ids=["done", "not done"])
def test_a_lost_output_stops_nothing_on_the_way(
    hand_over: HandOver, monkeypatch: pytest.MonkeyPatch, *, as_json: bool, done: bool, status: int
) -> None:
    """`failover … 2>&1 | head -1`: all steps are taken. That they failed outranks the loss."""
    ended: list[bool] = []

    async def carry_out(steps: Sequence[Steps], outcomes: Sequence[Outcome]) -> None:
        (one,) = steps
        one.tell("first step")
        one.tell("second step")
        ended.append(True)
        outcomes[0].done = done

    monkeypatch.setattr(command, "carry_out", carry_out)
    monkeypatch.setattr(command, "_scenes", lambda *_: [None])
    lost = [unread(name, monkeypatch) for name in ("stdout", "stderr")]
    asked = ("failover", "--planned", "--table", "orders", "--from", HOME, "--to", AWAY)
    options = ("--config", str(hand_over.config), *(("--json",) if as_json else ()))
    assert main((*asked, *options)) == status
    assert ended
    monkeypatch.undo()
    for stream in lost:
        stream.close()
