"""Values of which a dozen are made for every record: frozen to the reader, plain to the machine.

A frozen dataclass sets each of its fields through a call, which makes it three to four times as
dear as a plain one; that was a quarter of the CPU of a replicated record. `value` is `dataclass` to
the type checker, which refuses every assignment to a field, and leaves the guard out where the code
runs. Equality and hash are a frozen dataclass's. Values that are made seldom are dataclasses.

This module must not know what a value is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    T = TypeVar("T")

    def value(
        *, frozen: bool, slots: bool, eq: bool = True, kw_only: bool = False
    ) -> Callable[[type[T]], type[T]]:
        """Make a dataclass of a class; `frozen` and `slots` are said for the reader."""
        assert frozen
        assert slots
        return dataclass(slots=True, eq=eq, unsafe_hash=eq, kw_only=kw_only)
