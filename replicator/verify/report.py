"""What a person is told of a comparison: a line or a JSON object per difference, and a summary.

Keys are told in clear, for whoever asks has to find the items; they go to standard output and to
the report file and never into a log. Texts hold ASCII only, so no key can play with a terminal.

The signs are those of `rclone check`, one per region in the order of the summary's `regions`:

    =   as it should be        +   missing here          !   could not be decided
    *   different              -   here, and should not be
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from typing import Any

from conflict.operations import Key
from conflict.repair import Sign
from conflict.seed import AUTHORITY_US
from conflict.version import Version
from replicator.verify.candidates import Difference, Side
from replicator.verify.comparison import ComparisonStats

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def difference_document(difference: Difference, now_us: int) -> dict[str, Any]:
    """A difference, ready for JSON. Binaries in a key are base64, as in the service's own JSON."""
    return {
        "key": key_document(difference.key),
        "regions": {
            region: {
                "sign": side.finding.sign.value,
                "reason": side.finding.reason.value,
                "item": side.holds,
                "version": _version(side.version, now_us),
                "deleted": _version(side.tombstone, now_us),
            }
            for region, side in difference.sides.items()
        },
        "newest": list(difference.newest),
        "repaired": difference.repaired,
        "error": difference.error,
    }


def difference_line(difference: Difference, now_us: int) -> str:
    """A difference on one line."""
    sides = difference.sides.items()
    parts = [
        "".join(side.finding.sign.value for _, side in sides),
        json.dumps(key_document(difference.key)),
    ]
    parts += [
        f"{region}: {side.finding.reason.value}{_age(side, now_us)}"
        for region, side in sides
        if side.finding.sign is not Sign.EQUAL
    ]
    if difference.newest:
        parts.append(f"newest in {', '.join(difference.newest)}")
    if difference.repaired is not None:
        parts.append("repaired" if difference.repaired else "NOT repaired")
    if difference.error is not None:
        parts.append(difference.error)
    return "  ".join(parts)


def summary_document(
    table: str,
    stats: ComparisonStats,
    *,
    units: Mapping[str, float],
    sample: float,
    lost: Collection[str],
    seconds: float,
) -> dict[str, Any]:
    """The closing figures, ready for JSON. `lost`: the regions that are known to lack records."""
    return {
        "table": table,
        "regions": list(units),
        "equal": stats.clean,
        "lost_records": sorted(lost),
        "items": stats.items,
        "sample": sample,
        "candidates": stats.candidates,
        "differences": stats.differences,
        "repaired": stats.repaired,
        "undecided": stats.undecided,
        "restless": stats.restless,
        "read_units": {region: round(spent, 1) for region, spent in units.items()},
        "seconds": round(seconds, 1),
    }


def summary_line(summary: Mapping[str, Any]) -> str:
    """The closing figures on one line."""
    items = max(summary["items"].values(), default=0)
    share = "" if summary["sample"] == 1.0 else f", a sample of {summary['sample']:.3g}"
    units = sum(summary["read_units"].values())
    words = [
        f"{summary['table']} in {', '.join(summary['regions'])}: {_outcome(summary)}",
        f"{items:,} items{share}, {units:,.0f} read units, {summary['seconds']} s",
    ]
    if summary["restless"]:
        words.append(f"{summary['restless']} keys kept changing and were not judged; run it again")
    if summary["lost_records"]:
        words.append(f"records were lost in {', '.join(summary['lost_records'])}")
    return "; ".join(words)


def _outcome(summary: Mapping[str, Any]) -> str:
    differences, repaired = summary["differences"], summary["repaired"]
    if not differences:
        return "equal" if summary["equal"] else "no difference found"
    parts = [f"{differences:,} {'differs' if differences == 1 else 'differ'}"]
    if repaired:
        parts.append(f"{repaired:,} repaired")
    if summary["undecided"]:
        parts.append(f"{summary['undecided']:,} to be decided with --authority")
    return ", ".join(parts)


def key_document(key: Key) -> dict[str, dict[str, Any]]:
    """A key, ready for JSON. Binaries are base64."""
    return {
        name: {
            kind: base64.b64encode(content).decode() if isinstance(content, bytes) else content
            for kind, content in value.items()
        }
        for name, value in key.attributes.items()
    }


def _version(version: Version | None, now_us: int) -> dict[str, Any] | None:
    if version is None:
        return None
    return {
        "text": version.text,
        "origin": version.origin,
        "time_us": version.time_us,
        "age_s": round(max(0, now_us - version.time_us) / 1e6, 1),
    }


def _age(side: Side, now_us: int) -> str:
    """Of the version that stands there; a seed's says nothing of when it was written."""
    version = side.version
    if version is None or version.time_us <= AUTHORITY_US:
        return ""
    seconds = max(0, now_us - version.time_us) // 1_000_000
    unit, name = next((unit, name) for unit, name in _UNITS if seconds >= unit or unit == 1)
    return f" (of {version.origin}, {seconds // unit:,} {name} ago)"
