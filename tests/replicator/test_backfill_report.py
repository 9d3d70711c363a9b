"""What a backfill says while it runs and at its end."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from replicator.backfill.plan import Plan
from replicator.backfill.report import Progress, closing_document, closing_table, progress_line
from replicator.backfill.tally import Tally
from replicator.records import Mode

PLAN = Plan(
    table="orders", source="us-east-1", targets=("eu-west-1",), mode=Mode.MULTI_WRITER,
    authority=None, segments=8,
)  # fmt: skip
TALLY = Tally(1_500, 40.5, {"eu-west-1": Counter(written=1_400, disputed=70, refused=30, units=9)})


@pytest.mark.parametrize(
    ("done", "before", "about", "elapsed_s", "line"),
    [
        (500, 0, 2_500, 10.0, "500 of about 2,500 items, 50/s, about 40.0 s left"),
        (1_500, 1_000, 9_100, 5.0, "1,500 of about 9,100 items, 100/s, about 1 min 16 s left"),
        (0, 0, 9, 3.0, "0 of about 9 items, 0/s"),
        (12, 0, 10, 1.0, "12 of about 12 items, 12/s, about 0.0 s left"),
        (10, 0, 10**6, 1.0, "10 of about 1,000,000 items, 10/s, about 27 h 46 min left"),
    ],
)
def test_a_line_tells_how_far_how_fast_and_until_when(
    done: int, before: int, about: int, elapsed_s: float, line: str
) -> None:
    """The rate is this process's own; the count of DescribeTable may be hours old."""
    assert progress_line(done, before, about, elapsed_s) == f"backfill: {line}"


def test_a_line_is_printed_every_few_seconds_only() -> None:
    """However often it is told; without a terminal one below the other."""
    now_s, out = [0.0], io.StringIO()
    progress = Progress(
        console=Console(file=out), about=100, before=0, monotonic_s=lambda: now_s[0]
    )
    for step in range(70):
        now_s[0] = step / 10
        progress.show(step)
    progress.close()
    assert len(out.getvalue().splitlines()) == 2


def test_the_closing_table_says_what_is_left_to_do() -> None:
    """Counts per target, and a line for what a person has to look at."""
    out = io.StringIO()
    for part in closing_table(PLAN, TALLY, 61.0):
        Console(file=out, width=200).print(part)
    text = out.getvalue()
    assert "orders out of us-east-1: 1,500 items read" in text
    assert "already equal" in text
    assert "70 items differ" in text
    assert "--authority" in text
    assert "30 items were refused" in text


def test_the_document_holds_the_same() -> None:
    """For programs."""
    document = closing_document(PLAN, TALLY, 61.0, resumed=True)
    assert document["items"] == 1_500
    assert document["targets"]["eu-west-1"]["written"] == 1_400
    assert document["targets"]["eu-west-1"]["equal"] == 0
    assert (document["resumed"], document["seconds"]) == (True, 61.0)
