"""The filter's expressions: what they say of an item, and how one that says nothing is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.operations import Image
from replicator.where import WhereError, parse_where

ITEM: Image = {
    "status": {"S": "live"},
    "price": {"N": "12.50"},
    "big": {"N": "12345678901234567890123456789012345678"},
    "on": {"BOOL": True},
    "none": {"NULL": True},
    "quote": {"S": "it's"},
    "odd name": {"S": "x"},
    "and": {"S": "keyword"},
    "address": {"M": {"country": {"S": "at"}, "geo": {"M": {"lat": {"N": "48"}}}}},
    "tags": {"SS": ["a"]},
    "broken": {"N": "no number"},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("status = 'live'", True),
        ("status = 'Live'", False),
        ("status != 'live'", False),
        ("status <> 'dead'", True),
        ("price = 12.5", True),
        ("price = 1.25e1", True),
        ("price > 12", True),
        ("price >= 12.50 and price <= 12.5", True),
        ("price < 12.5", False),
        ("price > -1", True),
        ("big = 12345678901234567890123456789012345678", True),
        ("big = 12345678901234567890123456789012345679", False),
        ("on = true", True),
        ("on = FALSE", False),
        ("none = null", True),
        ("quote = 'it''s'", True),
        ("\"odd name\" = 'x'", True),
        ("\"and\" = 'keyword'", True),
        ("address.country = 'at'", True),
        ("address.geo.lat >= 48", True),
        ("address.geo.lon >= 0", False),
        ("status.x = 'live'", False),
        ("status in ('dead', 'live')", True),
        ("price in (1, 2, 12.50)", True),
        ("not price in (1)", True),
        ("exists(status)", True),
        ("exists(nothing)", False),
        ("not exists(nothing)", True),
        ("exists(tags)", True),
        ("begins_with(status, 'li')", True),
        ("begins_with(price, '1')", False),
        ("status > 'lizard'", False),
        ("status < 'lively'", True),
        # not there, or of another type: false, and so `not` and != are true
        ("nothing = 'x'", False),
        ("nothing != 'x'", True),
        ("not nothing = 'x'", True),
        ("status = 12", False),
        ("price = '12.50'", False),
        ("tags = 'a'", False),
        ("broken > 0", False),
        # precedence: not, and, or
        ("status = 'x' and on = true or price = 12.5", True),
        ("status = 'x' and (on = true or price = 12.5)", False),
        ("not status = 'x' and on = true", True),
        ("NOT (status = 'x' OR on = false)", True),
    ],
)
def test_what_an_expression_says_of_an_item(text: str, *, matches: bool) -> None:
    """Every test is true or false, and they are put together as one reads them."""
    assert parse_where(text).matches(ITEM) is matches


def test_which_attributes_an_expression_looks_at() -> None:
    """The top-level ones, however deep it looks."""
    text = "a = 1 and not (exists(b.c) or \"d\" in ('x')) and begins_with(e, 'y')"
    assert parse_where(text).attributes == {"a", "b", "d", "e"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs an attribute's name in place of its end"),
        ("status", "needs a comparison in place of its end"),
        ("status =", "needs a value"),
        ("status = live", "needs a value ('text', a number, true, false, null) in place of 'live'"),
        ("status = 'live", 'is not understood at "\'live"'),
        ("status == 'live'", "needs a value"),
        ("status = 'a' status = 'b'", "needs 'and' or 'or' in place of 'status' at character 14"),
        ("(status = 'a'", "needs ')' in place of its end"),
        ("status in ()", "needs a value"),
        ("status in 'a'", "needs '('"),
        ("on > true", "'>' needs a number or a text behind it"),
        ("size(tags) > 1", "knows no size(…); there are exists(attribute), begins_with("),
        ("begins_with(a, 1)", "begins_with needs a text"),
        ("exists(a, b)", "needs ')'"),
        ("not = 1", "needs an attribute's name in place of '='"),
        ("a = 1; drop", "is not understood at '; drop'"),
        ("__import__('os')", "needs an attribute's name in place of"),
        ("(" * 40 + "a = 1" + ")" * 40, "is nested more than 32 deep"),
        ("a = 1 or " * 600 + "a = 1", "has more than 4096 characters"),
        ("a < 1e99999999999999999999", "holds a number beyond all bounds: 1e9999"),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(text: str, words: str) -> None:
    """With the place, and what was expected there."""
    with pytest.raises(WhereError) as error:
        parse_where(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Nothing else comes of it."""
    try:
        where = parse_where(text)
    except WhereError:
        return
    assert where.matches(ITEM) in (True, False)


numbers = st.decimals(
    allow_nan=False, allow_infinity=False, places=6, min_value=-1e12, max_value=1e12
)


@given(numbers, numbers)
def test_numbers_compare_by_value(one: Decimal, other: Decimal) -> None:
    """Whatever way they are written down."""
    image = {"n": {"N": f"{one:f}"}}
    assert parse_where(f"n < {other:f}").matches(image) == (one < other)
    assert parse_where(f"n = {other:f}").matches(image) == (one == other)
