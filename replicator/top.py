"""`replicator top`: what `status` shows, again and again, with rates.

On a terminal a live screen, elsewhere one block after another; with `--json` a line per look, each
the same document as `status --json`. A process that does not answer stays on the screen, with what
is wrong in place of figures: old figures never pass for new ones.

This module must not know how a process is asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from replicator.inquiry import Report
from replicator.show import moment, plain, status_parts


def watch(
    ask: Callable[[], Sequence[Report]],
    *,
    looks: int | None,
    interval_s: float,
    as_json: bool,
    console: Console,
    sleep: Callable[[float], None],
) -> bool:
    """Look until interrupted, or so many times; whether all was well at the last look."""
    screens = _screens(ask, looks=looks, interval_s=interval_s, as_json=as_json, sleep=sleep)
    well = True
    if as_json or not console.is_terminal:
        for screen, well in screens:  # noqa: B007 - the last one is the result
            console.print(screen, soft_wrap=True)
        return well
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for screen, well in screens:  # noqa: B007
            live.update(screen, refresh=True)
    return well


def _screens(
    ask: Callable[[], Sequence[Report]],
    *,
    looks: int | None,
    interval_s: float,
    as_json: bool,
    sleep: Callable[[float], None],
) -> Iterator[tuple[RenderableType, bool]]:
    before: dict[str, Mapping[str, Any]] = {}
    for look in count(1):
        reports = ask()
        well = all(report.well for report in reports)
        if as_json:
            documents = [report.document for report in reports]
            yield Text(json.dumps(documents, separators=(",", ":"))), well
        else:
            yield Group(*_parts(reports, before)), well
        if look == looks:
            return
        sleep(interval_s)


def _parts(
    reports: Sequence[Report], before: dict[str, Mapping[str, Any]]
) -> Iterator[RenderableType]:
    """The screen; `before` is brought up to date for the next one."""
    for report in reports:
        status = report.status
        if status is None:
            before.pop(report.url, None)
            yield Text.assemble(("✗ ", "red"), plain(report.error))
            continue
        yield Text(f"{moment(int(status['now_us']))}", "dim")
        yield from status_parts(report.url, status, before.get(report.url))
        before[report.url] = status


def interrupted_quietly(watching: Callable[[], bool]) -> bool:
    """Whether all was well; Ctrl-C is how a person ends it, and no failure."""
    try:
        return watching()
    except KeyboardInterrupt:
        sys.stdout.flush()
        return True
