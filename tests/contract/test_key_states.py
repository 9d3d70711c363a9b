"""Key states: tombstones that only rise, held writes that only rise until they are released."""

from __future__ import annotations

import pytest

from conflict.operations import Hold, Item, Key, KeyState, RaiseTombstone, ReadState, Release
from conflict.version import Kind, Version
from contract.subject import MakeSubject, Subject
from contract.test_values import VALUES
from contract.values import EARLIER, INCOMING, LATER, fresh_key, item, named_key, same_item
from replicator.ports import READ_BATCH_MAX


def _state(subject: Subject, key: Key) -> KeyState:
    return subject.perform(ReadState(subject.region, key))


def _local(sequence: int) -> Version:
    """Return the version of a local write; later ones have higher sequences."""
    return Version(INCOMING.time_us + sequence, "eu-west-1", sequence, Kind.SETTLED)


def _holds(subject: Subject, key: Key, held: Item | None) -> bool:
    return same_item(_state(subject, key).held, held)


def test_nothing_is_known_of_a_new_key(subject: Subject) -> None:
    """A key without a past has neither tombstone nor held write."""
    assert _state(subject, fresh_key()) == KeyState()


def test_a_tombstone_is_raised_from_nothing(subject: Subject) -> None:
    """The first tombstone of a key is stored, and None says that it was raised."""
    key = fresh_key()

    assert subject.perform(RaiseTombstone(subject.region, key, INCOMING)) is None
    assert _state(subject, key) == KeyState(tombstone=INCOMING)


def test_a_tombstone_rises(subject: Subject) -> None:
    """A higher tombstone takes the place of a lower one."""
    key = fresh_key()
    subject.perform(RaiseTombstone(subject.region, key, EARLIER))

    assert subject.perform(RaiseTombstone(subject.region, key, INCOMING)) is None
    assert _state(subject, key).tombstone == INCOMING


def test_a_tombstone_never_falls(subject: Subject) -> None:
    """A lower tombstone changes nothing and is answered with the one that stands."""
    key = fresh_key()
    subject.perform(RaiseTombstone(subject.region, key, LATER))

    assert subject.perform(RaiseTombstone(subject.region, key, INCOMING)) == LATER
    assert _state(subject, key).tombstone == LATER


@pytest.mark.parametrize("kind", list(Kind))
def test_an_equal_tombstone_stays(subject: Subject, kind: Kind) -> None:
    """A tombstone of the same order stays as it is, in whatever role the other was written."""
    key = fresh_key()
    subject.perform(RaiseTombstone(subject.region, key, INCOMING))

    standing = subject.perform(RaiseTombstone(subject.region, key, INCOMING.of_kind(kind)))

    assert standing == INCOMING
    assert _state(subject, key).tombstone == INCOMING


def test_a_longer_sequence_is_higher(subject: Subject) -> None:
    """Sequences compare as numbers: 100 is above 99."""
    key = fresh_key()
    lower, higher = (Version(7, "eu-west-1", sequence, Kind.SETTLED) for sequence in (99, 100))
    subject.perform(RaiseTombstone(subject.region, key, higher))

    assert subject.perform(RaiseTombstone(subject.region, key, lower)) == higher


def test_a_write_is_held_verbatim(subject: Subject) -> None:
    """A held write comes back with its version and every type of attribute value."""
    key = fresh_key()
    held = item(key, _local(5), **VALUES)

    subject.perform(Hold(subject.region, key, held))

    assert _holds(subject, key, held)


def test_a_large_write_is_held(subject: Subject) -> None:
    """A held write of 390,000 bytes is kept."""
    key = fresh_key()
    held = item(key, _local(5), bulk={"S": "x" * 390_000})

    subject.perform(Hold(subject.region, key, held))

    assert _holds(subject, key, held)


def test_a_newer_write_takes_the_place_of_the_held_one(subject: Subject) -> None:
    """Of two held writes the newer one is kept when it comes last."""
    key = fresh_key()
    older, newer = item(key, _local(9)), item(key, _local(10))
    subject.perform(Hold(subject.region, key, older))

    subject.perform(Hold(subject.region, key, newer))

    assert _holds(subject, key, newer)


