"""What can go wrong, divided by what is to be done about it.

`Transient` is tried again with backoff; `Poison` parks the one change it concerns; `Fatal` stops
the table's work loudly, to be tried again later; `ConfigurationError` is the user's to mend. A lost
conditional write is none of these: it is an outcome (conflict.operations.Outcome).

Messages name regions, tables, operations and error codes, never an item's data or key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReplicatorError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(ReplicatorError):
    """Wrong usage, configuration or set-up: one line naming thing and remedy. Exit 2."""


class Transient(ReplicatorError):
    """The call may succeed if it is made again: throttled, timed out, refused, a 5xx, a bad CRC."""


class Unsigned(Transient):
    """What gives the credentials failed in a way of its own: a program or a file is not there, or
    says what is none. It may do better the next time; at the start it is wrong set-up."""


class Throttled(Transient):
    """The service asked for fewer calls."""


class Poison(ReplicatorError):
    """This one change can never be applied as it is: too large, refused by an index, malformed."""


class Fatal(ReplicatorError):
    """Nothing for this table can go on: access denied, table gone, key disabled."""


class Malformed(Fatal):
    """What is stored about one key cannot be read: nothing is done to that key until it is mended,
    and to no other key is anything the matter."""


class Replaced(Fatal):
    """The source of a one-way table is its source no more. The message names the remedy."""


class Keyless(Fatal):
    """A stream record that does not say which item it is about: its change is known to be lost."""


class IteratorExpired(ReplicatorError):
    """The shard iterator is older than 15 minutes; a new one from the last position serves."""


class Trimmed(ReplicatorError):
    """The stream no longer holds the position: records were lost to retention (24 hours)."""


class ShardGone(ReplicatorError):
    """The stream does not know the shard (any more)."""


class ConditionFailed(ReplicatorError):
    """Raised by Api.call only: a write's condition did not hold. An outcome for all others.

    `item` is the item that stood, marker inside, in wire form (None: no item stood).
    """

    def __init__(self, item: dict[str, dict[str, object]] | None) -> None:
        super().__init__("the condition did not hold")
        self.item = item


class WorkersLost(ReplicatorError):
    """The cluster that carries out a command has gone, or cannot keep a worker alive."""


def first_of_all(error: BaseException) -> BaseException:
    """An error, or the first of those that a group of tasks ended with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def spoken(error: BaseException) -> str:
    """An error in one line that holds no data of anybody's.

    The messages of this package are free of data by rule; of any other error only the type is
    told, and where it was raised.
    """
    if isinstance(error, ReplicatorError):
        return str(error)
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = f" at {at.tb_frame.f_code.co_name}:{at.tb_lineno}" if at is not None else ""
    return f"{type(error).__name__}{place}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to put after "unknown": the nearest known name, else all of them."""
    names = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    if near:
        return f'did you mean "{folded[near[0]]}"?'
    return f"known: {', '.join(names)}" if names else "none is defined"
