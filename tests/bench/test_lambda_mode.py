"""The figures of Lambda mode can be made."""

from __future__ import annotations

from bench.lambda_mode import measure


def test_the_bench_measures_a_function() -> None:
    """One cold start and a few invocations: each takes time, and a warm one less."""
    figures = measure(colds=1, warms=10)
    assert 0 < figures.warm_best_ms <= figures.warm_ms
    assert figures.warm_ms / 1000 < figures.cold_best_s <= figures.cold_s
    assert figures.cold_cpu_s > 0
    assert figures.work_ms > 0
