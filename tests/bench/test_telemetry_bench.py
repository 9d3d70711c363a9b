"""The benchmark of telemetry: it runs, and both of its sides do the same work."""

from __future__ import annotations

from bench.telemetry import Unmeasured, _prepared


def test_both_sides_are_measured() -> None:
    """The figure is their ratio, less one."""
    with _prepared(pages=1) as measure:
        found = measure()
    ratio = found["µs per record with it"] / found["µs per record without"]
    assert found["telemetry-cpu"] == ratio - 1
    assert min(found.values()) > -1


def test_without_telemetry_no_latency_is_kept() -> None:
    """Else the side without would pay a part of what is measured."""
    unmeasured = Unmeasured()
    unmeasured.note(5.0, 1)
    assert unmeasured == Unmeasured()
