"""Who wins: the last writer, by the order of versions.

Two questions decide everything. They are asked here and nowhere else; the condition expression
`marker < :order` is the first of them put to DynamoDB, and the README's table is made from both.
A resolver of another kind would take their place.

This module must not know how an answer is carried out.
"""

from __future__ import annotations

from conflict.version import Kind, Version, order


def is_beaten(incoming: Version, standing: Version | None) -> bool:
    """Whether what stands under a key keeps its place; the same version does, so replays change
    nothing."""
    return order(standing) >= order(incoming)


def is_buried(incoming: Version | None, tombstone: Version | None) -> bool:
    """Whether a put came too late: the key was deleted by something newer."""
    return order(tombstone) > order(incoming)


def truth_table() -> str:
    """The rule as a Markdown table: what becomes of an incoming put and an incoming delete."""
    lines = [
        "| standing in the target | incoming put | incoming delete |",
        "|---|---|---|",
    ]
    for text, standing, tombstone in _CASES:
        lines.append(f"| {text} | {_put(standing, tombstone)} | {_delete(standing, tombstone)} |")
    return "\n".join(lines)


def _version(time_us: int, origin: str, sequence: int) -> Version:
    return Version(time_us, origin, sequence, Kind.REPLICATED)


_INCOMING = _version(20, "m", 5)
_CASES: tuple[tuple[str, Version | None, Version | None], ...] = (
    ("nothing, never deleted", None, None),
    ("nothing, deleted earlier", None, _version(10, "a", 1)),
    ("nothing, deleted by this very version", None, _INCOMING),
    ("nothing, deleted later", None, _version(30, "a", 1)),
    ("an item from an earlier time", _version(10, "z", 9), None),
    ("same time, origin sorts lower", _version(20, "a", 9), None),
    ("same time and origin, lower sequence", _version(20, "m", 4), None),
    ("this very version", _INCOMING, None),
    ("same time and origin, higher sequence", _version(20, "m", 6), None),
    ("same time, origin sorts higher", _version(20, "z", 1), None),
    ("an item from a later time", _version(30, "a", 1), None),
)


def _put(standing: Version | None, tombstone: Version | None) -> str:
    if standing is not None:
        return "kept" if is_beaten(_INCOMING, standing) else "**replaced**"
    return "stays away" if is_buried(_INCOMING, tombstone) else "**created**"


def _delete(standing: Version | None, tombstone: Version | None) -> str:
    if standing is not None:
        # A delete takes out its equal: the item and the delete cannot be of one version.
        return "kept" if is_buried(_INCOMING, standing) else "**removed**"
    return "stays away" if is_buried(_INCOMING, tombstone) else "stays away, remembered"
