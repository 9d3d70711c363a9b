"""Whatever stands in a record, an item or a control row: no crash, and nothing passed by unsaid."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conflict.operations import Item, Key, KeyState
from conflict.origin import Change
from conflict.version import Kind, Version
from replicator.backfill.jobs import Jobs
from replicator.batch_reader import BatchReader
from replicator.conflicts import Wanted, newest
from replicator.control import ControlTable, digest
from replicator.errors import ConfigurationError, Fatal, Malformed, Poison
from replicator.handover.across import Across
from replicator.heartbeats import ControlRow
from replicator.key_states import ControlKeyStates
from replicator.packing import packed, unpacked
from replicator.pausing import ControlPauses
from replicator.positions import ControlCheckpoints
from replicator.records import EventName, Mode, Record
from replicator.transformer import Transformer
from replicator.waiting import Gaps, Quarantine
from support.clock import VirtualClock
from support.memory import MARKER
from support.pipelines import FUTURE_BOUND_US, PipelineBench, key_of
from support.scripted_api import ScriptedApi

FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.text(max_size=6)
plain: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda text: {"S": text}, texts),
    st.builds(lambda number: {"N": str(number)}, st.integers(-(10**38), 10**38)),
    st.builds(lambda data: {"B": data}, st.binary(max_size=6)),
    st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
    st.just({"NULL": True}),
    st.just({}),
    st.builds(lambda found: {"SS": sorted(found)}, st.sets(texts, min_size=1, max_size=3)),
)
values: st.SearchStrategy[Any] = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.builds(lambda found: {"L": found}, st.lists(inner, max_size=3)),
        st.builds(lambda found: {"M": found}, st.dictionaries(texts, inner, max_size=3)),
    ),
    max_leaves=6,
)
versions = st.builds(
    Version,
    st.integers(0, 2**53),
    st.sampled_from(["us", "eu", "elsewhere"]),
    st.integers(0, 10**39),
    st.sampled_from(list(Kind)),
)


def bent(text: str, place: int) -> str:
    """A text with one character gone."""
    return text[: place % (len(text) + 1)] + text[place % (len(text) + 1) + 1 :]


markers = st.one_of(
    st.builds(lambda version: {"S": version.text}, versions),
    st.builds(
        lambda version, place: {"S": bent(version.text, place)}, versions, st.integers(0, 99)
    ),
    values,
)
images = st.builds(
    lambda content, marker: {"id": {"S": "1"}, **content, **({MARKER: marker} if marker else {})},
    st.dictionaries(texts.filter(lambda name: name not in ("id", MARKER)), values, max_size=3),
    st.one_of(st.none(), markers),
)


@FUZZ
@given(
    old=st.one_of(st.none(), images),
    new=st.one_of(st.none(), images),
    event=st.one_of(st.none(), st.sampled_from(EventName)),
    ttl=st.booleans(),
    mode=st.sampled_from(Mode),
    created_us=st.integers(0, 2**53),
)
def test_any_record_is_a_change_or_is_refused_for_a_reason(
    old: Any, new: Any, event: EventName | None, ttl: bool, mode: Mode, created_us: int
) -> None:
    """Poison parks it, Fatal stops its table; nothing else comes out, and no image is changed."""
    transformer = Transformer(
        home="us", mode=mode, marker=MARKER, key_of=key_of, future_bound_us=FUTURE_BOUND_US
    )
    record = Record(
        sequence=7,
        created_us=created_us,
        event=event,
        keys={"id": {"S": "1"}},
        old=old,
        new=new,
        ttl=ttl,
    )
    before = repr(record)
    try:
        change = transformer.change(record, 10**15)
    except (Poison, Fatal):
        assert new is None
    else:
        assert isinstance(change, Change)
        assert change.created_us <= 10**15 + FUTURE_BOUND_US
    assert repr(record) == before


@settings(FUZZ, max_examples=25)
@given(
    written=st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), images)), max_size=8)
)
def test_whatever_is_written_arrives_as_it_stands(written: list[tuple[str, Any]]) -> None:
    """Odd values, markers of anybody or of nobody: every record is settled, and at rest the copy
    is what stands at home. A marker that passes for a foreign one hides its write (README.md)."""
    bench = PipelineBench()
    foreign = False

    async def script() -> None:
        nonlocal foreign
        for name, image in written:
            key = Key({"id": {"S": name}}, name)
            bench.regions["us"].now_us = bench.clock.now_us()
            if image is None:
                bench.write(name, None) if name in bench.regions["us"].items else None
                continue
            marker = image.get(MARKER)
            foreign = foreign or marker is not None
            content = {k: v for k, v in image.items() if k != MARKER}
            bench.regions["us"].write(key, Item({**content, **key.attributes}, marker))
        last = bench.stream.sequences("a")[-1] if bench.stream.sequences("a") else 0
        await bench.until(lambda: bench.stats.records.read >= last and settled(bench))

    bench.run(script)
    if not foreign:
        at_home = {name: item.image for name, item in bench.regions["us"].items.items()}
        assert {name: item.image for name, item in bench.regions["eu"].items.items()} == at_home


def settled(bench: PipelineBench) -> bool:
    """Whether all that was read is settled, and all there is was read."""
    read = bench.stats.records.read == len(bench.stream.sequences("a"))
    return read and bench.snapshot()["unsettled"] == 0


rows = st.dictionaries(
    st.sampled_from(["tombstone", "held_version", "held_sequence", "held_image", "other"]),
    st.one_of(
        markers.filter(bool),
        st.builds(lambda data: {"B": data}, st.binary(max_size=20)),
        st.builds(lambda image: {"B": packed(image)}, images),
        st.just({"B": packed({"id": {"S": "1"}})[:-3]}),
    ),
)


@FUZZ
@given(bad=rows, good=versions)
def test_one_bad_row_stops_its_key_and_no_other(bad: dict[str, Any], good: Version) -> None:
    """Keys that are read in one batch with it get their answers; the bad one is Malformed, or a
    state, and nothing else."""
    keys = [Key({"id": {"S": name}}, name) for name in ("bad", "good", "none")]
    stored = {
        "bad": bad,
        "good": {"tombstone": {"S": good.text}},
    }
    clock = VirtualClock()

    class Rows:
        """An Api that answers for the keys it is asked for."""

        async def call(self, operation: str, request: Any) -> dict[str, Any]:
            asked = [key["pk"]["S"] for key in request["RequestItems"]["control"]["Keys"]]
            names = {f"key#orders#{digest(key)}": key.id for key in keys}
            found = [
                {"pk": {"S": pk}, "sk": {"S": "state"}, **stored[names[pk]]}
                for pk in asked
                if names[pk] in stored
            ]
            return {"Responses": {"control": found}}

    states = ControlKeyStates(
        api=Rows(), control_table="control", table="orders", clock=clock, sleep=clock.sleep
    )
    reader: BatchReader[KeyState] = BatchReader(states.read)

    async def main() -> list[Any]:
        return await asyncio.gather(*map(reader.get, keys), return_exceptions=True)

    answers = clock.run(main())
    assert isinstance(answers[0], KeyState | Malformed)
    assert answers[1:] == [KeyState(good), KeyState()]


@FUZZ
@given(data=st.one_of(st.binary(max_size=40), st.builds(packed, images)))
def test_bytes_are_an_image_or_a_value_error(data: bytes) -> None:
    """No other error, and never something that is not an image."""
    try:
        found = unpacked(data)
    except ValueError:
        return
    assert all(isinstance(value, dict) for value in found.values())


control_rows = st.dictionaries(
    st.sampled_from(
        [
            "settled",
            "read_us",
            "since_us",
            "reason",
            "parked_version",
            "item_key",
            "parked_us",
            "image",
            "until_us",
            "sent_us",
            "at_us",
            "decided_in",
            "winner",
            "asked_for",
            "started_us",
            "settled_to",
            "counts",
        ]
    ),
    st.one_of(
        st.builds(lambda text: {"S": text}, texts),
        st.builds(lambda number: {"N": str(number)}, st.integers(-(10**30), 10**30)),
        st.just({"N": "1.5E+3"}),
        st.builds(lambda data: {"B": data}, st.binary(max_size=9)),
        st.builds(lambda image: {"B": packed(image)}, images),
        st.builds(lambda version: {"S": version.text}, versions),
        st.just({"NULL": True}),
    ),
    max_size=6,
)
SORTS = st.sampled_from(["arn#shard", "us#eu#digest", "", "#", "a#b", "a#b#c#d", "us"])


@FUZZ
@given(fields=control_rows, sort=SORTS)
@pytest.mark.parametrize(
    "kind",
    ["checkpoints", "gaps", "quarantine", "pauses", "across", "heartbeat", "ledger", "last read"],
)
def test_no_row_of_the_control_table_stops_a_table(
    kind: str, fields: dict[str, Any], sort: str
) -> None:
    """What cannot be read is told and left out, or counts as the worse case; a gap stays a gap."""
    row = {"pk": {"S": "p"}, "sk": {"S": sort}, **fields}
    api, clock = ScriptedApi({"Items": [row]}), VirtualClock()
    store = ControlCheckpoints(api=api, control_table="control", clock=clock)
    match kind:
        case "checkpoints":
            assert len(clock.run(store.load("orders", "us"))) <= 1
        case "gaps":
            gaps = Gaps(api=api, control_table="control")
            assert len(clock.run(gaps.load("orders", "us"))) == 1
        case "quarantine":
            quarantine = Quarantine(api=api, control_table="control")
            assert len(clock.run(quarantine.load("orders"))) <= 1
        case "pauses":
            pauses = ControlPauses(api=api, control_table="control")
            assert set(clock.run(pauses.load("orders", "us"))) <= {sort}
        case "across":
            across = Across(api=api, control_table="control")
            until_us = clock.run(across.until_us("orders", "us"))
            assert until_us is None or until_us >= 0
        case "heartbeat":
            control = ControlTable(api=api, name="control")
            beat = ControlRow(control=control, table="orders", source="us")
            sent_us = clock.run(beat.newest_us())
            assert sent_us is None or sent_us >= 0
        case "ledger":
            read = clock.run(newest(api, "control", "orders", Wanted()))
            assert len(read.conflicts) + read.malformed == 1
        case _:
            read_us = clock.run(store.last_read("orders", "us"))
            assert read_us is not None


@FUZZ
@given(fields=control_rows, sort=SORTS)
def test_a_backfill_is_known_or_its_row_is_named(fields: dict[str, Any], sort: str) -> None:
    """A cursor is never guessed, and no traceback says that it would have to be."""
    row = {"pk": {"S": "p"}, "sk": {"S": sort}, **fields}
    clock = VirtualClock()
    jobs = Jobs(
        api=ScriptedApi({"Items": [row]}), control_table="control", table="orders",
        source="us", clock=clock, sleep=clock.sleep,
    )  # fmt: skip
    told = f"backfill#orders#us: {sort}: the row is malformed"
    try:
        known, complaint = clock.run(jobs.load()), told
    except ConfigurationError as error:
        known, complaint = [], str(error)
    assert len(known) <= 1
    assert told in complaint
