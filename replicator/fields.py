"""Every field of the status document and what it says: of `/api/status` and `status --json`.

The README's table is made from this list, and a test holds a whole document against it. A field
keeps its name and meaning; new ones may come. Null always says "not known" or "none", never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIPELINE, LINK = "pipelines[].", "pipelines[].links[]."

FIELDS: tuple[tuple[str, str, str], ...] = (
    ("", "version, pid, started_us, now_us", "of the process; times in µs UTC"),
    ("", "state", "`ok`, `degraded` (something waits or is tried again), `failed` (a pipeline stands still, or records were lost)"),
    ("exposure.REGION.", "seconds, records", "what would be lost if that source region vanished now: the time since all was across, changes known to wait"),
    ("ledger.REGION.", "noted, written, unwritten, error", "conflicts noted and kept by this process; what could not be kept"),
    ("telemetry.otlp.", "endpoint, pushed, failed, error", "the push of metrics; `otlp` is null without one"),
    (PIPELINE, "table, source, mode, stream_arn", "what is read; `multi-writer` or `one-way`"),
    (PIPELINE, "state", "`starting`, `running`, `retrying`, `paused`, `stopped`"),
    (PIPELINE, "error", "the worst of what is wrong with the pipeline, its stream and its home table"),
    (PIPELINE, "shards.open, shards.finished", "shards being read, and read to their end"),
    (PIPELINE, "unsettled, in_flight, stuck", "records read and not yet durable everywhere; changes being worked on; changes that failed at home and wait"),
    (PIPELINE, "read_errors, home_retries, throttles", "failed calls to the stream, to the home table; throttled calls of all kinds"),
    (PIPELINE, "stalled, rival", "why it counts as stopped without an error; another process that reads this source"),
    (PIPELINE, "gap.since_us, gap.reason", "records lost to retention; `gap` is null without"),
    (PIPELINE, "checkpoint_age_s", "how long ago the oldest page was read that a restart would read again"),
    (PIPELINE, "heartbeat_age_s, heartbeat_error", "since the newest heartbeat that came out of the source was sent; why none can be sent"),
    (PIPELINE, "exposure.seconds, exposure.records", "of the worst link"),
    (PIPELINE + "records.", "read, local, echo, ignored, coalesced, clamped", "records read, what they were, folded into newer ones, from too far in the future, by their time or their stamp"),
    (PIPELINE + "records.", "conflicts, quarantined", "concurrent writes decided; changes kept aside at home"),
    (LINK, "target, error, paused_since_us", "where it goes; the last error that has not passed"),
    (LINK, "state", "`ok`, `lagging`, `retrying`, `unknown`, `paused`"),
    (LINK, "applied, stale, duplicate, removed", "changes that landed, met something newer, were there already; deletes among those that landed"),
    (LINK, "quarantined, stuck", "changes refused for good and kept aside; changes that failed and wait"),
    (LINK, "retries, throttles", "calls to the target made again; throttled ones among them"),
    (LINK, "pending, backlog_age_s", "changes not yet there, and the age of the oldest"),
    (LINK, "latency_ms.p50, latency_ms.p99", "from write to durable apply, of the last minute (4,096 at most); null without any"),
    (LINK, "heartbeat_age_s, heartbeat_latency_ms", "since the newest heartbeat that arrived was sent, and what it took"),
    (LINK, "exposure.seconds, exposure.records", "as above, of this link"),
)  # fmt: skip
"""Where the fields stand, their names, and what they say. REGION stands for a region's name."""

_BY_REGION = ("exposure", "ledger")


def documented() -> set[str]:
    """The paths of all fields of the list."""
    return {prefix + name for prefix, names, _ in FIELDS for name in names.split(", ")}


def paths(document: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The paths of all fields of a document."""
    found: set[str] = set()
    for name, value in document.items():
        path = prefix + name
        if isinstance(value, Mapping):
            found |= paths(_by_region(value) if path in _BY_REGION else value, f"{path}.")
        elif isinstance(value, list):
            found = found.union(*(paths(each, f"{path}[].") for each in value))
        else:
            found.add(path)
    return found


def _by_region(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"REGION": next(iter(value.values()), {})}


def table() -> str:
    """The list as a table for the README."""
    lines = ["| where | fields | what they say |", "|---|---|---|"]
    for prefix, names, text in FIELDS:
        where = f"`{prefix.removesuffix('.')}`" if prefix else ""
        told = ", ".join(f"`{name}`" for name in names.split(", "))
        lines.append(f"| {where} | {told} | {text} |")
    return "\n".join(lines)
