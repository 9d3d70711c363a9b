"""What the page's charts show: 24 hours of figures in memory that is bounded.

Three rings per figure, each coarser and longer than the one before: seconds for 10 minutes, ten
seconds for 2 hours, minutes for 24 hours. A slot is four bytes, so a link takes 55 KB whatever
happens, and links beyond `links_max` are not kept, which `omitted` tells.

Unknown is NaN within and null outside, never 0. In a coarser slot the worst stands: an age that
was unknown for a second makes its minute unknown. A rate is no such figure: of it the mean over the
time that is known stands, so that what a chart shows, times the slot, is what was applied. A slot
in which nothing was recorded is unknown.

This module must not know HTTP, nor the clock: whoever records says when.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

NAN = math.nan
LINKS_MAX = 256

Link: TypeAlias = tuple[str, str, str]
"""Table, source, target. A region's exposure is kept under ("", region, "")."""
Rate: TypeAlias = tuple[float, float]
"""Changes a second, and the seconds during which it was so."""
Fold: TypeAlias = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Window:
    """How finely and how long figures are kept."""

    name: str
    step_s: int
    slots: int


WINDOWS = (Window("10m", 1, 600), Window("2h", 10, 720), Window("24h", 60, 1_440))


def _worst(standing: float, new: float) -> float:
    """Unknown is worse than any age."""
    return NAN if math.isnan(standing) or math.isnan(new) else max(standing, new)


def _highest(standing: float, new: float) -> float:
    """Of what was seen; a moment in which nothing was seen does not count."""
    if math.isnan(standing):
        return new
    return standing if math.isnan(new) else max(standing, new)


FOLDS: Mapping[str, Fold] = {
    "p50_ms": _highest,
    "p99_ms": _highest,
    "backlog_s": _worst,
    "exposure_s": _worst,
}
RATE = "applied_per_s"
"""The figure that has a mean; all others have a fold."""
LINK_FIGURES = ("p50_ms", "p99_ms", "backlog_s", RATE)
REGION_FIGURES = ("exposure_s",)


@dataclass(slots=True)
class _Mean:
    """The mean of the rates in one slot, each weighed by how long it held."""

    slot: int | None
    known_s: float = 0.0
    counted: float = 0.0

    def with_one_more(self, rate: float, during_s: float) -> float:
        """The mean with this one too; what is unknown does not count."""
        if not math.isnan(rate):
            self.known_s += during_s
            self.counted += rate * during_s
        return self.counted / self.known_s if self.known_s else NAN


