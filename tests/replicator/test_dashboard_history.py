"""The history behind the charts: bounded, honest about what is unknown, worst first."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.dashboard.history import LINK_FIGURES, WINDOWS, History

BEGIN_S = 1_700_000_000.0
SLOTS = sum(window.slots for window in WINDOWS)


def status(
    *targets: str, backlog_age_s: float | None = 0.0, applied: int | None = 0, **more: Any
) -> dict[str, Any]:
    """A status of one pipeline with a link to each target."""
    link = {"latency_ms": {"p50": 5.0, "p99": 9.0}, "backlog_age_s": backlog_age_s}
    links = [{**link, "target": target, "applied": applied} for target in targets or ("eu",)]
    return {"pipelines": [{"table": "orders", "source": "us", "links": links}], **more}


def figures(history: History, window: str = "10m") -> dict[str, Any]:
    """The figures of the first link."""
    found: dict[str, Any] = history.document(window, None)["links"][0]
    return found


def test_a_second_is_a_slot() -> None:
    """What was recorded comes back in its order, with the time of the first."""
    history = History()
    for second in range(3):
        history.record(status(backlog_age_s=float(second), applied=10 * second), BEGIN_S + second)
    document = history.document("10m", "orders")
    assert (document["step_s"], document["start_s"], document["slots"]) == (1, int(BEGIN_S), 3)
    assert figures(history)["backlog_s"] == [0.0, 1.0, 2.0]
    assert figures(history)["applied_per_s"] == [None, 10.0, 10.0]
    assert figures(history)["p99_ms"] == [9.0, 9.0, 9.0]


def test_what_was_not_recorded_is_unknown() -> None:
    """A process that stood still leaves a hole, not a line through it."""
    history = History()
    history.record(status(), BEGIN_S)
    history.record(status(), BEGIN_S + 3)
    assert figures(history)["backlog_s"] == [0.0, None, None, 0.0]


def test_a_long_hole_leaves_nothing_of_before() -> None:
    """A ring that was gone round shows none of its old figures for new ones."""
    history = History()
    history.record(status(backlog_age_s=7.0), BEGIN_S)
    history.record(status(backlog_age_s=1.0), BEGIN_S + 100_000)
    for window in WINDOWS:
        values = figures(history, window.name)["backlog_s"]
        assert len(values) == window.slots
        assert values[:-1] == [None] * (window.slots - 1)
        assert values[-1] == 1.0


def test_a_coarser_slot_holds_the_worst() -> None:
    """A spike of one second is seen after a day; a second of not knowing makes its slot unknown."""
    history = History()
    at_s = BEGIN_S - BEGIN_S % 60
    for second in range(10):
        history.record(status(backlog_age_s=42.0 if second == 4 else 0.0), at_s + second)
    assert figures(history, "2h")["backlog_s"] == [42.0]
    history.record(status(backlog_age_s=None), at_s + 11)
    history.record(status(backlog_age_s=1.0), at_s + 12)
    assert figures(history, "2h")["backlog_s"] == [42.0, None]
    assert figures(history, "24h")["backlog_s"] == [None]


@pytest.mark.parametrize("every_s", [1, 2, 5])
def test_a_coarser_slot_holds_the_mean_of_a_rate(every_s: int) -> None:
    """600 changes a minute are 10 a second, in whatever bursts they come and however looked at."""
    history = History()
    at_s = BEGIN_S - BEGIN_S % 60
    for second in range(0, 181, every_s):
        history.record(status(applied=600 * ((second + 29) // 60)), at_s + second)
    seen = {window.name: figures(history, window.name)["applied_per_s"] for window in WINDOWS}
    assert max(rate for rate in seen["10m"] if rate is not None) == 600.0 / every_s
    assert seen["2h"][9] == pytest.approx(60.0)
    assert seen["24h"][1:3] == pytest.approx([10.0, 10.0])


def test_a_rate_that_is_unknown_for_a_second_does_not_count() -> None:
    """The mean is that of the seconds that are known; with none, it is unknown."""
    history = History()
    at_s = BEGIN_S - BEGIN_S % 60
    for second, applied in enumerate((0, 6, None, 6, 8)):
        history.record(status(applied=applied), at_s + second)
    assert figures(history, "24h")["applied_per_s"] == [4.0]
    history.record(status(applied=None), at_s + 60)
    assert figures(history, "24h")["applied_per_s"] == [4.0, None]


def test_a_counter_that_went_back_gives_no_rate() -> None:
    """A process that was started anew has not applied less than nothing."""
    history = History()
    for second, applied in enumerate((100, 120, 5, 6, None, 9)):
        history.record(status(applied=applied), BEGIN_S + second)
    assert figures(history)["applied_per_s"] == [None, 20.0, None, 1.0, None, None]


def test_a_link_takes_as_much_after_a_day_as_after_a_second() -> None:
    """24 hours lie in memory that is bounded: 4 bytes a slot, whatever comes."""
    history = History()
    link_bytes = 4 * SLOTS * len(LINK_FIGURES)
    history.record(status("eu", "ap"), BEGIN_S)
    assert history.bytes_kept == 2 * link_bytes
    for minute in range(2 * 1_440):
        history.record(status("eu", "ap"), BEGIN_S + 60 * minute)
    assert history.bytes_kept == 2 * link_bytes
    assert history.document("24h", None)["slots"] == 1_440


def test_links_beyond_the_bound_are_told_and_not_kept() -> None:
    """Names that come and go cannot fill the memory."""
    history = History(links_max=2)
    history.record(status("a", "b", "c", "d"), BEGIN_S)
    assert history.omitted == 2
    for second in range(1, 500):
        history.record(status("a", "b", f"other-{second}"), BEGIN_S + second)
    assert [link["target"] for link in history.document("10m", None)["links"]] == ["a", "b"]
    assert history.bytes_kept == 2 * 4 * SLOTS * len(LINK_FIGURES)


def test_a_link_that_is_gone_for_a_day_makes_room() -> None:
    """What nobody reports any more is forgotten when its place is needed."""
    history = History(links_max=1)
    history.record(status("old"), BEGIN_S)
    history.record(status("new"), BEGIN_S + 90_000)
    assert [link["target"] for link in history.document("10m", None)["links"]] == ["new"]


def test_exposure_is_kept_by_region() -> None:
    """Unknown stays unknown; what is not reported is not there."""
    history = History()
    exposure = {"us": {"seconds": 1.5, "records": 3}, "eu": None}
    history.record(status(exposure=exposure), BEGIN_S)
    regions = history.document("10m", None)["regions"]
    assert regions == {"us": {"exposure_s": [1.5]}, "eu": {"exposure_s": [None]}}


def test_a_table_is_asked_for_by_name() -> None:
    """Others are left out."""
    history = History()
    history.record(status(), BEGIN_S)
    assert history.document("10m", "ledger")["links"] == []
    with pytest.raises(KeyError):
        history.document("1y", None)
