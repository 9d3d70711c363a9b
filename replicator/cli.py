"""Replicate DynamoDB tables between regions, on DynamoDB Streams.

This module turns errors into lines and an exit status: 0 done, 1 a check or a process is not well,
2 wrong usage, configuration or set-up. What a person can mend is one line per error on standard
error and never a traceback; a traceback is a bug. Output that nobody reads any more ends a command
that only tells quietly, as other programs are ended by SIGPIPE, and does not stop one that changes
something; a full disk is one line. What may be said stands in
usage.py; what the commands do in commands/, which is imported when one is run, so that `--help`
is quick.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from replicator.errors import ConfigurationError, ReplicatorError, first_of_all, spoken
from replicator.logs import configure, where
from replicator.output import Output
from replicator.usage import WRONG, changes, parser

DONE, NOT_WELL = 0, 1
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""

BROKEN_PIPE = 141
"""128 and the number of SIGPIPE: who was to read has gone, which is no error of ours."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit status."""
    output, errors = Output("stdout"), Output("stderr")
    status = DONE
    with output, errors:
        status = _run(arguments, output)
    return status if output.lost is None else _unheard(output.lost, status)


def _run(arguments: Sequence[str] | None, output: Output) -> int:
    parsed = parser().parse_args(arguments)
    output.ends_command = not changes(parsed)
    try:
        _configure_logs(parsed)
        status = _command(parsed.command)(parsed)
    except ConfigurationError as error:
        return _complain(error, WRONG)
    except ReplicatorError as error:
        return _complain(error, NOT_WELL)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # told without its words
        if output.lost is not None and output.ends_command:
            raise
        return _confess(error)
    return status


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """What carries out a command. All that is imported lives on, so looking for what does not, a
    sixth of the start, would be in vain."""
    gc.disable()
    try:
        command: Callable[[argparse.Namespace], int] = import_module(
            "replicator.commands"
        ).command_of(name)
    finally:
        gc.enable()
    return command


def _confess(error: BaseException) -> int:
    """A bug: where it is, and no word of what it says, for that may quote an item."""
    error = first_of_all(error)
    _say(where(error))
    _say(f"replicator: internal error: {spoken(error)}; please report it")
    return NOT_WELL


def _unheard(lost: OSError, status: int) -> int:
    """What was to be said has not arrived. What ended badly outranks that in the exit status."""
    if isinstance(lost, BrokenPipeError):
        return status or BROKEN_PIPE
    _say(f"replicator: standard output: not written: {lost.strerror}")
    return status or NOT_WELL


def _complain(error: ReplicatorError, status: int) -> int:
    for line in str(error).splitlines():
        _say(f"replicator: {line}")
    return status


def _say(text: str) -> None:
    """On standard error; where that is lost too, the exit status is all that can be said."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def _configure_logs(parsed: argparse.Namespace) -> None:
    level = parsed.log_level or ("info" if parsed.command == "run" else "warning")
    configure(level=level, as_json=parsed.log_json)


if __name__ == "__main__":
    raise SystemExit(main())
