"""A figure: a number with a goal, measured in rounds, told as a median with its spread.

A bench is prepared once; each of its rounds then gives one value of each of its figures. Both sides
of a ratio are measured in the same round, so that what else the machine does meets both.

This module must not know what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import TypeAlias

ROUNDS_MIN = 5


class Sense(Enum):
    """On which side of its limit a goal is reached."""

    AT_MOST = "<="
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach."""

    sense: Sense
    limit: float

    def reached_by(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value <= self.limit if self.sense is Sense.AT_MOST else value >= self.limit

    def __str__(self) -> str:
        return f"{self.sense.value} {self.limit:g}"


def at_most(limit: float) -> Goal:
    """A goal from above."""
    return Goal(Sense.AT_MOST, limit)


def at_least(limit: float) -> Goal:
    """A goal from below."""
    return Goal(Sense.AT_LEAST, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `name` is short, and what the command line chooses by."""

    name: str
    title: str
    goal: Goal
    unit: str = "ratio"


Round: TypeAlias = Callable[[], Mapping[str, float]]
"""Measures once. Its keys are the names of figures; any other is a part that explains one, such as
the microseconds on each side of a ratio."""


class Unmeasurable(Exception):
    """This machine lacks what a bench needs; the message names it and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Figures that are measured together. `prepare` gives the round; it raises Unmeasurable."""

    figures: Sequence[Figure]
    prepare: Callable[[], AbstractContextManager[Round]]
    rounds: int = ROUNDS_MIN
    """Rounds where the command line names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured of a figure: the median of its rounds, the lowest and the highest."""

    figure: Figure
    values: Sequence[float]
    parts: Mapping[str, float] = field(default_factory=dict)
    """Medians of what explains the value."""

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return min(self.values), max(self.values)

    @property
    def reached(self) -> bool:
        """Whether the median reaches the goal."""
        return self.figure.goal.reached_by(self.value)


def measured(bench: Bench, rounds: int, wanted: Sequence[Figure]) -> list[Result]:
    """Run a bench; returns what was found of the figures that are `wanted`.

    Raises: Unmeasurable; and KeyError where a round leaves out a figure of its bench.
    """
    with bench.prepare() as measure:
        samples = [measure() for _ in range(rounds)]
    named = {figure.name for figure in bench.figures}
    parts = {
        part: median(sample[part] for sample in samples) for part in samples[0] if part not in named
    }
    return [
        Result(figure=figure, values=[sample[figure.name] for sample in samples], parts=parts)
        for figure in wanted
    ]
