"""The closing table: what was written, what it cost in time, and what the judgement is.

Pure. Lag counts only while the two regions could reach each other: what an outage adds is the
network's doing, and is told by itself, as the time that it took to catch up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replicator.demo import statuses
from replicator.demo.canary import Sample, percentile
from replicator.demo.compare import describe, key_text
from replicator.demo.journal import Journal
from replicator.demo.network import ROUND_TRIP_S
from replicator.demo.stage import Outage, Stage
from replicator.demo.verdict import Verdict
from replicator.demo.world import LEDGER, REGIONS, TABLES

SHOWN_MAX = 5
PROVENANCE = ("written_us", "written_in", "write")

Rows = Sequence[tuple[str, str]]


def closing_rows(verdict: Verdict, stage: Stage) -> Rows:
    """Everything but the judgement in one word."""
    return [
        ("writes", _writes(stage.journal)),
        ("conflicts", _conflicts(stage)),
        ("records replicated", f"{statuses.total(stage.statuses, 'applied'):,}"),
        ("lag", _lag(stage.canaries.samples, stage.outages)),
        *(("outage", _outage(stage.canaries.samples, outage)) for outage in stage.outages),
        ("last write wins", _last_writes(verdict)),
        ("one-way source", _source(verdict)),
        *((table.name, _table(verdict, table.name)) for table in TABLES),
        *(("difference", describe(it, PROVENANCE)) for it in verdict.differences[:SHOWN_MAX]),
        *(("lost write", key_text(key)) for key in verdict.last_writes_lost[:SHOWN_MAX]),
    ]


def closing_title(verdict: Verdict) -> str:
    """The judgement: "0 differences" is said only where nothing is wrong with the tables."""
    found = len(verdict.differences)
    title = f"{found:,} difference{'' if found == 1 else 's'}"
    if not verdict.settled:
        title += "; the replicators did not come to rest"
    if verdict.last_writes_lost:
        title += f"; {len(verdict.last_writes_lost):,} last writes lost"
    if not verdict.source_untouched:
        title += f"; the source of {LEDGER.name} was changed"
    return title


def catch_up_s(samples: Iterable[Sample], outage: Outage) -> float | None:
    """How long after the healing the last canary from before it arrived; None for no canary."""
    until_us = outage.until_us
    if until_us is None:
        return None
    late = [
        sample.seen_us - until_us
        for sample in samples
        if outage.region in (sample.source, sample.target)
        and sample.written_us <= until_us <= sample.seen_us
    ]
    return max(late) / 1_000_000 if late else None


def undisturbed(sample: Sample, outages: Iterable[Outage]) -> bool:
    """Whether no outage lay in the way of this canary."""
    return not any(
        outage.region in (sample.source, sample.target)
        and sample.seen_us >= outage.from_us
        and (outage.until_us is None or sample.written_us <= outage.until_us)
        for outage in outages
    )


def _writes(journal: Journal) -> str:
    kinds = ", ".join(f"{count:,} {kind.value}s" for kind, count in journal.kinds().items())
    return f"{journal.total:,}: {kinds}"


def _conflicts(stage: Stage) -> str:
    counted = statuses.total_records(stage.statuses, "conflicts")
    return (
        f"{stage.journal.conflicts:,} at least, by the applications' own journal; "
        f"{counted:,} counted by the replicators"
    )


def _lag(samples: Iterable[Sample], outages: Sequence[Outage]) -> str:
    lags_ms = [sample.lag_ms for sample in samples if undisturbed(sample, outages)]
    middle, high = percentile(lags_ms, 0.5), percentile(lags_ms, 0.99)
    if middle is None or high is None:
        return "not measured: no canary arrived"
    return (
        f"p50 {middle:,.0f} ms, p99 {high:,.0f} ms "
        f"({len(lags_ms):,} samples, round trip {ROUND_TRIP_S * 1000:.0f} ms)"
    )


def _outage(samples: Iterable[Sample], outage: Outage) -> str:
    seconds = ((outage.until_us or outage.from_us) - outage.from_us) / 1_000_000
    caught_up_s = catch_up_s(samples, outage)
    after = "not caught up" if caught_up_s is None else f"caught up {caught_up_s:.1f} s after it"
    return f"{outage.region} cut off for {seconds:.1f} s, {after}"


def _last_writes(verdict: Verdict) -> str:
    if not verdict.last_writes:
        return "not checked: the tables did not come to rest"
    held = verdict.last_writes - len(verdict.last_writes_lost)
    return f"checked on {verdict.last_writes:,} keys, holds on {held:,} in {len(REGIONS)} regions"


def _source(verdict: Verdict) -> str:
    if verdict.source_untouched:
        return f"{LEDGER.name}: untouched, exactly what its application wrote"
    return f"{LEDGER.name}: NOT what its application wrote"


def _table(verdict: Verdict, table: str) -> str:
    contents = verdict.contents[table]
    if not any(difference.table == table for difference in verdict.differences):
        (count,) = {len(items) for items in contents.values()}
        return f"{count:,} items, equal in {len(contents)} regions"
    return "DIFFERENT: " + ", ".join(
        f"{region} {len(items):,} items" for region, items in contents.items()
    )