class _Ring:
    """All figures at one resolution."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._values: dict[tuple[Link, str], array[float]] = {}
        self._means: dict[Link, _Mean] = {}
        self._newest: int | None = None
        self._first: int | None = None

    def move_to(self, now_s: float) -> bool:
        """Make the slot of this moment the newest; whether it is a new one."""
        slot, newest = int(now_s) // self.window.step_s, self._newest
        if newest is not None and slot <= newest:
            return False
        passed = self.window.slots if newest is None else min(slot - newest, self.window.slots)
        for values in self._values.values():
            for skipped in range(slot - passed + 1, slot + 1):
                values[skipped % self.window.slots] = NAN
        self._newest = slot
        self._first = slot if self._first is None else self._first
        return True

    def record(self, link: Link, figure: str, value: float, *, is_new: bool) -> None:
        """Take a figure into the newest slot."""
        at = self._at()
        values, is_first = self._of(link, figure)
        values[at] = value if is_new or is_first else FOLDS[figure](values[at], value)

    def record_rate(self, link: Link, rate: float, during_s: float) -> None:
        """Take a rate that held for so long into the newest slot."""
        at, slot = self._at(), self._newest
        values, _ = self._of(link, RATE)
        mean = self._means.get(link)
        if mean is None or mean.slot != slot:
            mean = self._means[link] = _Mean(slot)
        values[at] = mean.with_one_more(rate, during_s)

    def _at(self) -> int:
        return (self._newest or 0) % self.window.slots

    def _of(self, link: Link, figure: str) -> tuple[array[float], bool]:
        """The values of a figure, and whether they have just been made."""
        values = self._values.get((link, figure))
        if values is not None:
            return values, False
        values = self._values[link, figure] = array("f", [NAN]) * self.window.slots
        return values, True

    def forget(self, links: Iterable[Link]) -> None:
        gone = set(links)
        for name in [name for name in self._values if name[0] in gone]:
            del self._values[name]
        for link in gone:
            self._means.pop(link, None)

    @property
    def span(self) -> tuple[int, int]:
        """The first slot that is kept, and how many there are."""
        if self._newest is None or self._first is None:
            return 0, 0
        first = max(self._first, self._newest - self.window.slots + 1)
        return first, self._newest - first + 1

    def read(self, link: Link, figure: str) -> list[float]:
        """The figure in every slot of the span, the oldest first."""
        first, count = self.span
        values = self._values.get((link, figure))
        if values is None:
            return [NAN] * count
        start = first % self.window.slots
        return (values[start:] + values[:start]).tolist()[:count]


class History:
    """The figures of the last 24 hours."""

    def __init__(self, *, links_max: int = LINKS_MAX) -> None:
        self._rings = tuple(_Ring(window) for window in WINDOWS)
        self._links_max = links_max
        self._links: dict[Link, int] = {}
        self._counted: dict[Link, tuple[float, int]] = {}
        self.omitted = 0

    def record(self, status: Mapping[str, Any], now_s: float) -> None:
        """Take in a status document, once a second or less often."""
        new = [ring.move_to(now_s) for ring in self._rings]
        self.omitted = 0
        for link, figures, rate in self._figures(status, now_s):
            if not self._has_room(link, int(now_s)):
                self.omitted += 1
                continue
            for ring, is_new in zip(self._rings, new, strict=True):
                for figure, value in figures.items():
                    ring.record(link, figure, value, is_new=is_new)
                if rate is not None:
                    ring.record_rate(link, *rate)

    def _has_room(self, link: Link, now_s: int) -> bool:
        """Whether a link is kept; one not seen for 24 hours makes room for a new one."""
        if link not in self._links and len(self._links) >= self._links_max:
            oldest = min(self._links, key=self._links.__getitem__)
            if now_s - self._links[oldest] < WINDOWS[-1].step_s * WINDOWS[-1].slots:
                return False
            del self._links[oldest]
            self._counted.pop(oldest, None)
            for ring in self._rings:
                ring.forget([oldest])
        self._links[link] = now_s
        return True

    def _figures(
        self, status: Mapping[str, Any], now_s: float
    ) -> Iterable[tuple[Link, Mapping[str, float], Rate | None]]:
        for pipeline in status.get("pipelines", ()):
            for link in pipeline.get("links", ()):
                name = (pipeline["table"], pipeline["source"], link["target"])
                latency = link.get("latency_ms") or {}
                yield (
                    name,
                    {
                        "p50_ms": _known(latency.get("p50")),
                        "p99_ms": _known(latency.get("p99")),
                        "backlog_s": _known(link.get("backlog_age_s")),
                    },
                    self._rate(name, link.get("applied"), now_s),
                )
        for region, exposure in (status.get("exposure") or {}).items():
            yield ("", region, ""), {"exposure_s": _known((exposure or {}).get("seconds"))}, None

    def _rate(self, link: Link, applied: int | None, now_s: float) -> Rate:
        """Changes per second since the last look; unknown after a restart of the counter."""
        if applied is None:
            self._counted.pop(link, None)
            return NAN, 0.0
        before = self._counted.get(link)
        if link in self._links or len(self._counted) < self._links_max:
            self._counted[link] = (now_s, applied)
        if before is None or now_s <= before[0] or applied < before[1]:
            return NAN, 0.0
        during_s = now_s - before[0]
        return (applied - before[1]) / during_s, during_s

    def document(self, window: str, table: str | None) -> dict[str, Any]:
        """The figures of a table (None: all) and of the regions, oldest first.

        Raises: KeyError for a window that there is not.
        """
        ring = {ring.window.name: ring for ring in self._rings}[window]
        first, count = ring.span
        links, regions = [], {}
        for link in self._links:
            name, source, target = link
            if not name:
                regions[source] = {
                    figure: _plain(ring.read(link, figure)) for figure in REGION_FIGURES
                }
            elif table is None or name == table:
                figures = {figure: _plain(ring.read(link, figure)) for figure in LINK_FIGURES}
                links.append({"table": name, "source": source, "target": target, **figures})
        return {
            "window": window,
            "step_s": ring.window.step_s,
            "start_s": first * ring.window.step_s,
            "slots": count,
            "omitted": self.omitted,
            "links": links,
            "regions": regions,
        }

    @property
    def bytes_kept(self) -> int:
        """How much the rings hold at present."""
        return sum(
            len(values) * values.itemsize
            for ring in self._rings
            for values in ring._values.values()
        )


def _known(value: float | None) -> float:
    return NAN if value is None else float(value)


def _plain(values: list[float]) -> list[float | None]:
    """As JSON has it: null for unknown, and no more digits than a chart shows."""
    return [None if math.isnan(value) else round(value, 3) for value in values]
