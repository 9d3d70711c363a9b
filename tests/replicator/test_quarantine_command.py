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
    """Three parked changes, of which some cannot be read."""

    def __init__(self, unread: Sequence[str]) -> None:
        super().__init__(api=ScriptedApi(), control_table="control")
        self.rows = [parked("eu", "a"), parked("ap", "b"), parked("eu", "c")]
        self.unread = unread

    async def notes(self, table: str) -> list[ParkedNote]:
        return [*self.rows]

    async def get(self, note: ParkedNote) -> Parked | None:
        if note.key.id in self.unread:
            raise MALFORMED
        return next(row for row in self.rows if row.key == note.key)

    async def remove(self, parked: ParkedNote) -> bool:
        self.rows = [row for row in self.rows if row.key != parked.key]
        return True


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
