"""Values that others have lost on the way, and tables that go wrong, on a real engine.

Rows of tests/FAULTS.md by their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from replicator.preflight import wrong_stream
from replicator.records import Mode, TableDescription, ViewType
from support.black_box_tables import bare, text
from support.engines import Engine
from support.fault_proxy import Refusal
from support.live import Live

DEEP: dict[str, Any] = {"S": "bottom"}
for _ in range(30):
    DEEP = {"L": [DEEP]}

VALUES: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "f41 numbers": {
        "38 digits": {"N": "0.12345678901234567890123456789012345678"},
        "large": {"N": "9.9E+125"},
        "small": {"N": "1E-130"},
        "a hundred zeros": {"N": "1" + "0" * 100},
        "negative": {"N": "-12345678901234567890123456789012345678"},
    },
    "f42 binaries": {
        "all bytes": {"B": bytes(range(256))},
        "looks like base64": {"B": b"aGVsbG8="},
        "in a set": {"BS": [b"\x00", b"\xff\xfe"]},
        "in a map": {"M": {"b": {"B": b"\x80"}}},
    },
    "f43 empty and deep": {
        "empty text": {"S": ""},
        "empty binary": {"B": b""},
        "empty map": {"M": {}},
        "empty list": {"L": []},
        "null": {"NULL": True},
        "no": {"BOOL": False},
        "deep": DEEP,
        "set": {"SS": ["b", "a", "ä", "\U0001f600"]},
        "1.0": {"N": "1.0"},
    },
}


@pytest.fixture
def live(engine: Callable[[str], Engine]) -> Iterator[Live]:
    """Two regions that both write."""
    with Live(engine("ministack")) as made:
        yield made


def test_f41_f42_f43_values_arrive_as_they_were_written(live: Live) -> None:
    """Numbers of 38 digits, binaries that look like text, what is empty, what is deep: the copy
    is the item, in each direction, and an update of it too."""
    for name, values in VALUES.items():
        live.put(live.home, {"id": {"S": name}, **values})
        live.put(live.away, {"id": {"S": f"{name} from away"}, **values})
    count = 2 * len(VALUES)
    live.run(lambda: len(live.items(live.home)) == len(live.items(live.away)) == count)
    for name, values in VALUES.items():
        for key in (name, f"{name} from away"):
            for region in live.regions:
                assert text(live.items(region)[key]) == text({"id": {"S": key}, **values})


def test_f46_nothing_but_the_marker_is_added(live: Live) -> None:
    """The items of both regions differ from what was written by one attribute of one name."""
    written = {"id": {"S": "1"}, "content": {"S": "x"}, "aws:rep:origin": {"S": "mine"}}
    live.put(live.home, written)
    live.run(lambda: "1" in live.items(live.away))
    for region in live.regions:
        found = live.items(region)["1"]
        assert bare(found) == written
        assert set(found) - set(written) <= {"_replicator"}


@pytest.mark.parametrize("view", [v for v in ViewType if v is not ViewType.NEW_AND_OLD_IMAGES])
def test_f47_a_stream_without_both_images_is_refused_where_several_write(
    engine: Callable[[str], Engine], view: ViewType
) -> None:
    """It says which view type is wanted and why, replicates nothing, and changes nothing."""
    with Live(engine("ministack"), view_type=view) as live:
        live.write(live.home, "1", "x")
        stats = live.stats[live.home]
        live.run(lambda: "NEW_AND_OLD_IMAGES" in (stats.session_error or ""))
        assert live.contents(live.away) == {}
        assert bare(live.items(live.home)["1"]) == live.items(live.home)["1"]


@pytest.mark.parametrize("view", ViewType)
def test_f47_every_view_type_serves_one_way(view: ViewType) -> None:
    """What a record lacks is read back."""
    schema = {"id": ("HASH", "S")}
    described = TableDescription(name="orders", key_schema=schema, stream_arn="arn", view_type=view)
    assert wrong_stream(Mode.ONE_WAY, described) is None
    refused = wrong_stream(Mode.MULTI_WRITER, described) is not None
    assert refused == (view is not ViewType.NEW_AND_OLD_IMAGES)


def test_f48_a_target_that_is_deleted_in_mid_run_stops_its_table_only(live: Live) -> None:
    """The link says so and keeps trying; the table made anew, what waited arrives."""
    live.write(live.home, "1", "x")
    live.run(live.arrived({"1": "x"}))
    live.drop(live.away)
    live.write(live.home, "2", "x")
    live.run(
        lambda: "ResourceNotFound" in (live.link()["error"] or ""),
        live.recreated(live.away),
        lambda: live.contents(live.away) == {"2": "x"},
        sources=(live.home,),
    )
    assert live.link()["stuck"] == 0


POISONS = {
    "f05 too large for the service": Refusal(413, "RequestEntityTooLarge"),
    "f05 not valid": Refusal(400, "ValidationException"),
    "f49 a full collection": Refusal(400, "ItemCollectionSizeLimitExceededException"),
}


@pytest.mark.parametrize("poison", POISONS)
def test_f05_f49_what_one_item_is_refused_for_parks_that_item_alone(
    live: Live, poison: str
) -> None:
    """The change is kept with its image, every other key goes on, and the process lives."""
    live.write(live.home, "bad", "x")
    live.proxies[live.away].next("PutItem", POISONS[poison])
    live.run(lambda: live.link()["quarantined"] == 1, sources=(live.home,))
    for number in range(5):
        live.write(live.home, str(number), "x")
    live.run(
        lambda: live.contents(live.away) == {str(number): "x" for number in range(5)},
        sources=(live.home,),
    )
    (row,) = live.control_rows(live.home, f"quarantine#{live.table}")
    assert row["image"]["B"]
    live.write(live.home, "bad", "better")
    live.run(lambda: live.contents(live.away).get("bad") == "better", sources=(live.home,))


FATAL = {
    "f05 forbidden": "AccessDeniedException",
    "f33 an old token": "ExpiredTokenException",
    "f34 a signature of the wrong time": "InvalidSignatureException",
    "f50 a key that is disabled": "KMSDisabledException",
    "f50 a key that may not be used": "KMSAccessDeniedException",
}


@pytest.mark.parametrize("refusal", FATAL)
def test_f05_f33_f34_f50_what_is_refused_for_now_is_told_and_tried_until_it_is_granted(
    live: Live, refusal: str
) -> None:
    """Nothing is parked, nothing is skipped, and what waited arrives when access is restored."""
    live.proxies[live.away].always("*", Refusal(400, FATAL[refusal]))
    live.write(live.home, "1", "x")
    live.run(
        lambda: FATAL[refusal] in (live.link()["error"] or ""),
        lambda: live.link()["quarantined"] == 0 and live.contents(live.away) == {},
        live.heal(live.away, "*"),
        lambda: live.contents(live.away) == {"1": "x"},
        sources=(live.home,),
    )


@pytest.mark.parametrize(
    "code", ["TransactionConflictException", "ReplicatedWriteConflictException"]
)
def test_f30_a_write_in_conflict_with_another_is_made_again(live: Live, code: str) -> None:
    """Both are refusals that pass: at home for the stamp, in the target for the put."""
    live.proxies[live.home].next("UpdateItem", *[Refusal(400, code)] * 3)
    live.proxies[live.away].next("PutItem", *[Refusal(400, code)] * 3)
    live.write(live.home, "1", "x")
    live.run(live.arrived({"1": "x"}))
    assert live.struck()["Refusal"] == 6
    assert live.link()["quarantined"] == 0


def test_f51_f52_poison_is_kept_whole_and_holds_up_nothing(live: Live) -> None:
    """The parked image is the item itself, in the control table, whatever becomes of the stream:
    a person who comes after a day still finds it."""
    live.proxies[live.away].next("PutItem", Refusal(400, "ValidationException"))
    live.write(live.home, "bad", "precious")
    live.run(lambda: live.link()["quarantined"] == 1, sources=(live.home,))
    live.switch_stream_off(live.home)
    (parked,) = live.parked(live.home)
    assert parked.key.attributes == {"id": {"S": "bad"}}
    assert parked.image == {"id": {"S": "bad"}, "content": {"S": "precious"}}
    assert parked.target == live.away
