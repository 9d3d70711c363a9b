"""Run a command that dies with its parent: `python child.py COMMAND…`.

A test run that is killed outright runs no clean-up of its own; the kernel then ends the child. It
does so when the thread that started the child ends, so that should be the main one. On systems
without such a call the command runs all the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""


def main() -> None:
    """Become the command, to be killed when the parent ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the caller's own command


if __name__ == "__main__":
    main()
