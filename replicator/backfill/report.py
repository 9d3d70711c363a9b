"""What a backfill prints: a line now and then while it runs, and a table at its end.

Lines go to standard error, what was asked for to standard output, so that `--json` is JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from replicator.backfill.estimate import Estimate
from replicator.backfill.plan import Plan
from replicator.backfill.tally import OUTCOMES, REFUSED, UNITS, Tally
from replicator.show import plain

LINE_EVERY_S = 3.0
REDRAW_EVERY_S = 0.5

HEADINGS = {"equal": "already equal"}
MEBIBYTE = 1 << 20


class Progress:
    """Says how far it is: one line that changes on a terminal, else a line every few seconds."""

    def __init__(
        self, *, console: Console, about: int, before: int, monotonic_s: Callable[[], float]
    ) -> None:
        """`about`: the items of the source; `before`: those settled when this process began."""
        self._console, self._about, self._before = console, about, before
        self._monotonic_s = monotonic_s
        self._started_s = self._said_s = monotonic_s()
        self._live = Live(console=console, transient=True) if console.is_terminal else None
        if self._live is not None:
            self._live.start()

    def show(self, done: int) -> None:
        """Tell that so many items are settled, if it is time to."""
        now_s = self._monotonic_s()
        if now_s - self._said_s < (REDRAW_EVERY_S if self._live else LINE_EVERY_S):
            return
        self._said_s = now_s
        line = Text(progress_line(done, self._before, self._about, now_s - self._started_s))
        if self._live is not None:
            self._live.update(line)
        else:
            self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()


def progress_line(done: int, before: int, about: int, elapsed_s: float) -> str:
    """How far, how fast, and until when."""
    rate = (done - before) / elapsed_s if elapsed_s > 0 else 0.0
    remaining = max(0, about - done)
    line = f"backfill: {done:,} of about {max(about, done):,} items, {rate:,.0f}/s"
    return f"{line}, about {_duration(remaining / rate)} left" if rate else line


def closing_table(plan: Plan, tally: Tally, seconds: float) -> list[Table | Text]:
    """What was done, one row per target."""
    title = Text(
        f"{plain(plan.table)} out of {plan.source}: {tally.items:,} items read "
        f"({tally.read_units:,.0f} read units), {_duration(seconds)}",
        "bold",
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("target")
    for outcome in OUTCOMES:
        table.add_column(HEADINGS.get(outcome, outcome), justify="right")
    table.add_column("write units", justify="right")
    for target, counts in tally.targets.items():
        cells = [f"{counts[name]:,}" for name in (*OUTCOMES, UNITS)]
        table.add_row(plain(target), *cells)
    return [title, table, *(Text(line, "yellow") for line in remarks(tally))]


def remarks(tally: Tally) -> list[str]:
    """What a person has still to look at."""
    lines = []
    if disputed := tally.count("disputed"):
        lines.append(
            f"{disputed:,} items differ and have no version on either side; they were left as they "
            "are: name the region that is right with --authority"
        )
    if refused := tally.count(REFUSED):
        lines.append(f"{refused:,} items were refused for good and are in the quarantine")
    return lines


def closing_document(plan: Plan, tally: Tally, seconds: float, *, resumed: bool) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "table": plan.table,
        "source": plan.source,
        "resumed": resumed,
        "seconds": round(seconds, 3),
        **tally.document,
    }


def estimate_lines(found: Estimate) -> list[str]:
    """A dry run in words."""
    size, targets = found.size_bytes / MEBIBYTE, ", ".join(found.targets)
    if found.seconds is None:
        time = "as fast as it goes; bound it with --write-rate and --read-rate"
    else:
        time = f"about {_duration(found.seconds)} at the given rate"
    return [
        f"{plain(found.table)}: about {found.items:,} items, {size:,.1f} MiB in {found.source}",
        f"read units: about {found.read_units:,.0f}",
        f"write units: about {found.write_units_per_target:,} in each of {targets}",
        f"time: {time}",
        "nothing was written",
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
