"""The report of `verify`: opened before anything is compared, and its owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from replicator.configuration import settings_of
from replicator.errors import ConfigurationError, Fatal
from replicator.verify.assembly import VerifyOptions
from replicator.verify.command import verify_table
from support.scripted_api import ScriptedApi

REGIONS = ("us-east-1", "eu-west-1")
SETTINGS = settings_of(
    {"regions": {region: {} for region in REGIONS}, "tables": {"orders": {"regions": REGIONS}}},
    {},
    stated_by="test",
)


def verify(report: Path) -> tuple[str, int]:
    """Compare regions that refuse every call; the complaint, and how many calls there were."""
    apis = {region: ScriptedApi(*[Fatal("not allowed")] * 4) for region in REGIONS}
    with pytest.raises(ConfigurationError) as raised:
        verify_table(
            SETTINGS,
            VerifyOptions(table="orders"),
            connect=apis.__getitem__,
            as_json=False,
            report=report,
        )
    return str(raised.value), sum(len(api.calls) for api in apis.values())


@pytest.mark.parametrize("place", ["no/where", "."])
def test_a_report_that_cannot_be_written_is_said_before_anything_is_compared(
    tmp_path: Path, place: str
) -> None:
    """A missing folder, a directory: one line, and no region is asked."""
    path = tmp_path / place
    said, calls = verify(path)
    assert said.startswith(f"--report: {path}: not written: ")
    assert (len(said.splitlines()), calls) == (1, 0)


def test_a_report_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds keys in clear."""
    report = tmp_path / "differences.jsonl"
    before = os.umask(0o022)
    try:
        _, calls = verify(report)
    finally:
        os.umask(before)
    assert calls
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
