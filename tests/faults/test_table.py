"""tests/FAULTS.md says what is: every row, every test, and no test beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.deviations import DEVIATIONS
from support.engines import ENGINES

TESTS = Path(__file__).parents[1]
ROWS = 53
STATUSES = {"shown", "shown in part", "not provoked here"}
_ROW = re.compile(
    r"^\| (\d+) \|(?P<fault>[^|]+)\|(?P<tests>[^|]*)\|(?P<status>[^|]+)\|(?P<remark>[^|]*)\|$"
)
_NUMBERS = re.compile(r"(?<=_)f(\d\d)(?=_)")


def table() -> list[re.Match[str]]:
    """The rows of the table."""
    lines = (TESTS / "FAULTS.md").read_text(encoding="utf-8").splitlines()
    return [row for row in map(_ROW.match, lines) if row]


def named(row: re.Match[str]) -> list[str]:
    """The tests of a row: file and function."""
    return re.findall(r"`([^`]+)`", row["tests"])


def functions(file: Path) -> Iterator[str]:
    """The tests that pytest collects from a file."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name


def test_every_fault_of_the_catalogue_has_its_row() -> None:
    """Once, in order, with a status that means something."""
    rows = table()
    assert [int(row[1]) for row in rows] == list(range(1, ROWS + 1))
    assert {row["status"].strip() for row in rows} <= STATUSES


def test_every_row_has_a_test_or_says_why_not() -> None:
    """What is missing stands in the remark."""
    for row in table():
        assert named(row) or row["status"].strip() == "not provoked here"
        if row["status"].strip() != "shown":
            assert len(row["remark"].split()) > 2, row[0]


@pytest.mark.parametrize("row", table(), ids=lambda row: f"row {row[1]}")
def test_every_test_of_a_row_is_there_and_bears_its_number(row: re.Match[str]) -> None:
    """A test that was renamed or taken out makes the table untrue."""
    for test in named(row):
        file, _, function = test.partition("::")
        assert function in functions(TESTS / file), test
        assert int(row[1]) in map(int, _NUMBERS.findall(function)), test


def test_no_test_of_a_fault_is_left_out() -> None:
    """Each that bears numbers stands in each of their rows."""
    listed = {(int(row[1]), test.partition("::")[2]) for row in table() for test in named(row)}
    for file in TESTS.rglob("test_*.py"):
        for function in functions(file):
            for number in map(int, _NUMBERS.findall(function)):
                assert (number, function) in listed, f"{file.name}: {function}"


@pytest.mark.parametrize("engine", [*ENGINES, "memory"])
def test_f53_what_an_engine_gets_wrong_is_an_expected_failure_with_its_reason(engine: str) -> None:
    """Each names a check of the contract, which fails as soon as the engine is mended (strict)."""
    contract = {name for file in (TESTS / "contract").glob("test_*.py") for name in functions(file)}
    for check, reason in DEVIATIONS[engine].items():
        assert check.partition("[")[0] in contract, check
        assert len(reason.split()) > 2
