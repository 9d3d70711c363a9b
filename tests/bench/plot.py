"""The plot beside the table: items a second and CPU, against shards and round trip, as SVG.

    make bench-plot      measures and writes tests/bench/plot.svg

This needs no library: two panels, one line per round trip, drawn by hand. The picture brings its
own ground and its own colours for light and for dark, so that it can be read wherever it is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from html import escape
from math import floor, log10
from operator import attrgetter
from pathlib import Path
from statistics import median

from bench.answers import Answers
from bench.endpoint import NullEndpoint
from bench.measuring import Cost, cost
from bench.replication import replicating, settings_for
from replicator.records import Mode
from support.engines import CREDENTIALS

SHARDS = (1, 2, 4, 8)
ROUND_TRIPS_MS = (0, 20, 70)
RECORDS = 16_000
PAGE_RECORDS = 500
IN_FLIGHT = 512
ROUNDS = 3

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, PANEL, APART = 780, 330, 70, 88, 280, 290, 90
HEADROOM = 1.1
"""The highest value keeps this far from the upper edge."""

TICKS_MAX = 5
LINES = (("#1b6ca8", "#6cb6ff", "0"), ("#b8432b", "#ff9b80", "7 4"), ("#2f7d51", "#7ccf9d", "2 4"))
"""Of each line: its colour on light ground, on dark ground, and its dashes."""

STYLE = """
.ground {{ fill: #ffffff }} text {{ fill: #1f2328 }} .note {{ fill: #57606a }}
.axis {{ stroke: #57606a; fill: none }} .grid {{ stroke: #d8dee4 }}
polyline {{ fill: none; stroke-width: 2 }} {light}
@media (prefers-color-scheme: dark) {{
.ground {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} .note {{ fill: #9da7b3 }}
.axis {{ stroke: #9da7b3 }} .grid {{ stroke: #30363d }} {dark}
}}
"""

Series = Mapping[int, Sequence[float]]
"""Round trip in milliseconds -> one value per number of shards."""


def measured() -> dict[tuple[int, int], list[Cost]]:
    """The runs by round trip in milliseconds and number of shards; all take turns."""
    costs: dict[tuple[int, int], list[Cost]] = {}
    with ExitStack() as stack:
        works = {
            (ms, shards): stack.enter_context(_replicating(shards, ms))
            for ms in ROUND_TRIPS_MS
            for shards in SHARDS
        }
        for work in works.values():
            work()  # makes the answers and opens the connections, and does not count
        for _ in range(ROUNDS):
            for place, work in works.items():
                costs.setdefault(place, []).append(cost(work))
    return costs


@contextmanager
def _replicating(shards: int, round_trip_ms: int) -> Iterator[Callable[[], int]]:
    pages = RECORDS // shards // PAGE_RECORDS
    answers = Answers(shards=shards, pages=pages, page_records=PAGE_RECORDS)
    with NullEndpoint(answers, round_trip_s=round_trip_ms / 1000) as endpoint:
        settings = settings_for(Mode.ONE_WAY, endpoint.url, concurrency=IN_FLIGHT)
        with replicating(settings, answers.records) as work:
            yield work


def drawn(items_per_s: Series, cpu_us: Series, note: str) -> str:
    """The two panels. `note` says where and when it was measured."""
    titles = ("items a second", "CPU per item, µs")
    panels = "".join(
        _panel(LEFT + number * (PANEL + APART), title, series)
        for number, (title, series) in enumerate(zip(titles, (items_per_s, cpu_us), strict=True))
    )
    said = f"{' and '.join(titles)}, by shards and round trip: {note}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(said)}">\n'
        f"<style>{_style(len(items_per_s))}</style>\n"
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>\n'
        f'<text class="note" x="{LEFT}" y="24">{escape(note)}</text>\n'
        f"{_legend(items_per_s)}{panels}</svg>\n"
    )


def _style(lines: int) -> str:
    def rules(ground: int) -> str:
        return " ".join(
            f".line{place} {{ stroke: {LINES[place][ground]} }} "
            f".dot{place} {{ fill: {LINES[place][ground]} }}"
            for place in range(lines)
        )

    return STYLE.format(light=rules(0), dark=rules(1))


def _legend(series: Series) -> str:
    parts = [f'<text x="{LEFT}" y="48">round trip</text>']
    for place, round_trip_ms in enumerate(series):
        x = LEFT + 80 + 110 * place
        parts.append(_line(place, [(x, 44), (x + 34, 44)]))
        parts.append(f'<text x="{x + 42}" y="48">{round_trip_ms} ms</text>')
    return "\n".join(parts) + "\n"


def _panel(left: int, title: str, series: Series) -> str:
    height, top = BOTTOM - TOP, max(max(values) for values in series.values())
    xs = [left + 20 + place * (PANEL - 40) / (len(SHARDS) - 1) for place in range(len(SHARDS))]
    parts = [f'<text x="{left}" y="{TOP - 12}" font-weight="bold">{escape(title)}</text>']
    step = _step(top)
    for tick in range(1, int(top / step) + 1):
        y = BOTTOM - tick * step / top * height / HEADROOM
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{left + PANEL}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,.0f}</text>'
        )
    parts.append(f'<path class="axis" d="M{left} {TOP}V{BOTTOM}H{left + PANEL}"/>')
    parts += [
        f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{shards}</text>'
        for x, shards in zip(xs, SHARDS, strict=True)
    ]
    middle = left + PANEL / 2
    parts.append(f'<text x="{middle}" y="{BOTTOM + 36}" text-anchor="middle">shards</text>')
    for place, values in enumerate(series.values()):
        ys = [BOTTOM - value / top * height / HEADROOM for value in values]
        parts.append(_line(place, list(zip(xs, ys, strict=True))))
    return "\n".join(parts) + "\n"


def _step(top: float) -> float:
    """The smallest round number that goes into `top` TICKS_MAX times at most."""
    decade: float = 10.0 ** floor(log10(top / TICKS_MAX))
    return next(decade * part for part in (1, 2, 5, 10) if top / (decade * part) <= TICKS_MAX)


def _line(place: int, points: Sequence[tuple[float, float]]) -> str:
    """A line and its dots."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = LINES[place][2]
    return f'<polyline class="line{place}" stroke-dasharray="{dashes}" points="{path}"/>' + "".join(
        f'<circle class="dot{place}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points
    )


def main(path: Path) -> None:
    """Measure, and write the plot."""
    os.environ.update(CREDENTIALS)
    busy = f"load of others {os.getloadavg()[0]:.1f}"
    note = f"{os.cpu_count()} cores, {busy}, {datetime.now(UTC).date()}, null endpoint, one-way"
    costs = measured()
    items_per_s, cpu_us = (
        {ms: [median(map(figure, costs[ms, shards])) for shards in SHARDS] for ms in ROUND_TRIPS_MS}
        for figure in (attrgetter("per_s"), attrgetter("cpu_us_each"))
    )
    path.write_text(drawn(items_per_s, cpu_us, note), encoding="utf-8")
    fastest = max(max(row) for row in items_per_s.values())
    sys.stdout.write(f"{path}: up to {fastest:,.0f} items a second\n")


if __name__ == "__main__":
    main(Path(__file__).with_name("plot.svg"))
