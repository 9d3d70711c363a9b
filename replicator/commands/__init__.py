"""The commands: each takes parsed arguments, puts the parts together and returns an exit status.

This is the composition root: the only place that reads the environment, opens regions and prints.
What runs for long (run.py, demo/) is imported by its own command, to spare the others its weight;
for the same reason only the room of the command that was given is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module

ROOMS: Mapping[str, tuple[str, ...]] = {
    "starting": ("init", "setup", "doctor", "run"),
    "tables": ("backfill", "verify", "quarantine"),
    "moving": ("failover", "failback", "drill"),
    "watching": ("status", "top", "conflicts", "dashboard", "pause", "resume", "demo"),
}
"""In which module of this package each command is, as a function of its name."""


def command_of(name: str) -> Callable[[argparse.Namespace], int]:
    """What carries out a command; the result is the exit status."""
    (room,) = (room for room, names in ROOMS.items() if name in names)
    command: Callable[[argparse.Namespace], int] = getattr(
        import_module(f"{__name__}.{room}"), name
    )
    return command