def test_an_older_write_does_not_replace_the_held_one(subject: Subject) -> None:
    """Of two held writes the newer one is kept when it came first, as in a replay."""
    key = fresh_key()
    older, newer = item(key, _local(9)), item(key, _local(10))
    subject.perform(Hold(subject.region, key, newer))

    subject.perform(Hold(subject.region, key, older))

    assert _holds(subject, key, newer)


def test_a_held_write_is_released_below(subject: Subject) -> None:
    """A held write is dropped once its sequence lies below the bound."""
    key = fresh_key()
    subject.perform(Hold(subject.region, key, item(key, _local(99))))

    subject.perform(Release(subject.region, key, 100))

    assert _state(subject, key).held is None


@pytest.mark.parametrize("before", [99, 9])
def test_a_held_write_is_kept_at_the_bound_and_above(subject: Subject, before: int) -> None:
    """A held write whose sequence is the bound, or above it, is not released."""
    key = fresh_key()
    held = item(key, _local(99))
    subject.perform(Hold(subject.region, key, held))

    subject.perform(Release(subject.region, key, before))

    assert _holds(subject, key, held)


def test_nothing_held_is_released_without_a_trace(subject: Subject) -> None:
    """Releasing what is not held changes nothing."""
    key = fresh_key()

    subject.perform(Release(subject.region, key, 100))

    assert _state(subject, key) == KeyState()


def test_a_release_may_be_followed_by_an_older_hold(subject: Subject) -> None:
    """After a release nothing is remembered of the write that was held."""
    key = fresh_key()
    subject.perform(Hold(subject.region, key, item(key, _local(9))))
    subject.perform(Release(subject.region, key, 10))
    older = item(key, _local(8))

    subject.perform(Hold(subject.region, key, older))

    assert _holds(subject, key, older)


def test_tombstone_and_held_write_do_not_touch_each_other(subject: Subject) -> None:
    """A key may have both; raising, holding and releasing change only what they name."""
    key = fresh_key()
    held = item(key, _local(5))
    subject.perform(RaiseTombstone(subject.region, key, EARLIER))
    subject.perform(Hold(subject.region, key, held))
    subject.perform(RaiseTombstone(subject.region, key, INCOMING))
    both = _state(subject, key)

    subject.perform(Release(subject.region, key, 6))

    assert both.tombstone == INCOMING
    assert same_item(both.held, held)
    assert _state(subject, key) == KeyState(tombstone=INCOMING)


def test_key_states_are_read_in_the_order_asked(subject: Subject) -> None:
    """Up to 100 states are read at once, in the order of their keys, unknown ones empty."""
    keys = [fresh_key() for _ in range(READ_BATCH_MAX)]
    for number, key in enumerate(keys):
        if number % 3:
            subject.perform(RaiseTombstone(subject.region, key, _local(number)))
        if number % 2:
            subject.perform(Hold(subject.region, key, item(key, _local(number))))

    states = subject.read(keys[::-1])[::-1]

    for number, state in enumerate(states):
        assert state.tombstone == (_local(number) if number % 3 else None)
        assert (state.held is not None) == bool(number % 2)
        assert state.held is None or state.held.version == _local(number)


def test_no_keys_have_no_states(subject: Subject) -> None:
    """No keys, no states, no error."""
    assert subject.read([]) == []


def test_tables_keep_their_states_apart(make_subject: MakeSubject) -> None:
    """The same key in two tables of a region has two states."""
    one, other, key = make_subject(), make_subject(), fresh_key()

    one.perform(RaiseTombstone(one.region, key, INCOMING))

    assert _state(one, key).tombstone == INCOMING
    assert _state(other, key) == KeyState()


def test_any_key_has_a_state(make_subject: MakeSubject) -> None:
    """The longest keys that DynamoDB takes have a state as short ones do."""
    subject = make_subject(ranged=True)
    key = named_key("世" * 682, "-1.5")

    subject.perform(RaiseTombstone(subject.region, key, INCOMING))
    subject.perform(Hold(subject.region, key, item(key, _local(1))))

    state = _state(subject, key)
    assert state.tombstone == INCOMING
    assert state.held is not None
