"""What commands print for a person: checks as lines, the status of running processes as tables.

Every text that comes from outside is shown without control characters and is never read as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
UNKNOWN = "unknown"
STALLED = "stalled"
STATE_STYLES: Mapping[str, str] = {
    "ok": "green",
    "starting": "yellow",
    "lagging": "yellow",
    "unknown": "magenta",
    "paused": "blue",
    "degraded": "yellow",
    "retrying": "yellow",
    "failed": "red",
    STALLED: "red",
    "stopped": "red",
}
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
    """The links of one process, what each region would lose, and what troubles it."""
    for part in status_parts(url, status, None):
        console.print(part, soft_wrap=isinstance(part, Text))


def status_parts(
    url: str, status: Mapping[str, Any], before: Mapping[str, Any] | None
) -> list[Text | Table]:
    """What `status` and `top` show of one process. `before`: an earlier document, for rates."""
    state = str(status["state"])
    title = Text.assemble(
        (plain(state), STATE_STYLES.get(state, "")),
        f"  {plain(url)}  version {plain(status['version'])}, process {plain(status['pid'])}",
    )
    parts: list[Text | Table] = [title, _links(status, before)]
    parts += [Text(line) for line in _exposures(status)]
    parts.append(Text(_conflicts(status)))
    troubles = [*_troubles(status["pipelines"]), *_aside(status)]
    parts += [Text.assemble(("▲ ", "yellow"), line) for line in troubles]
    return parts


def _links(status: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("table", "link", "state"):
        table.add_column(name)
    rates = _rates(status, before) if before else {}
    figures = ("pending", "behind", "p50", "p99", "heartbeat")
    counts = ("applied/s",) if before else ("applied", "removed")
    for name in (*figures, *counts, "retries", "quarantined"):
        table.add_column(name, justify="right")
    for pipeline in status["pipelines"]:
        for link in pipeline["links"]:
            place = (pipeline["table"], pipeline["source"], link["target"])
            applied = [_rate(rates, place)] if before else None
            table.add_row(*_link_row(pipeline, link, applied))
    return table


def _rate(rates: Mapping[tuple[str, str, str], float], place: tuple[str, str, str]) -> str:
    return f"{rates[place]:,.1f}" if place in rates else "unknown"


def _rates(
    status: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[tuple[str, str, str], float]:
    """Changes applied per second, by link; a process that began anew counts from 0.

    Links of a process that does not answer are left out.
    """
    seconds = (status["now_us"] - before["now_us"]) / 1e6
    if seconds <= 0:
        return {}
    now = _applied(status)
    earlier = _applied(before) if before["pid"] == status["pid"] else dict.fromkeys(now, 0)
    return {
        place: max(0, applied - earlier[place]) / seconds
        for place, applied in now.items()
        if place in earlier
    }


def _applied(status: Mapping[str, Any]) -> dict[tuple[str, str, str], int]:
    return {
        (pipeline["table"], pipeline["source"], link["target"]): link["applied"]
        for pipeline in status["pipelines"]
        for link in pipeline["links"]
        if link["applied"] is not None
    }


def _exposures(status: Mapping[str, Any]) -> list[str]:
    """A line per region: what would be lost if it vanished now."""
    return [
        f"if {plain(region)} vanished now: {_number(exposure['seconds'], 's')}, "
        f"{_at_least(exposure['records'])} changes"
        for region, exposure in status.get("exposure", {}).items()
    ]


def _conflicts(status: Mapping[str, Any]) -> str:
    total = sum(pipeline["records"]["conflicts"] for pipeline in status["pipelines"])
    return f"conflicts decided: {total:,}"


def _at_least(records: int | None) -> str:
    """What was read and waits; what a region holds beyond that nobody knows."""
    return f"at least {records:,}" if records else _count(records)


def _aside(status: Mapping[str, Any]) -> list[str]:
    """What troubles the telemetry itself."""
    lines = []
    for region, ledger in status.get("ledger", {}).items():
        if ledger["unwritten"]:
            lines.append(
                f"{region}: {ledger['unwritten']:,} conflicts are missing in the ledger for good; "
                "decided all the same"
            )
        if ledger["error"]:
            lines.append(
                f"{region}: conflicts cannot be recorded: {ledger['error']}; "
                "check that this process may write its control table there"
            )
    otlp = status.get("telemetry", {}).get("otlp")
    if otlp and otlp["error"]:
        lines.append(
            f"metrics cannot be pushed: {otlp['error']}; check the collector and "
            "[telemetry] otlp_endpoint"
        )
    return [plain(line) for line in lines]


def moment(time_us: int) -> str:
    """A time in microseconds as UTC, to the millisecond."""
    when = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{when:%Y-%m-%d %H:%M:%S}.{time_us // 1000 % 1000:03d}Z"


def plain(value: object) -> str:
    """A text with everything taken out that a terminal might obey."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in str(value)
    )


