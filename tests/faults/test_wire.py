"""Faults between the product and the service: a real engine behind a proxy that spoils calls.

Every test is over when what was written stands in every region, and says so only if its fault came
up. What spoils a call comes up on both data planes, the lean one and botocore's; what is about the
pipelines, once, on the lean one. Rows of tests/FAULTS.md by their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from replicator.aws import sessions
from replicator.settings import ClientPlane
from support.engines import Engine
from support.fault_proxy import (
    CRASHED,
    THROTTLED,
    Ahead,
    Delay,
    Fault,
    Foreign,
    Hang,
    LostAnswer,
    Partial,
    Refusal,
    Reset,
    Truncated,
    WrongCrc,
)
from support.live import Live

SHORT_S = 1.5
WRITES = ("PutItem", "UpdateItem", "DeleteItem")
BOTH_PLANES = pytest.mark.parametrize("plane", ClientPlane)


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent service is given up sooner than after the ten seconds of production."""
    monkeypatch.setattr(sessions, "READ_TIMEOUT_S", SHORT_S)


@pytest.fixture
def plane() -> ClientPlane:
    """The data plane; `BOTH_PLANES` gives a test the other one too."""
    return ClientPlane.LEAN


@pytest.fixture
def live(engine: Callable[[str], Engine], plane: ClientPlane) -> Iterator[Live]:
    """Two regions that both write, and both read."""
    with Live(engine("ministack"), plane=plane) as made:
        yield made


@pytest.fixture
def one_way(engine: Callable[[str], Engine], plane: ClientPlane) -> Iterator[Live]:
    """One source and two targets."""
    regions = ("us-east-1", "eu-west-1", "ap-south-1")
    with Live(engine("ministack"), regions=regions, one_way=True, plane=plane) as made:
        yield made


def written(live: Live, count: int = 12) -> dict[str, str]:
    """Write some items at home; returns them."""
    items = {f"k{number}": f"v{number}" for number in range(count)}
    for key, content in items.items():
        live.write(live.home, key, content)
    return items


@pytest.mark.parametrize(
    ("plane", "operation"),
    [
        (ClientPlane.LEAN, "UpdateItem"),
        (ClientPlane.BOTOCORE, "UpdateItem"),
        (ClientPlane.LEAN, "Query"),
        (ClientPlane.LEAN, "PutItem"),
    ],
)
def test_f24_a_throttled_control_table_delays_and_loses_nothing(live: Live, operation: str) -> None:
    """Checkpoints, tombstones and the source's own stamps are refused for a while: all arrives."""
    items = written(live)
    live.delete(live.home, "k0")
    del items["k0"]
    live.proxies[live.home].next(operation, *[THROTTLED] * 2)
    live.proxies[live.away].next(operation, *[THROTTLED] * 2)
    live.run(live.arrived(items))
    assert live.struck()["Refusal"] >= 1


def test_f27_a_throttled_target_delays_its_own_link_only(one_way: Live) -> None:
    """While one target refuses every write, the other holds all of it; then the first does too."""
    items = written(one_way)
    slow, fast = one_way.regions[1:]
    one_way.proxies[slow].always("PutItem", THROTTLED)
    one_way.run(
        lambda: one_way.contents(fast) == items and one_way.link()["retries"] > 0,
        lambda: one_way.contents(slow) == {},
        one_way.heal(slow, "PutItem"),
        one_way.arrived(items),
    )


@BOTH_PLANES
def test_f28_what_a_batch_leaves_unprocessed_is_asked_for_again(live: Live) -> None:
    """Every batch read answers half of its keys, and the writes that need them are all made."""
    items = written(live)
    for proxy in live.proxies.values():
        proxy.always("BatchGetItem", Partial())
    live.run(live.arrived(items), sources=(live.home,))
    assert sum(proxy.unprocessed for proxy in live.proxies.values()) > 1


