"""What was measured, for people and for machines: a table, and bench.json.

Figures that were not measured this time stay in bench.json as they were, each with its own date and
command.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Result


def document(result: Result, command: str) -> dict[str, Any]:
    """A result as it stands in bench.json."""
    return {
        "figure": result.figure.name,
        "title": result.figure.title,
        "value": _rounded(result.value),
        "unit": result.figure.unit,
        "spread": [_rounded(edge) for edge in result.spread],
        "goal": str(result.figure.goal),
        "reached": result.reached,
        "rounds": len(result.values),
        "command": command,
        "parts": {name: _rounded(value) for name, value in result.parts.items()},
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def keep(path: Path, found: Iterable[dict[str, Any]]) -> None:
    """Put what was found into a bench.json, in place of earlier findings of the same figures."""
    stored = json.loads(path.read_text()) if path.exists() else []
    merged = {entry["figure"]: entry for entry in stored}
    merged |= {entry["figure"]: entry for entry in found}
    path.write_text(json.dumps(list(merged.values()), indent=2) + "\n")


def markdown(path: Path) -> str:
    """What a bench.json holds, as the table of the README."""
    lines = [
        "| figure | median | lowest to highest | goal | made of | command, date |",
        "|---|---|---|---|---|---|",
    ]
    for entry in json.loads(path.read_text()):
        low, high = entry["spread"]
        parts = ", ".join(f"{name} {value:g}" for name, value in entry["parts"].items())
        goal = entry["goal"] + ("" if entry["reached"] else ", missed")
        lines.append(
            f"| {entry['title']} | {entry['value']:g} | {low:g} to {high:g} | {goal} | {parts} "
            f"| `{entry['command']}`, {entry['date']} |"
        )
    return "\n".join(lines)


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    table = Table(title=f"{os.cpu_count()} cores, Python {platform.python_version()}")
    for title in ("figure", "median", "spread", "goal", "", "rounds", "made of"):
        table.add_column(title, justify="left" if title in ("figure", "made of") else "right")
    for result in results:
        low, high = result.spread
        table.add_row(
            result.figure.title,
            f"{_rounded(result.value):g}",
            f"{_rounded(low):g} to {_rounded(high):g}",
            str(result.figure.goal),
            "reached" if result.reached else "MISSED",
            str(len(result.values)),
            ", ".join(f"{name} {_rounded(value):g}" for name, value in result.parts.items()),
        )
    console.print(table)


def _rounded(value: float) -> float:
    """Four digits: no figure here is known to more."""
    return float(f"{value:.4g}")
