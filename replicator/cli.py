"""Replicate DynamoDB tables between regions, on DynamoDB Streams.

This module turns errors into lines and an exit status: 0 done, 1 a check or a process is not well,
2 wrong usage, configuration or set-up. What a person can mend is one line per error on standard
error and never a traceback; a traceback is a bug. What may be said stands in usage.py; what the
commands do in commands.py, which is imported when one is run, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from replicator.errors import ConfigurationError, ReplicatorError, spoken
from replicator.logs import configure, where
from replicator.usage import WRONG, parser

NOT_WELL = 1
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit status."""
    parsed = parser().parse_args(arguments)
    try:
        _configure_logs(parsed)
        command = getattr(_commands(), parsed.command)
        status: int = command(parsed)
    except ConfigurationError as error:
        return _complain(error, WRONG)
    except ReplicatorError as error:
        return _complain(error, NOT_WELL)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - told without its words
        return _confess(error)
    return status


def _commands() -> ModuleType:
    """What the commands do. All that is imported lives on, so looking for what does not, a sixth of
    the start, would be in vain."""
    gc.disable()
    try:
        return import_module("replicator.commands")
    finally:
        gc.enable()


def _confess(error: BaseException) -> int:
    """A bug: where it is, and no word of what it says, for that may quote an item."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    print(where(error), file=sys.stderr)
    print(f"replicator: internal error: {spoken(error)}; please report it", file=sys.stderr)
    return NOT_WELL


def _complain(error: ReplicatorError, status: int) -> int:
    for line in str(error).splitlines():
        print(f"replicator: {line}", file=sys.stderr)
    return status


def _configure_logs(parsed: argparse.Namespace) -> None:
    level = parsed.log_level or ("info" if parsed.command == "run" else "warning")
    configure(level=level, as_json=parsed.log_json)


if __name__ == "__main__":
    raise SystemExit(main())