def _link_row(
    pipeline: Mapping[str, Any], link: Mapping[str, Any], applied: Sequence[str] | None
) -> list[Text]:
    state, backlog_age_s = _state(pipeline, link), link["backlog_age_s"]
    if state == STALLED and not backlog_age_s:
        backlog_age_s = None  # it does not look, so that nothing waits is not known
    latency = link["latency_ms"]
    counted = applied or [_count(link[name]) for name in ("applied", "removed")]
    return [
        Text(plain(pipeline["table"])),
        Text(f"{plain(pipeline['source'])} → {plain(link['target'])}"),
        Text(plain(state), STATE_STYLES.get(state, "")),
        Text(_count(link["pending"])),
        Text(_number(backlog_age_s, "s")),
        Text(_number(latency["p50"], "ms")),
        Text(_number(latency["p99"], "ms")),
        Text(_number(link.get("heartbeat_age_s"), "s")),
        *(Text(text) for text in counted),
        *(Text(_count(link[name])) for name in ("retries", "quarantined")),
    ]


def _state(pipeline: Mapping[str, Any], link: Mapping[str, Any]) -> str:
    """That of the link, unless all is well with it but its pipeline does not run."""
    if pipeline.get("stalled") and link["state"] != "paused":
        return STALLED
    moves = link["state"] != "ok" or pipeline["state"] == "running"
    return str(link["state"] if moves else pipeline["state"])


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _number(value: float | None, unit: str) -> str:
    """Unknown is never shown as zero."""
    return UNKNOWN if value is None else f"{value:,.1f} {unit}"


def _troubles(pipelines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with pipelines and links, and what to do about it; the worst first."""
    lines = []
    for pipeline in pipelines:
        where = f"{pipeline['table']}, {pipeline['source']}"
        lines += [f"{where}: {line}" for line in _pipeline_troubles(pipeline)]
        for link in pipeline["links"]:
            if link["error"]:
                lines.append(f"{where} → {link['target']}: {link['error']}")
            if link.get("stuck"):
                lines.append(f"{where} → {link['target']}: {_stuck(link['stuck'], 'there')}")
    return [plain(line) for line in lines]


def _pipeline_troubles(pipeline: Mapping[str, Any]) -> Iterator[str]:
    if reason := pipeline.get("stalled"):
        yield f"stands still: {reason}; restart the process, it goes on from its checkpoint"
    if pipeline["error"]:
        yield pipeline["error"]
    if pipeline["gap"]:
        yield f"gap in what was read: {pipeline['gap']['reason']}"
    if error := pipeline.get("heartbeat_error"):
        yield f"takes no heartbeat: {error}; check that this process may write there"
    if waiting := pipeline.get("stuck"):
        yield _stuck(waiting, "at home")
    if rival := pipeline.get("rival"):
        yield f"{rival} reads it as well; that does no harm, stop one of the two"


def _stuck(changes: int, where: str) -> str:
    noun = "change" if changes == 1 else "changes"
    return f"{changes:,} {noun} failed {where} and will be tried again"
