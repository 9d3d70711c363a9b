"""One table that several entries of the configuration read: what is made for it is made once.

A table has one stream, an event source mapping for one function and stream is made once, and the
function serves every entry that reads that stream (lambda_handler).
Source: Lambda, API_CreateEventSourceMapping, ResourceConflictException.
"""

from __future__ import annotations

from collections.abc import Iterable

from replicator.settings import Settings


def holder(settings: Settings, table: str, region: str) -> str:
    """The entry in whose name things are made for what `table` is in a region: the first, in the
    order of the file, that means the same table there."""
    physical = settings.table_name(table, region)
    return next(
        name
        for name, entry in settings.tables.items()
        if region in entry.members and settings.table_name(name, region) == physical
    )


def holders(settings: Settings, tables: Iterable[str], region: str) -> list[str]:
    """Of these entries, one for each table that they are in a region."""
    return list(dict.fromkeys(holder(settings, table, region) for table in tables))
