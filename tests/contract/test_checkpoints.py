"""Checkpoints: positions that only go on, kept for each shard of each stream."""

from __future__ import annotations

import pytest

from contract.subject import MakeSubject, Subject
from replicator.records import After, Checkpoint, Finished
from support.engines import ENGINES

ARN = "arn:aws:dynamodb:eu-west-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000"

pytestmark = pytest.mark.parametrize(
    "make_subject",
    [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ENGINES],
    indirect=True,
    scope="session",
)
"""The simulator keeps its positions itself, so its memory is left out."""


@pytest.fixture
def subject(make_subject: MakeSubject) -> Subject:
    """Give a region in which these checkpoints are told apart by the table's unique name."""
    return make_subject()


def _checkpoint(
    subject: Subject, position: After | Finished, *, shard: str = "shardId-1", arn: str = ARN
) -> Checkpoint:
    return Checkpoint(
        table=subject.table, source=subject.region, stream_arn=arn, shard=shard, position=position
    )


def _load(subject: Subject) -> list[Checkpoint]:
    return subject.load(subject.table, subject.region)


def test_nothing_is_loaded_before_anything_is_saved(subject: Subject) -> None:
    """A table that was never read has no checkpoints."""
    assert _load(subject) == []


@pytest.mark.parametrize("position", [After(0), After(10**40 - 1), Finished()])
def test_a_position_comes_back(subject: Subject, position: After | Finished) -> None:
    """A position is loaded as it was saved, of up to 40 digits."""
    saved = _checkpoint(subject, position)

    subject.save(saved)

    assert _load(subject) == [saved]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(After(99), After(100), id="as numbers, not as text"),
        pytest.param(After(10**20), After(10**20 + 1), id="to the last digit"),
        pytest.param(After(10**39), Finished(), id="to the end"),
    ],
)
def test_a_position_goes_on_and_never_back(
    subject: Subject, first: After | Finished, second: After | Finished
) -> None:
    """A later position replaces an earlier one; an earlier one changes nothing."""
    for position in (first, second, first):
        subject.save(_checkpoint(subject, position))

    assert _load(subject) == [_checkpoint(subject, second)]


def test_the_same_position_may_be_saved_again(subject: Subject) -> None:
    """Saving where one stands is no error and changes nothing."""
    for _ in range(2):
        subject.save(_checkpoint(subject, After(7)))

    assert _load(subject) == [_checkpoint(subject, After(7))]


def test_shards_and_streams_have_positions_of_their_own(subject: Subject) -> None:
    """Positions are kept by stream and shard: a new stream of the same table starts anew."""
    saved = [
        _checkpoint(subject, After(3), shard="shardId-1"),
        _checkpoint(subject, After(1), shard="shardId-2"),
        _checkpoint(subject, Finished(), shard="shardId-1", arn=ARN.replace("2026", "2027")),
    ]

    for checkpoint in saved:
        subject.save(checkpoint)

    assert sorted(_load(subject), key=repr) == sorted(saved, key=repr)


def test_tables_and_sources_are_apart(make_subject: MakeSubject) -> None:
    """Only the checkpoints of the table and source asked for are loaded."""
    one, other = make_subject(), make_subject()
    one.save(_checkpoint(one, After(1)))
    other.save(_checkpoint(other, After(2)))

    assert _load(one) == [_checkpoint(one, After(1))]
    assert one.load(one.table, "elsewhere-1") == []


def test_many_positions_are_loaded_whole(subject: Subject) -> None:
    """More positions than fit into one answer of 1 MB are all loaded.

    Source: API_Query, a page holds at most 1 MB; API_streams_Stream, an ARN at most 1,024
    characters, of which a sort key takes some 900 besides the shard.
    """
    arn = ARN.replace("orders", "o" * 850)
    saved = {
        _checkpoint(subject, After(number), shard=f"shardId-{number:020d}-{'f' * 36}", arn=arn)
        for number in range(1_150)
    }

    subject.save_all(saved)

    assert set(_load(subject)) == saved
