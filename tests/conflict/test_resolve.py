"""One rule in one place: the comparison, the condition expression, the table in the README."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import readme
from conflict import resolve
from conflict.merge import Effect, deliver
from conflict.operations import Older, Outcome, Put, RaiseTombstone
from conflict.resolve import is_beaten, is_buried
from conflict.version import Kind, Version, order
from replicator.requests import TableRequests
from support.memory import MARKER
from support.scenes import KEY, World, item, shipment

REQUESTS = TableRequests(table="orders", marker=MARKER, key_names=("id",))

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in resolve.truth_table().splitlines()[2:]
]
CASES = resolve._CASES
INCOMING = resolve._INCOMING

versions = st.builds(
    Version,
    st.integers(1, 2),
    st.sampled_from(["eu", "eu-1", "us"]),
    st.sampled_from([1, 2, 10, 21]),
    st.sampled_from(Kind),
)


def put_over(standing: Version, incoming: Version) -> Put:
    """The common case of the protocol: one conditional put."""
    return Put("eu", KEY, item("new", incoming), Older(incoming))


def holds_textually(operation: Put, standing: Version) -> bool:
    """What DynamoDB makes of the condition of a request, on an item with that marker."""
    request = REQUESTS.put(operation)
    assert request["ConditionExpression"] == "#m < :order"
    assert request["ExpressionAttributeNames"] == {"#m": MARKER}
    compared: str = request["ExpressionAttributeValues"][":order"]["S"]
    return standing.text.encode() < compared.encode()


@given(versions, versions)
def test_the_rule_and_the_condition_are_one(standing: Version, incoming: Version) -> None:
    """is_beaten, the expression sent to DynamoDB and the fake of it say the same of every pair."""
    operation = put_over(standing, incoming)
    world = World("eu")
    world["eu"].write(KEY, item("old", standing))
    outcome = world.execute(operation)
    assert isinstance(outcome, Outcome)
    assert outcome.done == holds_textually(operation, standing)
    assert outcome.done == (not is_beaten(incoming, standing))


@given(versions, versions)
def test_of_two_writes_one_wins_in_either_order(one: Version, other: Version) -> None:
    """The rule is total: exactly one of two different versions beats the other."""
    if one.order == other.order:
        assert is_beaten(one, other)
        assert is_beaten(other, one)
    else:
        assert is_beaten(one, other) != is_beaten(other, one)


@given(versions, versions)
def test_what_is_buried_is_beaten(put: Version, tombstone: Version) -> None:
    """The two questions differ at equality only: a put is not buried by its own version."""
    assert is_buried(put, tombstone) == (is_beaten(put, tombstone) and put.order != tombstone.order)


def test_nothing_beats_nothing_and_buries_nothing() -> None:
    """Where nothing is known, a version lands; and a write without one lies beneath any delete."""
    assert not is_beaten(INCOMING, None)
    assert not is_buried(INCOMING, None)
    assert not is_buried(None, None)
    assert is_buried(None, INCOMING)


def test_the_table_in_the_readme_is_the_rule() -> None:
    """README.md shows what the code decides."""
    shown = readme.section(readme.README.read_text(encoding="utf-8"), "truth-table")
    assert shown == resolve.truth_table() + "\n", f"refresh it: {readme.REFRESH}"


def test_refreshing_the_readme_changes_nothing_but_the_table() -> None:
    """The rest of the text stays, and a second time changes nothing."""
    begin, end = readme.marks("truth-table")
    sections = {"truth-table": resolve.truth_table}
    refreshed = readme.refreshed(f"before\n{begin}old\n{end}\nafter\n", sections)
    assert refreshed == f"before\n{begin}{resolve.truth_table()}\n{end}\nafter\n"
    assert readme.refreshed(refreshed, sections) == refreshed


def test_a_readme_without_the_markers_is_refused() -> None:
    """A table that has lost its place is not left out in silence."""
    with pytest.raises(ValueError, match="once each"):
        readme.refreshed("nothing")


def test_the_table_has_every_relation_of_two_versions() -> None:
    """Each part of the order decides in some row, in both directions, and equality is there."""
    standing = [version for _, version, _ in CASES if version is not None]
    signs: set[tuple[int, bool] | None] = set()
    for version in standing:
        same = [a == b for a, b in zip(version.order, INCOMING.order, strict=True)]
        decided_by = None if all(same) else same.index(False)
        signs.add(None if decided_by is None else (decided_by, version.order < INCOMING.order))
    assert signs == {*itertools.product(range(3), (True, False)), None}


# --- the table against the protocol -------------------------------------------------------------


def scene(standing: Version | None, tombstone: Version | None) -> World:
    """A target as a row describes it."""
    world = World("eu")
    if standing is not None:
        world["eu"].write(KEY, item("old", standing))
    if tombstone is not None:
        world.execute(RaiseTombstone("eu", KEY, tombstone))
    return world


@pytest.mark.parametrize("fresh", [False, True], ids=["", "fresh"])
@pytest.mark.parametrize("row", range(len(CASES)), ids=[row[0] for row in ROWS])
def test_a_put_does_what_its_row_says(row: int, fresh: bool) -> None:
    """The protocol, run on each row of the table, does what the table tells of a put."""
    _, standing, tombstone = CASES[row]
    world = scene(standing, tombstone)
    delivery = world.run(deliver("eu", shipment(INCOMING, "new", fresh=fresh)))
    after = world.facts()["eu"].item
    content = after.image["content"]["S"] if after else None
    expected = {"kept": "old", "**replaced**": "new", "**created**": "new", "stays away": None}
    assert content == expected[ROWS[row][1]]
    landed = delivery.effect is Effect.APPLIED
    assert landed == (ROWS[row][1] in ("**replaced**", "**created**"))


@pytest.mark.parametrize("row", range(len(CASES)), ids=[row[0] for row in ROWS])
def test_a_delete_does_what_its_row_says(row: int) -> None:
    """The protocol, run on each row of the table, does what the table tells of a delete."""
    _, standing, tombstone = CASES[row]
    world = scene(standing, tombstone)
    delivery = world.run(deliver("eu", shipment(INCOMING, None)))
    facts = world.facts()["eu"]
    assert (facts.item is not None) == (ROWS[row][2] == "kept")
    remembered = facts.state.tombstone is not None and facts.state.tombstone.order == INCOMING.order
    assert remembered == (ROWS[row][2] != "stays away")
    assert (delivery.effect is Effect.STALE) == (ROWS[row][2] == "stays away")
    assert order(facts.state.tombstone) >= INCOMING.order