@BOTH_PLANES
@pytest.mark.parametrize("operation", WRITES)
def test_f29_a_lost_answer_is_no_lost_race(live: Live, operation: str) -> None:
    """The write was carried out; made again it finds its own marker: a success, no conflict."""
    items = written(live)
    live.run(live.arrived(items))
    for proxy in live.proxies.values():
        proxy.next(operation, *[LostAnswer()] * 4)
    for key in ("k0", "k1"):
        live.delete(live.home, key)
        del items[key]
    live.write(live.home, "k2", "new")
    live.write(live.home, "fresh", "new")
    items |= {"k2": "new", "fresh": "new"}
    live.run(live.arrived(items))
    assert live.struck()["LostAnswer"] > 0
    assert all(stats.records.conflicts == 0 for stats in live.stats.values())


@BOTH_PLANES
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (WrongCrc(), "a checksum that does not fit"),
        (Truncated(), "an answer that breaks off"),
        (Foreign(), "an answer of somebody else's"),
        (Reset(), "a reset connection"),
        (CRASHED, "a crashed service"),
        (Refusal(503, "ServiceUnavailable"), "a service that is not there"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_f31_a_spoiled_answer_is_no_answer(live: Live, fault: Fault, name: str) -> None:
    """Whatever call it hits, on the stream, the tables or the control table: it is made again."""
    del name
    items = written(live)
    rng = Random(11)
    for proxy in live.proxies.values():
        proxy.shake(rng, 0.15, [fault])
    live.run(live.arrived(items))
    assert live.struck()[type(fault).__name__] > 2


@BOTH_PLANES
def test_f31_an_endpoint_that_is_gone_is_shown_as_unknown_lag(live: Live) -> None:
    """While the source answers nothing its backlog is unknown, never 0, and heals by itself."""
    items = written(live)
    reads = ("DescribeStream", "GetRecords", "GetShardIterator")
    for operation in reads:
        live.proxies[live.home].always(operation, Reset())
    live.run(
        lambda: live.stats[live.home].source_error is not None,
        lambda: live.link()["backlog_age_s"] is None,
        live.heal(live.home, *reads),
        live.arrived(items),
    )


@BOTH_PLANES
def test_f32_a_half_open_target_is_given_up_and_delays_nobody_else(one_way: Live) -> None:
    """Every write to one target hangs for ever: the other goes on; healed, all arrives."""
    items = written(one_way, 6)
    silent, fast = one_way.regions[1:]
    one_way.proxies[silent].always("PutItem", Hang())
    one_way.run(
        lambda: one_way.contents(fast) == items,
        lambda: one_way.struck().get("Hang", 0) > 0,
        lambda: one_way.contents(silent) == {},
        one_way.heal(silent, "PutItem"),
        one_way.arrived(items),
    )


@BOTH_PLANES
def test_f32_a_slow_region_is_waited_for(live: Live) -> None:
    """Half a second on every call to one region costs time and nothing else."""
    items = written(live, 4)
    live.proxies[live.away].always("*", Delay(0.5))
    live.run(live.arrived(items), sources=(live.home,))
    assert live.struck()["Delay"] > 4


@BOTH_PLANES
@pytest.mark.parametrize(
    "clock",
    [Ahead(3600.0), Ahead(-7200.0, "RequestTimeTooSkewed"), Ahead(900.0, "SignatureDoesNotMatch")],
    ids=lambda clock: clock.code,
)
def test_f34_a_clock_that_is_refused_is_corrected_by_the_services_date(
    live: Live, clock: Ahead, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody answers what is signed by our own clock, from the first call on: all arrives, and
    how far the clock is off is told, but no change is taken for one that can never be applied."""
    items = written(live)
    for proxy in live.proxies.values():
        proxy.always("*", clock)
    live.run(live.arrived(items))
    told = [record for record in caplog.records if record.message == "clock.off"]
    assert {record.__dict__["region"] for record in told} == set(live.regions)
    assert all(abs(record.__dict__["ahead_s"] - clock.seconds) < 60 for record in told)
    assert not [record for record in caplog.records if record.message == "task.stuck"]
    assert live.link()["quarantined"] == 0
