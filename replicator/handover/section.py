"""The configuration after a hand-over: the file's text with one table's members changed.

Everything else, comments included, stays as it was. The result is read again and must mean just
that change; where it does not (a table written inline, a key given by dots) the operator is told
what to write by hand.

Pure; this module must not know files.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replicator.configuration import BYTE_ORDER_MARK
from replicator.errors import ConfigurationError

_MEMBERS = ("regions", "source", "targets")
_MEMBER_LINE = re.compile(rf"\s*({'|'.join(_MEMBERS)})\s*=")
_HEADER = re.compile(r"\s*\[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Who has a table: `regions` that all write, or a `source` and its `targets`."""

    regions: tuple[str, ...] = ()
    source: str | None = None
    targets: tuple[str, ...] = ()

    @property
    def keys(self) -> Mapping[str, Any]:
        """The keys of the section."""
        if self.source is None:
            return {"regions": list(self.regions)}
        return {"source": self.source, "targets": list(self.targets)}

    @property
    def lines(self) -> list[str]:
        """The keys as lines of TOML."""
        return [f"{key} = {json.dumps(value)}" for key, value in self.keys.items()]


def changed(text: str, changes: Mapping[str, Members]) -> str:
    """The text with the members of some tables changed.

    Raises: ConfigurationError where the text is written in a way that this cannot change.
    """
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    text = text.removeprefix(mark)
    for table, members in changes.items():
        text = _changed(text, table, members)
    return mark + text


def _changed(text: str, table: str, members: Members) -> str:
    lines = text.splitlines()
    section = _section(lines, table)
    if section is not None:
        start, end = section
        body = [*members.lines, *_without_members(lines[start + 1 : end])]
        new = "\n".join([*lines[: start + 1], *body, *lines[end:]]) + "\n"
        if _means(new) == _expected(text, table, members):
            return new
    by_hand = "; ".join(members.lines)
    raise ConfigurationError(f"tables.{table}: cannot be changed here; write by hand: {by_hand}")


def _section(lines: Sequence[str], table: str) -> tuple[int, int] | None:
    """The lines from a table's header to the next header."""
    headers = [index for index, line in enumerate(lines) if _is_header(line)]
    for place, index in enumerate(headers):
        if _means(lines[index]) == {"tables": {table: {}}}:
            following = headers[place + 1 :]
            return index, following[0] if following else len(lines)
    return None


def _is_header(line: str) -> bool:
    return _HEADER.match(line) is not None and _means(line) is not None


def _without_members(body: Sequence[str]) -> list[str]:
    kept: list[str] = []
    lines = iter(body)
    for line in lines:
        if _MEMBER_LINE.match(line) is None:
            kept.append(line)
            continue
        value = line
        while _means(value) is None:  # an array over several lines
            following = next(lines, None)
            if following is None:
                break
            value += f"\n{following}"
    return kept


def _expected(text: str, table: str, members: Members) -> Mapping[str, Any]:
    document = tomllib.loads(text)
    entry = document["tables"][table]
    kept = {key: value for key, value in entry.items() if key not in _MEMBERS}
    document["tables"][table] = {**kept, **members.keys}
    return document


def _means(text: str) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
