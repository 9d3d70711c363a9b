"""What of a batch was settled at home: the row of it, where it says nothing that can be read."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.control import sequence_text
from replicator.lambda_home import YOUNG_US, ControlHomeMemory, covered
from replicator.records import EventName, Record
from support.clock import VirtualClock
from support.scripted_api import ScriptedApi


def recalled(row: dict[str, Any]) -> int | None:
    """What is remembered of a batch of the records 7 and 8."""
    clock = VirtualClock()
    sk = {"S": f"arn#{sequence_text(7)}"}
    memory = ControlHomeMemory(
        api=ScriptedApi({"Responses": {"control": [{"sk": sk, **row}]}}),
        control_table="control",
        table="orders",
        source="us",
        clock=clock,
        sleep=clock.sleep,
    )
    return clock.run(memory.recall("arn", records(clock.now_us() - YOUNG_US)))


def records(created_us: int) -> list[Record]:
    """Two of them."""
    return [
        Record(
            sequence=sequence,
            created_us=created_us,
            event=EventName.INSERT,
            keys={"id": {"S": "1"}},
            old=None,
            new={"id": {"S": "1"}},
            ttl=False,
        )
        for sequence in (7, 8)
    ]


OF = {"B": covered(records(0), 7)}
SETTLED = {"S": sequence_text(7)}


def test_what_was_settled_is_recalled() -> None:
    """Of the same records, and of no others."""
    assert recalled({"settled": SETTLED, "of": OF}) == 7
    assert recalled({"settled": SETTLED, "of": {"B": b"others"}}) is None
    assert recalled({"settled": SETTLED}) is None


@pytest.mark.parametrize("odd", [None, {"N": "7"}, {"S": "7"}, {"S": "seven"}, {"S": "finished"}])
def test_a_malformed_row_counts_as_none(
    odd: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told; the records are settled at home anew, which is harmless."""
    assert recalled({"of": OF} | ({"settled": odd} if odd else {})) is None
    (event,) = caplog.records
    assert event.getMessage() == "batch.malformed"
    assert vars(event)["row"] == f"arn#{sequence_text(7)}"
