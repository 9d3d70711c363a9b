"""What commands print for a person: checks as lines, the status of running processes as tables.

Every text that comes from outside is shown without control characters and is never read as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from replicator.preflight import Check, Level

MARKS: Mapping[Level, tuple[str, str]] = {
    Level.OK: ("✓", "green"),
    Level.WARNING: ("▲", "yellow"),
    Level.FAILED: ("✗", "red"),
}
STATE_STYLES: Mapping[str, str] = {
    "ok": "green",
    "running": "green",
    "starting": "yellow",
    "degraded": "yellow",
    "retrying": "yellow",
    "failed": "red",
    "stopped": "red",
}
UNKNOWN = "unknown"
PIPED_WIDTH = 1_000


def console() -> Console:
    """Standard output; what goes to a file or another program is not cut to a width."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def show_checks(checks: Sequence[Check], console: Console) -> None:
    """One line per check, and a line that sums up."""
    for check in checks:
        mark, style = MARKS[check.level]
        console.print(Text.assemble((f"{mark} ", style), plain(check.line)), soft_wrap=True)
    counts = {level: sum(check.level is level for check in checks) for level in Level}
    summary = f"{counts[Level.OK]} ok"
    if counts[Level.WARNING]:
        summary += f", {counts[Level.WARNING]} to look at"
    if counts[Level.FAILED]:
        summary += f", {counts[Level.FAILED]} failed"
    console.print(Text(summary, "bold"))


def show_status(url: str, status: Mapping[str, Any], console: Console) -> None:
    """The links of one process, and what troubles it."""
    state = str(status["state"])
    title = Text.assemble(
        (plain(state), STATE_STYLES.get(state, "")),
        f"  {plain(url)}  version {plain(status['version'])}, process {plain(status['pid'])}",
    )
    console.print(title, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("table", "link", "state"):
        table.add_column(name)
    for name in ("pending", "behind", "p50", "p99", "applied", "removed", "quarantined"):
        table.add_column(name, justify="right")
    for pipeline in status["pipelines"]:
        for link in pipeline["links"]:
            table.add_row(*_link_row(pipeline, link))
    console.print(table)
    for line in _troubles(status["pipelines"]):
        console.print(Text.assemble(("▲ ", "yellow"), line), soft_wrap=True)


def plain(value: object) -> str:
    """A text with everything taken out that a terminal might obey."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in str(value)
    )


def _link_row(pipeline: Mapping[str, Any], link: Mapping[str, Any]) -> list[Text]:
    state = str(pipeline["state"] if link["state"] == "ok" else link["state"])
    latency = link["latency_ms"]
    return [
        Text(plain(pipeline["table"])),
        Text(f"{plain(pipeline['source'])} → {plain(link['target'])}"),
        Text(plain(state), STATE_STYLES.get(state, "")),
        Text(_count(link["pending"])),
        Text(_number(link["backlog_age_s"], "s")),
        Text(_number(latency["p50"], "ms")),
        Text(_number(latency["p99"], "ms")),
        *(Text(_count(link[name])) for name in ("applied", "removed", "quarantined")),
    ]


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _number(value: float | None, unit: str) -> str:
    """Unknown is never shown as zero."""
    return UNKNOWN if value is None else f"{value:,.1f} {unit}"


def _troubles(pipelines: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for pipeline in pipelines:
        where = f"{pipeline['table']}, {pipeline['source']}"
        if pipeline["error"]:
            lines.append(f"{where}: {pipeline['error']}")
        if pipeline["gap"]:
            lines.append(f"{where}: gap in what was read: {pipeline['gap']['reason']}")
        lines += [
            f"{where} → {link['target']}: {link['error']}"
            for link in pipeline["links"]
            if link["error"]
        ]
    return [plain(line) for line in lines]
