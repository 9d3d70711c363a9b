"""What a seed decides: regions, keys, clocks, pace of writers and workers, faults.

Faults of earlier designs showed once in tens of thousands of schedules, and only at some paces; so
everything that may matter is drawn, most of it from a few values that lie far apart.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum

from conflict.operations import Key
from replicator.records import Mode, TtlDeletes, ViewType
from simulation.region import key_of

START_US = 1_000_000
FUTURE_BOUND_US = 5_000
VALUES_MANY = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """How the regions tell time. `wobble_us`: how far a clock may jump back and forth."""

    grain_us: int
    skew_us: dict[str, int]
    wobble_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What the applications do. `rate`: writes per step; `burst`: writes in a row."""

    writes: int
    rate: float
    burst: int
    values: int
    """How many different values there are: with few of them, old content comes back."""
    stamping: bool
    ahead_us: int
    """How far ahead the clock of some stamping clients is, 0 for none."""
    expire_rate: float
    expire_early: bool
    """Whether an item whose expiry is ignored may go before its last write has a version."""
    stocked: bool = False
    """Whether every region held the same items before replication began (never drawn)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often things go wrong, as probabilities per step (zombie, rewind: per crash)."""

    lost_answer: float = 0.0
    throttle: float = 0.0
    reread: float = 0.0
    split: float = 0.0
    crash: float = 0.0
    zombie: float = 0.0
    rewind: float = 0.0
    late_replays: int = 0
    """How often records settled long ago are processed again after the last write."""
    orderly: bool = False
    """Whether a worker saves what it has settled at home before these begin."""


class Loss(Enum):
    """What becomes of a stream that nobody reads."""

    ALL = "all is trimmed"
    PART = "some of it is trimmed"
    RENEWED = "it is turned off and on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Replicators that are away for longer than a stream holds.

    `writes`: how many the applications make meanwhile, `later`: while the gap is being mended.
    """

    away: tuple[str, ...]
    loss: Loss
    writes: int
    later: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule, as drawn from a seed."""

    seed: int
    regions: tuple[str, ...]
    keys: tuple[Key, ...]
    source: str | None
    """The one source of a one-way table; None where every region may write."""
    only_writer: str | None
    view: ViewType
    clocks: Clocks
    habits: Habits
    faults: Faults
    pace: dict[str, float]
    """How often a region's replicator gets a turn, relative to the others."""
    page_max: int
    ttl_deletes: TtlDeletes
    reports_unchanged: bool
    outage: Outage | None = None

    @property
    def mode(self) -> Mode:
        """Who writes the table."""
        return Mode.ONE_WAY if self.source else Mode.MULTI_WRITER

    @property
    def sources(self) -> tuple[str, ...]:
        """The regions whose streams are read."""
        return (self.source,) if self.source else self.regions

    @property
    def expiring(self) -> tuple[str, ...]:
        """The regions whose time-to-live service is on.

        Where deletes by it are replicated, and one region alone is to write, it alone expires.
        """
        if self.ttl_deletes is TtlDeletes.REPLICATE and self.only_writer:
            return (self.only_writer,)
        return self.regions


def draw(seed: int, regions: int | None = None, *, withheld: bool = False) -> Schedule:
    """The schedule of a seed; `withheld`: with what is left out by default, see below."""
    schedule = _draw(random.Random(seed), seed, regions)
    return schedule if withheld else _without_withheld(schedule)


def with_outage(schedule: Schedule) -> Schedule:
    """The same, with an outage in its midst that its seed decides.

    Expiry is replicated. Where it is ignored, an update that kept an item from expiring in one
    region, and whose record was lost, passes for a copy that is yet to expire (seed 5226).
    """
    rng = random.Random(schedule.seed ^ 0x0A1D)
    sources = schedule.sources
    away = sources if rng.random() < 0.4 else rng.sample(sources, rng.randint(1, len(sources)))
    outage = Outage(
        away=tuple(away),
        loss=rng.choice(list(Loss)),
        writes=rng.randint(1, 8),
        later=rng.choice([0, 0, 3]),
    )
    return replace(schedule, outage=outage, ttl_deletes=TtlDeletes.REPLICATE)


def _without_withheld(schedule: Schedule) -> Schedule:
    """Leave out what the shipping code is known not to stand.

    A worker that crashes and processes again, in the very moment in which a newer delete is being
    carried out, what it had settled at home since its last save.
    """
    return replace(schedule, faults=replace(schedule.faults, orderly=True))


def _draw(rng: random.Random, seed: int, regions: int | None) -> Schedule:
    names = tuple("ABCDE"[: regions or rng.choice([2, 2, 3, 3, 3, 4, 5])])
    one_way = seed % 8 == 7
    single = one_way or seed % 8 == 0
    writer = rng.choice(names) if single else None
    return Schedule(
        seed=seed,
        regions=names,
        keys=tuple(key_of({"id": {"S": f"k{i}"}}) for i in range(rng.choice([1, 1, 1, 2, 3]))),
        source=writer if one_way else None,
        only_writer=writer,
        view=rng.choice(list(ViewType)) if one_way else ViewType.NEW_AND_OLD_IMAGES,
        clocks=_clocks(rng, names),
        habits=_habits(rng),
        faults=_faults(rng),
        pace={name: rng.choice([1.0, 1.0, 1.0, 0.1]) for name in names},
        page_max=rng.choice([1, 3, 10]),
        ttl_deletes=rng.choice([TtlDeletes.REPLICATE, TtlDeletes.REPLICATE, TtlDeletes.IGNORE]),
        reports_unchanged=rng.random() < 0.05,
    )


def _clocks(rng: random.Random, names: tuple[str, ...]) -> Clocks:
    wide_us = rng.choice([0, 30, 30, 100, 1_000])
    return Clocks(
        grain_us=rng.choice([1, 10, 100, 1_000]),
        skew_us={name: rng.randint(-wide_us, wide_us) for name in names},
        wobble_us=rng.choice([0, 0, 0, 20]),
    )


def _habits(rng: random.Random) -> Habits:
    return Habits(
        writes=rng.randint(2, 12),
        rate=rng.choice([0.02, 0.04, 0.12, 0.25]),
        burst=rng.choice([1, 1, 1, 3]),
        values=rng.choice([2, VALUES_MANY, VALUES_MANY]),
        stamping=rng.random() < 0.4,
        ahead_us=rng.choice([0] * 8 + [FUTURE_BOUND_US + 100, 20 * FUTURE_BOUND_US]),
        expire_rate=rng.choice([0, 0, 0.01, 0.05]),
        expire_early=rng.random() < 0.5,
    )


def _faults(rng: random.Random) -> Faults:
    crashes = rng.random() < 0.5
    return Faults(
        lost_answer=rng.choice([0, 0, 0.05]),
        throttle=rng.choice([0, 0, 0.1]),
        reread=rng.choice([0, 0, 0, 0.03]),
        split=rng.choice([0, 0, 0.01, 0.05]),
        crash=rng.choice([0.01, 0.03]) if crashes else 0,
        zombie=rng.choice([0, 0, 0.5]) if crashes else 0,
        rewind=rng.choice([0, 0, 0.3]) if crashes else 0,
        late_replays=rng.choice([0, 0, 3]),
    )
