"""The shipping code stands thousands of random schedules, and they are not hollow ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.check import Simulation
from simulation.coverage import Situation, table
from simulation.run import Span, run_span
from simulation.schedule import draw

ROOT = Path(__file__).resolve().parents[2]
BLOCK_SEEDS = 1_000
BLOCKS = 4

AT_LEAST = {
    Situation.STAMPED: 2_500,
    Situation.GUARDED: 3,
    Situation.HELD: 250,
    Situation.RESTORED: 50,
    Situation.PUT_BACK: 500,
    Situation.LIFTED: 100,
    Situation.POLICED: 20,
    Situation.FINISHED: 180,
    Situation.CONFLICT: 1_300,
    Situation.STALE: 1_500,
    Situation.DUPLICATE: 250,
    Situation.FOLDED: 500,
    Situation.PASSED: 80,
    Situation.REPLAYED: 300,
    Situation.EXPIRED: 200,
    Situation.AHEAD: 4,
    Situation.READ_BACK: 200,
    Situation.LOST_ANSWER: 600,
    Situation.THROTTLED: 1_300,
    Situation.CRASH: 800,
    Situation.REWOUND: 60,
    Situation.ZOMBIE: 250,
    Situation.SPLIT: 450,
    Situation.LAST_DELETE: 170,
    Situation.LAST_PUT: 550,
}
"""In a thousand schedules: a quarter to three quarters of what is seen."""


@pytest.mark.parametrize("block", range(BLOCKS))
def test_everything_that_must_hold_holds(block: int) -> None:
    """No schedule breaks an invariant, and every situation that matters comes up."""
    first = block * BLOCK_SEEDS

    total = run_span(Span(first, first + BLOCK_SEEDS))

    assert not total.failures, "\n".join(total.failures)
    rare = {s: total.coverage[s] for s, least in AT_LEAST.items() if total.coverage[s] < least}
    assert not rare, f"seeds {first} to {first + BLOCK_SEEDS}:\n{table(total.coverage)}"


@pytest.mark.parametrize("seed", [0, 1, 7, 15, 42, 271])
def test_a_seed_decides_everything(seed: int) -> None:
    """The same seed gives the same stream records, in the same order."""
    first, again = (Simulation(draw(seed)).run() for _ in range(2))

    assert first == again


@pytest.mark.parametrize("seed", [3, 23])
def test_a_seed_decides_everything_in_another_process(seed: int) -> None:
    """The order of sets and the addresses of objects play no part."""
    ended = subprocess.run(
        [sys.executable, "-m", "simulation.run", f"--seed={seed}"],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "PYTHONHASHSEED": "7",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ended.stdout.endswith(f"digest {Simulation(draw(seed)).run().digest}\n")


def test_every_kind_of_schedule_is_drawn() -> None:
    """Two to five regions, one and several writers, every view type, both TTL modes."""
    drawn = [draw(seed) for seed in range(500)]

    assert {len(schedule.regions) for schedule in drawn} == {2, 3, 4, 5}
    assert len({schedule.view for schedule in drawn if schedule.source}) == 4
    assert len({schedule.ttl_deletes for schedule in drawn}) == 2
    assert len({schedule.clocks.grain_us for schedule in drawn}) == 4
    assert len({schedule.habits.rate for schedule in drawn}) == 4
    assert {bool(schedule.source) for schedule in drawn if schedule.only_writer} == {True, False}
