"""How the demo shows itself: live at a terminal, as plain lines everywhere else.

Both take the same `View`, a frozen picture of the demo at one moment, so that what is shown is
decided in one place and how in another. Nothing here takes part in the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from replicator.demo.world import REGIONS, TABLES, Pair

EVENTS_SHOWN = 6
LIVE_REFRESH_PER_S = 4
PLAIN_LINE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """One link as its replicator reports it; None where it does not answer."""

    pending: int | None
    state: str
    connected: bool
    lag_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The demo at one moment."""

    phase: str
    elapsed_s: float
    total_s: float
    writes: Mapping[tuple[str, str], int]
    """By (table, region)."""
    conflicts: int
    replicated: int
    links: Mapping[tuple[str, Pair], LinkView]
    cut: str | None


class Screen(Protocol):
    """Where the demo shows itself."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def event(self, text: str) -> None:
        """Something happened."""
        ...

    def show(self, view: View) -> None:
        """The demo stands so now."""
        ...

    def close(self, title: str, rows: Sequence[tuple[str, str]], *, good: bool) -> None:
        """The end: the closing table."""
        ...


@dataclass(slots=True)
class PlainLines:
    """Timestamped lines, for logs and pipes."""

    console: Console
    _shown_at_s: float = -PLAIN_LINE_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def event(self, text: str) -> None:
        self._line(text)

    def show(self, view: View) -> None:
        if view.elapsed_s - self._shown_at_s < PLAIN_LINE_EVERY_S:
            return
        self._shown_at_s = view.elapsed_s
        pending = sum(link.pending or 0 for link in view.links.values())
        self._line(
            f"{view.phase:<9} {sum(view.writes.values()):>6,} writes"
            f"  {view.conflicts:>5,} conflicts  {view.replicated:>7,} replicated"
            f"  {pending:>5,} pending"
        )

    def close(self, title: str, rows: Sequence[tuple[str, str]], *, good: bool) -> None:
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self._print(f"  {name:<{width}}  {value}")
        self._print(title)

    def _line(self, text: str) -> None:
        self._print(f"{datetime.now(UTC):%H:%M:%S} {text}")

    def _print(self, text: str) -> None:
        # A log line is one line: no wrapping at the width of a terminal that is not there.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class LiveScreen:
    """Phases, writes and links, redrawn in place."""

    console: Console
    _events: list[str] = field(default_factory=list)
    _view: View | None = None
    _live: Live | None = None

    def __enter__(self) -> Self:
        self._live = Live(
            console=self.console,
            get_renderable=self._render,
            refresh_per_second=LIVE_REFRESH_PER_S,
            transient=True,
        )
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def event(self, text: str) -> None:
        self._events.append(f"{datetime.now(UTC):%H:%M:%S} {text}")

    def show(self, view: View) -> None:
        self._view = view

    def close(self, title: str, rows: Sequence[tuple[str, str]], *, good: bool) -> None:
        self._stop()
        table = Table(show_header=False, box=None, padding=(0, 2))
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*map(Text, row))
        colour = "green" if good else "red"
        self.console.print(
            Panel(
                Group(table, Text(""), Text(title, style=f"bold {colour}")),
                title="Replicator demo",
                border_style=colour,
                expand=False,
            )
        )

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._view is not None:
            parts += [_header(self._view), _matrices(self._view)]
        parts.append(Text("\n".join(self._events[-EVENTS_SHOWN:]), style="dim"))
        return Panel(Group(*parts), title="Replicator demo", border_style=_border(self._view))


def _border(view: View | None) -> str:
    return "red" if view is not None and view.cut is not None else "blue"


def _header(view: View) -> RenderableType:
    done = min(1.0, view.elapsed_s / view.total_s)
    bar = "█" * round(done * 24) + "░" * (24 - round(done * 24))
    line = Text.assemble(
        (f" {view.phase:<9}", "bold"),
        f" {bar} {view.elapsed_s:4.0f} s   ",
        (f"{sum(view.writes.values()):,}", "bold"),
        " writes   ",
        (f"{view.conflicts:,}", "bold yellow"),
        " conflicts   ",
        (f"{view.replicated:,}", "bold green"),
        " replicated",
    )
    if view.cut is not None:
        line.append(f"\n ✂ {view.cut} is cut off; everyone keeps writing", style="bold red")
    return line


def _matrices(view: View) -> RenderableType:
    """One matrix: a row per table and source, a column per target."""
    matrix = Table(expand=True, header_style="bold", box=box.SIMPLE_HEAD)
    matrix.add_column("table")
    matrix.add_column("written in", no_wrap=True)
    matrix.add_column("writes", justify="right")
    for region in REGIONS:
        matrix.add_column(f"→ {region}", ratio=1, no_wrap=True)  # one width, so nothing jumps
    for table in TABLES:
        for source in table.writers:
            matrix.add_row(
                table.name,
                Text(source, style="red" if source == view.cut else ""),
                f"{view.writes.get((table.name, source), 0):,}",
                *(_cell(view.links.get((table.name, (source, to)))) for to in REGIONS),
            )
        matrix.add_section()
    return matrix


def _cell(link: LinkView | None) -> Text:
    if link is None:
        return Text("·", style="dim")
    if not link.connected:
        return Text(f"✂ {link.pending or 0:,} waiting", style="bold red")
    lag = "" if link.lag_ms is None else f"  {link.lag_ms:,.0f} ms"
    if link.pending is None:
        return Text("not answering", style="yellow")
    if link.state != "ok":
        return Text(f"{link.state} {link.pending:,} waiting", style="yellow")
    return Text(f"✓{lag}" if link.pending == 0 else f"{link.pending:,} on the way{lag}", "green")
