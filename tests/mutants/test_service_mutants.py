"""A bug in the service is noticed by a test that is named for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.service import SERVICE_MUTANTS, ServiceMutant


@pytest.mark.parametrize("mutant", SERVICE_MUTANTS, ids=lambda mutant: mutant.bug)
def test_a_seeded_bug_is_killed(mutant: ServiceMutant, tmp_path: Path) -> None:
    """Its test fails by an assertion; a hang or a crash of another kind does not count."""
    mutant.copy_to(tmp_path)

    assert mutant.is_killed(tmp_path)
