"""What things are called within a template or module, and that no two are called the same.

A second one of a name would take the first one's place without a word, with its mapping, its
permissions or its alarm.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from infra.shared import holders
from replicator.errors import ConfigurationError
from replicator.settings import Settings


def logical(text: str) -> str:
    """A name that both languages take: `us-east-1` becomes `UsEast1`."""
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return "".join(word[:1].upper() + word[1:] for word in words)


def snake(name: str) -> str:
    """`StreamArnOrders` as `stream_arn_orders`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def check_names(settings: Settings, created: Collection[str]) -> None:
    """Whether the tables and regions that meet in one stack are told apart there: the tables that
    are read or made, with the regions that what is read has. What is a target alone, and there
    already, is named in no stack but those of its sources.

    Raises: ConfigurationError where signs or capitals alone tell two of them apart.
    """
    for region in settings.regions:
        read = [name for name, table in settings.tables.items() if region in table.sources]
        made = [name for name in created if region in settings.tables[name].members]
        tables = [*read, *holders(settings, [*read, *made], region)]
        members = (member for name in read for member in settings.tables[name].members)
        for section, names, remedy in (
            ("regions", members, "give one of them another name, its aws_region beside it"),
            ("tables", tables, "give one of them another name, and that of its table in names"),
        ):
            two = _alike(names)
            if two is not None:
                raise ConfigurationError(
                    f'{section}: "{two[0]}" and "{two[1]}" would be called the same in the stack '
                    f"of {region}, where only letters and digits count; {remedy}"
                )


def _alike(names: Iterable[str]) -> tuple[str, str] | None:
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = first.setdefault(snake(logical(name)), name)
        if other != name:
            return other, name
    return None


def check_keys(region: str, found: Iterable[tuple[str, str]]) -> None:
    """Whether the keys of a stack, each with what it is of, differ: such as those of alarms, where
    the name of a table follows that of a kind.

    Raises: ConfigurationError where two are the same.
    """
    first: dict[str, str] = {}
    for key, text in found:
        if snake(key) in first:
            raise ConfigurationError(
                f"regions.{region}: in its stack {first[snake(key)]} and {text} would both be "
                f"called {key}; give a table that is in it another name, and that of its table in "
                "names"
            )
        first[snake(key)] = text
