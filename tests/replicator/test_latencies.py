"""Latencies: percentiles of late, a histogram of all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.latencies import BOUNDS_S, RECENT_US, WINDOW, Latencies, percentiles

NOW_US = 1_700_000_000_000_000


def of(*latencies_ms: float) -> Latencies:
    """What was noted just now."""
    made = Latencies()
    for latency_ms in latencies_ms:
        made.note(latency_ms, NOW_US)
    return made


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.99]))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[float], fraction: float
) -> None:
    """Up to the rounding to a tenth of a millisecond."""
    (found,) = percentiles(values, (fraction,))
    assert found is not None
    assert any(abs(found - value) <= 0.05001 for value in values)
    assert sum(value <= found + 0.05001 for value in values) >= fraction * len(values)


def test_of_no_values_there_is_no_percentile() -> None:
    """Null, not 0."""
    assert Latencies().percentiles((0.5, 0.99), NOW_US) == [None, None]


def test_percentiles_are_of_the_recent_deliveries() -> None:
    """An old outage leaves the window."""
    found = of(*[9_999.0] * 100, *[5.0] * WINDOW)
    assert found.percentiles((0.5, 0.99), NOW_US) == [5.0, 5.0]


def test_percentiles_of_long_ago_do_not_pass_for_those_of_now() -> None:
    """After a minute without a delivery there are none, and the next one stands alone."""
    found = of(9_999.0)
    assert found.percentiles((0.5,), NOW_US + RECENT_US) == [9_999.0]
    later_us = NOW_US + RECENT_US + 1
    assert found.percentiles((0.5,), later_us) == [None]
    found.note(5.0, later_us)
    assert found.percentiles((0.5, 0.99), later_us) == [5.0, 5.0]


def test_an_outage_leaves_the_window_however_few_changes_follow_it() -> None:
    """One every ten seconds never fills the window, nor is there ever a silence to clear it."""
    found = of(*[310_000.0] * 60)
    for number in range(1, 8):
        found.note(5.0, NOW_US + number * 10_000_000)
    assert found.percentiles((0.99,), NOW_US + RECENT_US) == [310_000.0]
    assert found.percentiles((0.5, 0.99), NOW_US + 70_000_000) == [5.0, 5.0]


@given(st.lists(st.floats(0, 1e9), max_size=50))
def test_the_histogram_holds_every_latency_once(values: list[float]) -> None:
    """In the first bucket whose bound it does not exceed; long silences change nothing."""
    found = Latencies()
    for number, latency_ms in enumerate(values):
        found.note(latency_ms, NOW_US + number * 2 * RECENT_US)
    bounds = [*(bound * 1000 for bound in BOUNDS_S), float("inf")]
    for index, bound in enumerate(bounds):
        assert sum(found.buckets[: index + 1]) == sum(value <= bound for value in values)
    assert found.sum_ms == pytest.approx(sum(values))
    assert found.greatest_ms == max(values, default=0.0)
    assert found.least_ms == min(values, default=float("inf"))


def test_what_nobody_takes_out_is_bounded() -> None:
    """The newest are kept."""
    found = of(*(float(n) for n in range(WINDOW + 5)))
    assert (len(found.untold_ms), found.untold_ms[0]) == (WINDOW, 5.0)
