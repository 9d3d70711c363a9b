"""What each backend gets wrong: backend, check, reason.

A check is a test's name, or that and its case in brackets. Each entry is a strict expected failure:
when a backend mends it, the test fails until the entry is taken out. An entry that names no check
stops the run. DynamoDB itself is meant to pass them all, as DynamoDB Local does.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_OP = "a write that changes nothing is in the stream as a MODIFY"
_TYPES = "comparing a text with a value of another type is an internal error (500), not false"
_NO_END = "a table whose stream was disabled answers every call on it with 500; no shard ends"
_SPELLING = "a number in a key finds its item only as it was spelled"
_PLAIN = "values are compared as they are written; the simulator writes each in one way only"

DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "memory": {
        "test_a_guard_that_holds_lets_the_stamp_land[a set in another order]": _PLAIN,
        "test_a_guard_that_holds_lets_the_stamp_land[a number in another form]": _PLAIN,
        "test_a_set_in_another_order_leaves_no_record": _PLAIN,
        "test_a_number_in_another_form_leaves_no_record": _PLAIN,
    },
    "moto": {
        "test_put[older-number]": _TYPES,
        "test_put[older-binary]": _TYPES,
        "test_put[older-map]": _TYPES,
        "test_stamp[older-number]": _TYPES,
        "test_stamp[older-binary]": _TYPES,
        "test_stamp[older-map]": _TYPES,
        "test_delete[older-number]": _TYPES,
        "test_delete[older-binary]": _TYPES,
        "test_delete[older-map]": _TYPES,
        "test_an_item_close_to_400_kb_passes": "an item is measured in its wire form",
        "test_a_put_of_what_stands_leaves_no_record": _NO_OP,
        "test_a_set_in_another_order_leaves_no_record": _NO_OP,
        "test_a_number_in_another_form_leaves_no_record": _NO_OP,
        "test_an_update_to_what_stands_leaves_no_record": _NO_OP,
        "test_an_update_that_makes_an_item_is_one_insert": (
            "two INSERTs, the first of which carries the keys alone"
        ),
        "test_a_disabled_stream_ends_its_shard": _NO_END,
        "test_a_disabled_stream_says_so": _NO_END,
        "test_an_unknown_shard_is_gone": "an unknown shard is an internal error (500)",
    },
    "ministack": {
        "test_a_set_in_another_order_leaves_no_record": "sets are compared as lists",
        "test_equal_numbers_are_one_key[1.0]": _SPELLING,
        "test_equal_numbers_are_one_key[1E0]": _SPELLING,
        "test_equal_numbers_are_one_key[01]": _SPELLING,
    },
    "dynamodb-local": {},
}
