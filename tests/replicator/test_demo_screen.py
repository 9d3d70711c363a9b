"""What the demo shows: the live screen and the plain lines say the same of one view."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from replicator.demo.screen import LinkView, LiveScreen, PlainLines, View
from replicator.demo.world import CUT_OFF, REGIONS, TABLES

HEALTHY = LinkView(pending=0, state="ok", connected=True, lag_ms=321.4)
VIEW = View(
    phase="conflict",
    elapsed_s=4.0,
    total_s=8.0,
    writes={(table.name, region): 100 for table in TABLES for region in table.writers},
    conflicts=7,
    replicated=1_234,
    links={(table.name, pair): HEALTHY for table in TABLES for pair in table.links},
    cut=None,
)


def rendered(view: View) -> str:
    """The last picture that the live screen draws of a view."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=130, height=40, color_system=None)
    with LiveScreen(console) as screen:
        screen.show(view)
    return text.getvalue()


def with_links(link: LinkView) -> View:
    """The view with all links like this."""
    return replace(VIEW, links=dict.fromkeys(VIEW.links, link))


def test_the_live_screen_shows_phase_counts_and_lag() -> None:
    """Everything that moves is in one picture: phase, writes, conflicts, replication, lag."""
    shown = rendered(VIEW)
    for part in ("conflict", "400", "1,234", "✓  321 ms", *REGIONS):
        assert part in shown


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (replace(HEALTHY, connected=False, pending=12), "✂ 12 waiting"),
        (replace(HEALTHY, pending=3), "3 on the way"),
        (replace(HEALTHY, state="retrying", pending=3), "retrying 3 waiting"),
        (replace(HEALTHY, pending=None), "not answering"),
    ],
)
def test_a_link_says_how_it_stands(link: LinkView, expected: str) -> None:
    """What is cut, behind, failing or silent is never shown as well."""
    shown = rendered(with_links(link))
    assert expected in shown
    assert "✓" not in shown


def test_an_outage_is_seen_at_a_glance() -> None:
    """The region that is cut off is named while it lasts."""
    assert f"✂ {CUT_OFF} is cut off" in rendered(replace(VIEW, cut=CUT_OFF))
    assert "cut off" not in rendered(VIEW)


def test_plain_lines_are_whole_and_not_too_many() -> None:
    """One line per interval, none of them wrapped, and the verdict in the last."""
    text = io.StringIO()
    screen = PlainLines(Console(file=text, width=20))
    with screen:
        for elapsed_s in (0.0, 0.5, 1.0, 2.0, 2.5):
            screen.show(replace(VIEW, elapsed_s=elapsed_s))
        screen.close("0 differences", [("writes", "400")], good=True)
    first, second, row, title = text.getvalue().splitlines()
    assert first[9:] == second[9:]
    assert "400 writes" in first
    assert "1,234 replicated" in first
    assert row == "  writes  400"
    assert title == "0 differences"
