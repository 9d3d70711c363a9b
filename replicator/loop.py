"""What a long run asks of the interpreter: a fast event loop, and garbage looked for less often.

The loop is uvloop's where that is installed (the extra `fast`), else asyncio's own; it makes each
call cheaper by some microseconds and changes nothing else.

A busy pipeline holds ten thousand changes, none of them in a cycle. Python's own thresholds have
them gone through again and again, which was measured to be half of all CPU; with these, what has
become garbage is still found, just later.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GC_THRESHOLDS = (50_000, 20, 50)
"""Objects made before the youngest are looked at, and how many such looks before the older are."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on a loop of its own, as asyncio.run does; for a whole process.

    The thresholds stay as they are set here.
    """
    gc.freeze()  # what was made to start is there to stay
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def is_fast() -> bool:
    """Whether the loop is uvloop's."""
    return importlib.util.find_spec("uvloop") is not None


def _factory() -> Any:
    if not is_fast():
        return None
    return importlib.import_module("uvloop").new_event_loop
