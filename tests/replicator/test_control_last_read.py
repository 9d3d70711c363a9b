"""The row that tells until when all of a source had been read."""

from __future__ import annotations

from replicator.control import ControlCheckpoints
from replicator.errors import ConditionFailed
from support.clock import VirtualClock
from support.scripted_api import ScriptedApi


def checkpoints(api: ScriptedApi) -> ControlCheckpoints:
    """Put the checkpoints of a control table before a scripted Api."""
    return ControlCheckpoints(api=api, control_table="control", clock=VirtualClock())


def test_a_note_is_written_unless_a_later_one_stands() -> None:
    """It goes one way only, so that a worker back from the dead does no harm."""
    api = ScriptedApi({}, ConditionFailed(None))
    for read_us in (17, 9):
        VirtualClock().run(checkpoints(api).note_read("orders", "us", read_us))
    first, second = api.requests
    assert first["Item"] == {
        "pk": {"S": "read#orders#us"},
        "sk": {"S": "state"},
        "read_us": {"N": "17"},
    }
    assert first["ConditionExpression"] == "attribute_not_exists(read_us) OR read_us < :read_us"
    assert second["ExpressionAttributeValues"] == {":read_us": {"N": "9"}}


def test_what_was_noted_last_comes_back() -> None:
    """To the microsecond; nothing where nothing was noted."""
    row = {"pk": {"S": "read#orders#us"}, "sk": {"S": "state"}, "read_us": {"N": "17"}}
    api = ScriptedApi({"Items": [row]}, {"Items": []})
    assert VirtualClock().run(checkpoints(api).last_read("orders", "us")) == 17
    assert VirtualClock().run(checkpoints(api).last_read("orders", "us")) is None
