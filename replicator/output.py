"""Standard output, watched: whether what was said has arrived.

Commands write and do not look; several libraries swallow a write that failed, or end the process in
their own way. So the failure is kept here, where `cli.main` finds it at the end. Characters that
the encoding of the output lacks become "?": by then the work is done, and it is not undone by how
it is told. (Standard error escapes them by itself.)

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
from typing import Any, Self, TextIO, cast


class Output:
    """Takes the place of `sys.stdout` while it is entered, and swallows what comes of a loss.

    `lost` is the first error of a write or flush, which is raised as well.
    """

    def __init__(self) -> None:
        self.lost: OSError | None = None
        self._before = sys.stdout
        # Closed from the start means that nobody wants to hear, as with `print`.
        self._stream = self._before or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="replace")

    def __enter__(self) -> Self:
        sys.stdout = cast("TextIO", self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        with suppress(OSError):
            self.flush()
        sys.stdout = self._before
        if self.lost is not None:
            self._forget()
        if self._before is None:
            self._stream.close()
        return self.lost is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self.lost = self.lost or error
            raise

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """See that what was written has left this process."""
        try:
            self._stream.flush()
        except OSError as error:
            self.lost = self.lost or error
            raise

    def _forget(self) -> None:
        """What is still held would be flushed once more, with a complaint, as the interpreter ends.

        Source: Python documentation, signal, note on SIGPIPE.
        """
        with suppress(OSError, ValueError):
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, self._stream.fileno())
            os.close(descriptor)
