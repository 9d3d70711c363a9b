"""The plot: what is drawn is what was measured, and it can be read on light and on dark ground."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from bench.plot import BOTTOM, HEADROOM, LINES, SHARDS, TOP, drawn

SVG = "{http://www.w3.org/2000/svg}"
ITEMS = {0: [100.0, 200.0, 300.0, 400.0], 70: [10.0, 20.0, 40.0, 80.0]}
CPU = {0: [50.0, 50.0, 50.0, 50.0], 70: [60.0, 60.0, 60.0, 60.0]}


def _plot() -> ET.Element:
    return ET.fromstring(drawn(ITEMS, CPU, "2 cores & <quiet>"))  # noqa: S314 - made here


def test_each_round_trip_is_a_line_with_a_dot_per_number_of_shards() -> None:
    """Nothing that was measured is left out, and the highest value is the highest dot."""
    plot = _plot()
    lines = [line.get("points", "").split() for line in plot.iter(f"{SVG}polyline")]
    curves = [line for line in lines if len(line) == len(SHARDS)]
    heights = [BOTTOM - float(point.partition(",")[2]) for point in curves[0]]

    assert len(curves) == len(ITEMS) + len(CPU)
    assert [round(height / heights[0], 2) for height in heights] == [1.0, 2.0, 3.0, 4.0]
    assert abs(heights[-1] - (BOTTOM - TOP) / HEADROOM) < 0.1


def test_every_class_has_a_colour_on_both_grounds() -> None:
    """What has a colour on light ground has another one on dark ground."""
    style = next(_plot().iter(f"{SVG}style")).text or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")

    for name in ("ground", "note", "axis", "grid", "line0", "line1", "dot0", "dot1"):
        colours = [re.search(rf"\.{name} {{[^}}]*(#[0-9a-f]{{6}})", part) for part in (light, dark)]
        found = [match.group(1) for match in colours if match]
        assert len(set(found)) == 2, name


def test_lines_differ_by_more_than_colour() -> None:
    """Who sees no colours tells them by their dashes."""
    assert len({dashes for _, _, dashes in LINES}) == len(LINES)
