"""`replicator quarantine`: one parked change that is in trouble holds up none of the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from replicator.errors import Fatal, Malformed, ReplicatorError
from replicator.quarantine import command
from replicator.quarantine.replay import End, Replayed
from replicator.records import Parked, ParkedNote
from replicator.settings import RegionSettings, Settings, TableSettings
from replicator.waiting import Quarantine
from support.pipelines import parked
from support.scripted_api import ScriptedApi

SETTINGS = Settings(
    regions={
        "us": RegionSettings(aws_region="us-east-1"),
        "eu": RegionSettings(aws_region="eu-west-1"),
        "ap": RegionSettings(aws_region="ap-south-1"),
    },
    tables={"orders": TableSettings(source="us", targets=("eu", "ap"))},
)
MALFORMED = Malformed("quarantine of orders: us to eu: the row is malformed; mend or drop it")
DOWN = Fatal("ap: PutItem: no answer")


class Rows(Quarantine):
    """Three parked changes, of which some cannot be read, or not be taken out."""

    def __init__(self, unread: Sequence[str]) -> None:
        super().__init__(api=ScriptedApi(), control_table="control")
        self.rows = [parked("eu", "a"), parked("ap", "b"), parked("eu", "c")]
        self.unread = unread
        self.refused: Sequence[str] = ()
        self.parked_anew: Sequence[str] = ()

    async def notes(self, table: str) -> list[ParkedNote]:
        return [*self.rows]

    async def get(self, note: ParkedNote) -> Parked | None:
        if note.key.id in self.unread:
            raise MALFORMED
        return next((row for row in self.rows if row.key == note.key), None)

    async def remove(self, parked: ParkedNote) -> bool:
        if parked.key.id in self.refused:
            raise DOWN
        if parked.key.id in self.parked_anew:
            return False
        count = len(self.rows)
        self.rows = [row for row in self.rows if row.key != parked.key]
        return len(self.rows) < count


class Replaying:
    """A replay in which one target is down."""

    def __init__(self, down: str | None) -> None:
        self.down = down

    async def run(self, parked: Parked, now_us: int) -> Replayed:
        if parked.target == self.down:
            raise DOWN
        return Replayed(End.APPLIED)


def desk_of(
    monkeypatch: pytest.MonkeyPatch, *, unread: Sequence[str] = (), down: str | None = None
) -> tuple[command.Desk, Rows]:
    """A desk with these rows, and its replays."""
    rows = Rows(unread)

    async def replay_of(*_: object) -> Replaying:
        return Replaying(down)

    monkeypatch.setattr(command, "_replay_of", replay_of)
    monkeypatch.setattr(command.Desk, "quarantine", lambda *_: rows)
    desk = command.Desk(settings=SETTINGS, connect=lambda _: ScriptedApi(), choice=command.Choice())
    return desk, rows


@pytest.mark.parametrize(
    ("trouble", "error"), [({"unread": ("b",)}, MALFORMED), ({"down": "ap"}, DOWN)]
)
def test_one_change_in_trouble_stays_and_the_others_are_made_again(
    trouble: dict[str, Any],
    error: ReplicatorError,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A row that is malformed, or a target that is down: the exit status is 1, and each is told."""
    desk, rows = desk_of(monkeypatch, **trouble)
    assert command.replay_parked(desk, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    errors = [(each["dealt_with"], each["error"]) for each in told]
    assert errors == [(True, None), (False, str(error)), (True, None)]
    assert [row.key.id for row in rows.rows] == ["b"]

    desk, _ = desk_of(monkeypatch, **trouble)
    assert command.replay_parked(desk, as_json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith(f"too large: not made again: {error}; stays")


def test_a_malformed_row_is_shown_as_one_and_the_others_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named by the digest of its key, which `drop --key` takes."""
    desk, _ = desk_of(monkeypatch, unread=("b",))
    (bad,) = [note for note in asyncio.run(desk.notes()) if note.key.id == "b"]
    assert command.show_parked(desk, image=False, as_json=True) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [each.get("holds") for each in shown] == [
        "an item of 2 attributes",
        None,
        "an item of 2 attributes",
    ]
    assert shown[1] == {**command.note_document(bad), "error": str(MALFORMED)}
    assert command.show_parked(desk, image=False, as_json=False) == 1
    assert f"error        {MALFORMED}" in capsys.readouterr().out


def test_a_change_that_cannot_be_dropped_stays_and_the_others_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each that stays is told with its reason, and the exit status is 1."""
    desk, rows = desk_of(monkeypatch)
    rows.refused, rows.parked_anew = ("a",), ("b",)
    assert command.drop_parked(desk, confirmed=True, as_json=False) == 1
    said = capsys.readouterr()
    assert said.out == "1 dropped\n"
    refused, anew = said.err.splitlines()
    assert f": not dropped: {DOWN}; " in refused
    assert anew.endswith(command.PARKED_ANEW)
    assert [row.key.id for row in rows.rows] == ["a", "b"]

    desk, rows = desk_of(monkeypatch)
    rows.refused = ("a",)
    assert command.drop_parked(desk, confirmed=True, as_json=True) == 1
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_what_another_person_has_dropped_meanwhile_is_neither_counted_nor_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As long as the question is open, others work on."""
    desk, rows = desk_of(monkeypatch)
    listed = [*rows.rows]
    monkeypatch.setattr(rows, "notes", lambda _: _given(listed))
    rows.rows = rows.rows[:1]
    assert command.drop_parked(desk, confirmed=True, as_json=False) == 0
    assert capsys.readouterr() == ("1 dropped\n", "")


async def _given(notes: list[Parked]) -> list[Parked]:
    return notes
