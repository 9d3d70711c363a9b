"""What the commands share: the configuration that was named, and how things are told."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from replicator.configuration import load
from replicator.preflight import Check
from replicator.settings import Settings
from replicator.show import console, show_checks

DONE, NOT_WELL, WRONG = 0, 1, 2


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")


def settings_named(parsed: argparse.Namespace) -> Settings:
    """The configuration. Raises: ConfigurationError."""
    return load(parsed.config, os.environ)


def listed(text: str) -> tuple[str, ...]:
    """What is separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def show_all(checks: Sequence[Check], *, as_json: bool) -> None:
    """The checks, for a person or as JSON."""
    if as_json:
        documents = [
            {"subject": check.subject, "level": check.level.value, "text": check.text}
            for check in checks
        ]
        say(json.dumps(documents, indent=2))
    else:
        show_checks(checks, console())
