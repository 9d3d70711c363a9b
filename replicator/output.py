"""Standard output and error, watched: whether what was said has arrived.

Commands write and do not look; several libraries swallow a write that failed, or end the process in
their own way. So the failure is kept here, where `cli.main` finds it at the end. Characters that
the encoding of the output lacks become "?": by then the work is done, and it is not undone by how
it is told. (Standard error escapes them by itself.)

A command that only tells is ended by the loss of its output. One that changes something goes on to
its end: `replicator failover … | head -1` must not stop between two steps.

This module must not know what is said.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO, cast


class Output:
    """Takes the place of `sys.stdout` or `sys.stderr` while it is entered.

    `lost` is the first error of a write or flush. Where it `ends_command` it is raised as well, and
    what comes of it is swallowed at the end; else it is written on as if nothing were: a disk that
    was full for a minute must not silence a process that runs for weeks.
    """

    def __init__(self, name: Literal["stdout", "stderr"] = "stdout") -> None:
        self.lost: OSError | None = None
        self.ends_command = name == "stdout"
        self._name = name
        self._before: TextIO | None = getattr(sys, name)
        # Closed from the start means that nobody wants to hear, as with `print`.
        self._stream = self._before or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        if isinstance(self._stream, io.TextIOWrapper) and name == "stdout":
            self._stream.reconfigure(errors="replace")

    def __enter__(self) -> Self:
        setattr(sys, self._name, cast("TextIO", self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        with suppress(OSError):
            self.flush()
        setattr(sys, self._name, self._before)
        if self.lost is not None:
            self._forget()
        if self._before is None:
            self._stream.close()
        return self.ends_command and self.lost is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """See that what was written has left this process."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        if self.ends_command:
            raise error

    def _forget(self) -> None:
        """What is still held would be flushed once more, with a complaint, as the interpreter ends.

        Source: Python documentation, signal, note on SIGPIPE.
        """
        with suppress(OSError, ValueError):
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, self._stream.fileno())
            os.close(descriptor)
