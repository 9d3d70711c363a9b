"""Writes what README.md has from the code into README.md.

    PYTHONPATH=.:tests .venv/bin/python -m readme

tests/conflict/test_resolve.py and tests/replicator/test_fields.py fail where this has been
forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from conflict.resolve import truth_table
from replicator import fields

README = Path(__file__).parents[1] / "README.md"
REFRESH = "PYTHONPATH=.:tests .venv/bin/python -m readme"
SECTIONS: Mapping[str, Callable[[], str]] = {
    "truth-table": truth_table,
    "status-fields": fields.table,
}
"""By the name of the markers, what is to stand between them."""


def marks(name: str) -> tuple[str, str]:
    """What stands before and after a section."""
    return f"<!-- {name} -->\n", f"<!-- /{name} -->"


def section(text: str, name: str) -> str:
    """What stands between the markers.

    Raises: ValueError where one of them is missing or stands there twice.
    """
    begin, end = marks(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"README.md must hold {begin.strip()} and {end} once each")
    return text.partition(begin)[2].partition(end)[0]


def refreshed(text: str, sections: Mapping[str, Callable[[], str]] = SECTIONS) -> str:
    """The text with each section as the code has it now."""
    for name, make in sections.items():
        begin, end = marks(name)
        text = text.replace(begin + section(text, name) + end, f"{begin}{make()}\n{end}")
    return text


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text(encoding="utf-8")), encoding="utf-8")
