"""Files that hold keys, items or tokens in clear: readable by their owner alone.

What cannot be written is one line that names the option, the path and the remedy. A command that
does something before it writes asks `check` first, for what was done cannot be taken back.

This module must not know what is written.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from replicator.errors import ConfigurationError

OWNERS_ALONE = stat.S_IRUSR | stat.S_IWUSR

_IN_PLACE_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENAMETOOLONG}
"""Of a folder that is closed or read-only, another's file, a file that is a mount of its own."""


def check(path: Path, *, option: str) -> None:
    """See that a file can be written, and leave everything as it was.

    Raises: ConfigurationError.
    """
    with _complaints(path, option):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNERS_ALONE))
        except FileExistsError:
            if not path.is_fifo():  # whose reader would take this for the end
                os.close(os.open(path, os.O_WRONLY))
        else:
            path.unlink()


def opened(path: Path, *, option: str, tighten: bool = True) -> TextIO:
    """A file to write to, empty. `tighten`: also one that was there becomes its owner's alone.

    Raises: ConfigurationError, as writing to it and closing it do.
    """
    with _complaints(path, option):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNERS_ALONE)
        if tighten and stat.S_ISREG(os.fstat(descriptor).st_mode):  # never /dev/null
            with suppress(PermissionError):  # another's, or on a file system without modes
                os.fchmod(descriptor, OWNERS_ALONE)
        return _Guarded(os.fdopen(descriptor, "wb"), path=path, option=option)


def write(path: Path, text: str, *, option: str, tighten: bool = True) -> None:
    """Write a text to such a file: all of it, or what was there before stays.

    `--write` may be the configuration itself, which a full disk must not cut short. Where a file
    cannot be replaced as it is (a pipe, another's, in a folder that is closed) it is written over.

    Raises: ConfigurationError.
    """
    with _complaints(path, option):
        if path.is_file():
            os.close(os.open(path, os.O_WRONLY))  # one that is write-protected is left alone
        if not path.exists() or path.is_file():
            try:
                _replace(path.resolve(), text, tighten=tighten)
            except OSError as error:
                if error.errno not in _IN_PLACE_ONLY:
                    raise
            else:
                return
    with opened(path, option=option, tighten=tighten) as file:
        file.write(text)


def _replace(path: Path, text: str, *, tighten: bool) -> None:
    """Put a new file in the place of one that was there or not. Raises: OSError."""
    kept = path.stat() if path.exists() else None
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if kept is not None:
                os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
            if kept is not None and not tighten:
                os.fchmod(file.fileno(), stat.S_IMODE(kept.st_mode))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Guarded(io.TextIOWrapper):
    """A disk that fills up is told like a place that was never good, whenever that shows."""

    def __init__(self, buffer: IO[bytes], *, path: Path, option: str) -> None:
        super().__init__(buffer, encoding="utf-8")
        self._path, self._option = path, option

    def write(self, text: str, /) -> int:
        with _complaints(self._path, self._option):
            return super().write(text)

    def flush(self) -> None:
        with _complaints(self._path, self._option):
            super().flush()

    def close(self) -> None:
        with _complaints(self._path, self._option):
            super().close()


@contextmanager
def _complaints(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"{option}: {path}: not written: {error.strerror}; name another file"
        raise ConfigurationError(text) from None
