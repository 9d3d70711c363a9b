"""Each rule of the protocol matters: switched off, a schedule fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_rule_switched_off_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    """The mutated sources break an invariant; a hang or a crash of another kind does not count."""
    mutant.copy_to(tmp_path)

    assert mutant.is_noticed(tmp_path)
