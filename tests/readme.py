"""Writes what README.md has from the code into README.md.

    PYTHONPATH=.:tests .venv/bin/python -m readme

tests/conflict/test_resolve.py fails where this has been forgotten.
"""

from __future__ import annotations

from pathlib import Path

from conflict.resolve import truth_table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- truth-table -->\n", "<!-- /truth-table -->"
REFRESH = "PYTHONPATH=.:tests .venv/bin/python -m readme"


def section(text: str) -> str:
    """What stands between the markers.

    Raises: ValueError where one of them is missing or stands there twice.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must hold {BEGIN.strip()} and {END} once each")
    return text.partition(BEGIN)[2].partition(END)[0]


def refreshed(text: str) -> str:
    """The text with the truth table as the rule has it now."""
    return text.replace(BEGIN + section(text) + END, f"{BEGIN}{truth_table()}\n{END}")


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")
