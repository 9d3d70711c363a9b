"""Canonical content: what DynamoDB calls equal is equal, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from conflict.content import canonical, digest, same

EQUAL: list[tuple[Any, Any]] = [
    ({"N": "1"}, {"N": "1.0"}),
    ({"N": "100"}, {"N": "1E+2"}),
    ({"N": "0"}, {"N": "-0.00"}),
    ({"N": "-7.50"}, {"N": "-7.5"}),
    ({"SS": ["a", "b"]}, {"SS": ["b", "a"]}),
    ({"NS": ["1", "20"]}, {"NS": ["2E1", "1.0"]}),
    ({"BS": [b"\0", b"\xff"]}, {"BS": [b"\xff", b"\0"]}),
    ({"B": b"ab"}, {"B": bytearray(b"ab")}),
    ({"M": {"x": {"N": "1"}, "y": {"S": ""}}}, {"M": {"y": {"S": ""}, "x": {"N": "1.0"}}}),
    ({"L": [{"NS": ["1", "2"]}]}, {"L": [{"NS": ["2.0", "1"]}]}),
    ({}, {}),
]

DIFFERENT: list[tuple[Any, Any]] = [
    ({"N": "1"}, {"S": "1"}),
    ({"B": b"a"}, {"S": "61"}),
    ({"S": ""}, {"NULL": True}),
    ({"L": [{"S": "a"}, {"S": "b"}]}, {"L": [{"S": "b"}, {"S": "a"}]}),
    ({"L": []}, {"M": {}}),
    ({"SS": ["a"]}, {"L": [{"S": "a"}]}),
    ({"BOOL": True}, {"BOOL": False}),
    ({"N": "1" + "0" * 36 + "1"}, {"N": "1" + "0" * 36 + "2"}),
    ({"N": "1E-130"}, {"N": "1E-129"}),
    ({"N": "1"}, {"N": "-1"}),
    ({"S": "e\u0301"}, {"S": "\xe9"}),
    ({}, {"M": {}}),
    ({"S": '"},"b":{"S":"'}, {"S": '"'}),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_what_dynamodb_calls_equal_is_the_same(one: Any, other: Any) -> None:
    """Number forms and the order of a set make no difference, at any depth."""
    assert same({"a": one}, {"a": other})
    assert canonical({"a": one}) == canonical({"a": other})
    assert digest({"a": one}) == digest({"a": other})


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_everything_else_differs(one: Any, other: Any) -> None:
    """Types, digits, the order of lists and code points all count."""
    assert not same({"a": one}, {"a": other})
    assert canonical({"a": one}) != canonical({"a": other})


def test_names_count() -> None:
    """An attribute more, or under another name, is another content."""
    assert not same({"a": {"S": ""}}, {"b": {"S": ""}})
    assert not same({"a": {"S": ""}}, {"a": {"S": ""}, "b": {"S": ""}})


def test_no_item_is_the_same_as_no_item_only() -> None:
    """An item without attributes is still an item."""
    assert same(None, None)
    assert not same(None, {})


def test_the_form_is_the_same_in_every_process() -> None:
    """Nothing in it depends on the hash seed of a process."""
    program = (
        "from conflict.content import digest;"
        "print(digest({'s': {'SS': ['b', 'a', 'c']}, 'm': {'M': {'y': {}, 'x': {'N': '1.0'}}}})"
        ".hex())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            timeout=30,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
