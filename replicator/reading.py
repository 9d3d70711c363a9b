"""Who reads a stream, and how far: a process by what it wrote down, or an event source mapping.

A process notes until when it had read all. A mapping keeps that to itself: of it the API tells how
it is set, and how its last invocation ended. How old the records are that it hands over is told by
a metric alone (`IteratorAge`), so here it is said to be unknown. A mapping may also be another's,
beside a process of ours: a note of the last hours stands for a process that reads.

Pure; this module must not know how any of it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replicator.preflight import Check, Level

HOUR_S = 3_600
RETENTION_H = 24
READ_AGE_WARNING_S, READ_AGE_FAILED_S = 4 * HOUR_S, 20 * HOUR_S

PARTIAL = "ReportBatchItemFailures"
AGE_S_LEAST = 82_800
"""An hour before a stream forgets; sooner than that is giving up."""

RUNNING = ("Enabled", "Enabling", "Creating", "Updating")
GOOD_RESULTS = ("OK", "No records processed")
"""Source: Lambda, API_EventSourceMappingConfiguration, LastProcessingResult: "The result of the
last AWS Lambda invocation of your Lambda function". It lists no texts; the second stands in the
guide's example of a new mapping. What is neither of these is shown as it stands, as a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is known of the reading of one stream. `mappings`: None where they cannot be asked for,
    for which `trouble` is the reason.

    `age_s`: how long ago a process had read all of it; None if none ever had.
    """

    mappings: Sequence[Mapping[str, Any]] | None
    age_s: float | None
    trouble: str = ""

    @property
    def by_process(self) -> bool:
        """Whether it is known that no mapping reads it, or that a process does."""
        recent = self.age_s is not None and self.age_s <= READ_AGE_WARNING_S
        return recent or (self.mappings is not None and not self.mappings)

    @property
    def mapped(self) -> bool:
        """Whether a mapping reads it, and no process."""
        return bool(self.mappings) and not self.by_process

    def check(self, subject: str) -> Check:
        """Against the 24 hours that a stream holds."""
        if self.mapped:
            return self._by_mappings(subject)
        if self.age_s is not None:
            return _of_age(subject, self.age_s)
        text = "was never read to its end; start `replicator run`, then look again"
        if self.mappings is None:
            text += "; if a mapping is to read it, how far it has is not known"
        return Check(subject=subject, level=Level.WARNING, text=text)

    def _by_mappings(self, subject: str) -> Check:
        running = [one for one in self.mappings or () if one.get("State") in RUNNING]
        results = [one.get("LastProcessingResult") for one in running]
        unknown = "how far it is, its IteratorAge tells; see runbooks/lag-high.md"
        if self.age_s is not None:
            text = f"a mapping reads it now, and a process did {self.age_s / HOUR_S:.1f} h ago"
            text += ", for which, if it is to go on, see runbooks/stream-trimmed.md"
            return Check(subject=subject, level=Level.WARNING, text=f"{text}; {unknown}")
        if results and all(result in GOOD_RESULTS for result in results):
            text = f"a mapping reads it, last result: {results[0]}; {unknown}"
            return Check(subject=subject, level=Level.OK, text=text)
        said = next((result for result in results if result not in GOOD_RESULTS), None)
        text = f"its mapping's last result: {said}" if said else "its mapping tells no result"
        return Check(subject=subject, level=Level.WARNING, text=f"{text}; {unknown}")


def _of_age(subject: str, age_s: float) -> Check:
    if age_s < READ_AGE_WARNING_S:
        text = f"all was read {age_s:,.0f} s ago"
        return Check(subject=subject, level=Level.OK, text=text)
    text = f"was read to its end {age_s / HOUR_S:.1f} h ago, and a stream holds {RETENTION_H} h"
    if age_s < READ_AGE_FAILED_S:
        text += "; see runbooks/lag-high.md"
        return Check(subject=subject, level=Level.WARNING, text=text)
    text += "; see runbooks/stream-trimmed.md"
    return Check(subject=subject, level=Level.FAILED, text=text)


def mapping_checks(subject: str, mapping: Mapping[str, Any]) -> list[Check]:
    """What is wrong with how a mapping is set, or that nothing is."""
    found = []
    if PARTIAL not in (mapping.get("FunctionResponseTypes") or ()):
        text = f"has no partial batch responses; set FunctionResponseTypes to {PARTIAL}"
        found.append(Check(subject=subject, level=Level.FAILED, text=text))
    if mapping.get("State") not in RUNNING:
        text = f"is {mapping.get('State')}; enable it, or the stream is not read"
        found.append(Check(subject=subject, level=Level.FAILED, text=text))
    for name, least in (("MaximumRetryAttempts", None), ("MaximumRecordAgeInSeconds", AGE_S_LEAST)):
        value = mapping.get(name, -1)
        if value not in (None, -1) and (least is None or value < least):
            good = "-1" if least is None else f"-1, or at least {least}"
            text = f"gives batches up ({name} is {value}); set it to {good}"
            found.append(Check(subject=subject, level=Level.WARNING, text=text))
    destination = (mapping.get("DestinationConfig") or {}).get("OnFailure") or {}
    if not destination.get("Destination"):
        text = "has no destination for what it gives up; set DestinationConfig.OnFailure"
        found.append(Check(subject=subject, level=Level.WARNING, text=text))
    well = Check(subject=subject, level=Level.OK, text="is set as it should be")
    return found or [well]
